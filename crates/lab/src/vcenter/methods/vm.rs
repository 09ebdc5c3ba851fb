//! VM snapshots, power and reconfiguration: mostly methods that start a task.

use std::sync::Arc;
use std::time::Duration;

use super::reconfigure::Changes;
use super::{Answer, Context};
use crate::vcenter::fault::Fault;
use crate::vcenter::hot_add;
use crate::vcenter::state::Lab;
use crate::vcenter::tasks::{Progress, Task};
use crate::vcenter::value::MoRef;
use crate::vcenter::vm::{NewVmSnapshot, Vm};

/// Steps a slowed task reports progress in.
const PROGRESS_STEPS: u32 = 4;

/// Least time a guest needs to shut down.
const GUEST_SHUTDOWN: Duration = Duration::from_millis(250);

type Work = Box<dyn FnOnce(&Lab, &Vm) -> Result<Option<MoRef>, Fault> + Send>;

/// Answers the methods on VMs, VM snapshots and tasks.
pub(crate) fn dispatch(context: &Context<'_>) -> Result<Answer, Fault> {
    match context.call.method.as_str() {
        "CreateSnapshot_Task" | "CreateSnapshotEx_Task" => create_vm_snapshot(context),
        "RemoveSnapshot_Task" => {
            let with_children = context.call.body.flag("removeChildren");
            on_vm_snapshot(context, move |lab, vm, id| {
                hot_add::refuse_removal(lab, vm, id)?;
                vm.remove_vm_snapshot(id, with_children)
            })
        }
        "RevertToSnapshot_Task" => on_vm_snapshot(context, |_, vm, id| vm.revert(id)),
        "RenameSnapshot" => rename(context),
        "RemoveAllSnapshots_Task" => start(context, Box::new(|_, vm| vm.remove_all_vm_snapshots().map(|()| None))),
        "RevertToCurrentSnapshot_Task" => revert_to_current(context),
        "ReconfigVM_Task" => {
            let changes = Changes::parse(&context.call.body)?;
            start(context, Box::new(move |lab, vm| changes.apply(lab, vm).map(|()| None)))
        }
        "PowerOnVM_Task" => start(context, Box::new(|lab, vm| vm.set_power(true, lab.now()).map(|()| None))),
        "PowerOffVM_Task" => start(context, Box::new(|lab, vm| vm.set_power(false, lab.now()).map(|()| None))),
        "ShutdownGuest" => shutdown_guest(context),
        "ConsolidateVMDisks_Task" => start(
            context,
            Box::new(|_, vm| {
                vm.state.lock().consolidation_needed = false;
                Ok(None)
            }),
        ),
        "CancelTask" => cancel_task(context),
        _ => Err(Fault::method_not_found(&context.call.this, &context.call.method)),
    }
}

fn vm_of(context: &Context<'_>) -> Result<Arc<Vm>, Fault> {
    let this = &context.call.this;
    let vm = match this.kind.as_str() {
        "VirtualMachineSnapshot" => context.lab.inventory.vm_of_snapshot(this),
        _ => context.lab.inventory.vm(this),
    };
    vm.map(Arc::clone).ok_or_else(|| Fault::not_found_reference(this))
}

fn create_vm_snapshot(context: &Context<'_>) -> Result<Answer, Fault> {
    let body = &context.call.body;
    let wanted = NewVmSnapshot {
        id: context.lab.vm_snapshot_id(),
        name: context.call.text("name")?.to_owned(),
        description: body.text_of("description").unwrap_or_default().to_owned(),
        quiesce: body.flag("quiesce") || body.child("quiesceSpec").is_some(),
    };
    start(context, Box::new(move |lab, vm| vm.create_vm_snapshot(&wanted, lab.now()).map(Some)))
}

fn on_vm_snapshot(
    context: &Context<'_>,
    work: impl FnOnce(&Lab, &Vm, &str) -> Result<(), Fault> + Send + 'static,
) -> Result<Answer, Fault> {
    let id = context.call.this.id.clone();
    start(context, Box::new(move |lab, vm| work(lab, vm, &id).map(|()| None)))
}

fn revert_to_current(context: &Context<'_>) -> Result<Answer, Fault> {
    let current = vm_of(context)?.state.lock().vm_snapshots.last().map(|snapshot| snapshot.moref.id.clone());
    let id = current.ok_or_else(|| Fault::new("NotFound", "The virtual machine has no current snapshot."))?;
    start(context, Box::new(move |_, vm| vm.revert(&id).map(|()| None)))
}

fn rename(context: &Context<'_>) -> Result<Answer, Fault> {
    let (body, vm) = (&context.call.body, vm_of(context)?);
    let mut state = vm.state.lock();
    let found = state.vm_snapshots.iter_mut().find(|snapshot| snapshot.moref.id == context.call.this.id);
    if let Some(snapshot) = found {
        if let Some(name) = body.text_of("name") {
            snapshot.name = name.to_owned();
        }
        if let Some(description) = body.text_of("description") {
            snapshot.description = description.to_owned();
        }
    }
    drop(state);
    context.lab.touch();
    Ok(context.done())
}

/// `ShutdownGuest` returns at once; the VM goes off a moment later.
fn shutdown_guest(context: &Context<'_>) -> Result<Answer, Fault> {
    let vm = vm_of(context)?;
    if let Some(fault) = vm.guest_shutdown_refusal() {
        return Err(fault);
    }
    if context.lab.injections.take_ignorance(&context.call.method) {
        return Ok(context.done());
    }
    let lab = Arc::clone(context.lab);
    tokio::spawn(async move {
        let delay = GUEST_SHUTDOWN.max(lab.injections.task_delay());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = lab.shutdown.cancelled() => return,
        }
        if let Err(fault) = vm.set_power(false, lab.now()) {
            tracing::debug!(vm = vm.spec.name, fault = %fault.type_name, "guest shutdown came too late");
        }
        lab.touch();
    });
    Ok(context.done())
}

fn cancel_task(context: &Context<'_>) -> Result<Answer, Fault> {
    let task = context.lab.tasks.find(&context.call.this);
    let task = task.ok_or_else(|| Fault::not_found_reference(&context.call.this))?;
    task.cancel.cancel();
    Ok(context.done())
}

/// Registers a task, runs the work in the background, and answers with the task.
fn start(context: &Context<'_>, work: Work) -> Result<Answer, Fault> {
    let (lab, vm, method) = (context.lab, vm_of(context)?, &context.call.method);
    let task = lab.tasks.queue(method, vm.moref.clone(), &vm.spec.name, &context.session.user, lab.now());
    let conflict = {
        let mut state = vm.state.lock();
        let conflict = state.busy.clone();
        if conflict.is_none() {
            state.busy = Some(task.moref.clone());
        }
        conflict
    };
    lab.touch();
    let answer = context.returns("ref", &task.moref);
    let lab = Arc::clone(lab);
    tokio::spawn(async move {
        let outcome = match conflict {
            Some(other) => Err(Fault::task_in_progress(&other)),
            None => {
                let outcome = run(&lab, &vm, &task, work).await;
                vm.state.lock().busy = None;
                outcome
            }
        };
        let progress = match outcome {
            Ok(result) => Progress::Success(result),
            Err(fault) => Progress::Error(fault),
        };
        task.set(progress, lab.now());
        lab.touch();
    });
    Ok(answer)
}

async fn run(lab: &Arc<Lab>, vm: &Arc<Vm>, task: &Arc<Task>, work: Work) -> Result<Option<MoRef>, Fault> {
    let step = lab.injections.task_delay() / PROGRESS_STEPS;
    for done in 0..PROGRESS_STEPS {
        task.set(Progress::Running(i32::try_from(done * 100 / PROGRESS_STEPS).unwrap_or_default()), lab.now());
        lab.touch();
        if step.is_zero() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(step) => {}
            () = task.cancel.cancelled() => return Err(Fault::request_canceled()),
            () = lab.shutdown.cancelled() => return Err(Fault::request_canceled()),
        }
    }
    if let Some(fault) = lab.injections.take_task_fault(&task.method) {
        return Err(fault);
    }
    let (lab, vm) = (Arc::clone(lab), Arc::clone(vm));
    tokio::task::spawn_blocking(move || work(&lab, &vm))
        .await
        .unwrap_or_else(|error| Err(Fault::system_error(error.to_string())))
}
