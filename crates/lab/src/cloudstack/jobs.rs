//! Asynchronous jobs: one queue per VM, each job carried out once, its outcome recorded.
//!
//! What a job does comes as closures from the commands; this file knows order, time and faults.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::catalogue::random_id;
use super::entities::{AsyncJob, JobStatus};
use super::errands::Errands;
use super::faults::FaultKind;
use super::hypervisor::Hypervisor;
use super::json::{Json, Object};
use super::params::Params;
use super::refusal::Refusal;
use super::world::{Caller, World, now};

/// The change a job makes; gets the bytes copied before it, or why its errands failed.
pub(crate) type Act = Box<dyn FnOnce(&mut World, &Caller, Result<u64, Refusal>) -> Result<Object, Refusal> + Send>;
/// First half of a job that takes time: checks, marks, and says what to do without the server's lock.
pub(crate) type Prepare = Box<dyn FnOnce(&mut World) -> Result<Errands, Refusal> + Send>;

/// A job as a command asks for it.
pub(crate) struct Submission {
    /// `jobinstancetype`.
    pub(crate) instance_type: &'static str,
    /// `jobinstanceid`.
    pub(crate) instance_id: Option<String>,
    /// Whether the answer carries the id beside the job's.
    pub(crate) is_create: bool,
    /// Jobs of one queue run one after the other: the VM's id, or the entity's own.
    pub(crate) queue: String,
    pub(crate) prepare: Option<Prepare>,
    pub(crate) act: Act,
}

impl Submission {
    /// A job without errands.
    pub(crate) fn new(
        instance_type: &'static str,
        instance_id: &str,
        queue: &str,
        act: impl FnOnce(&mut World, &Caller) -> Result<Object, Refusal> + Send + 'static,
    ) -> Self {
        Self {
            instance_type,
            instance_id: Some(instance_id.to_owned()),
            is_create: false,
            queue: queue.to_owned(),
            prepare: None,
            act: Box::new(move |world, caller, _| act(world, caller)),
        }
    }

    /// The same, as the job of a create command.
    #[must_use]
    pub(crate) fn creating(mut self) -> Self {
        self.is_create = true;
        self
    }
}

struct QueuedJob {
    id: String,
    caller: Caller,
    fault: Option<FaultKind>,
    submission: Submission,
}

/// The server's moving parts around its state.
pub(crate) struct Engine {
    pub(crate) world: Mutex<World>,
    /// Real machines, where VMs are booted.
    pub(crate) hypervisor: Option<Hypervisor>,
    queues: Mutex<HashMap<String, VecDeque<QueuedJob>>>,
    /// Ends every task of this server.
    pub(crate) cancel: CancellationToken,
    /// Counts committed changes.
    changes: watch::Sender<u64>,
}

impl Engine {
    pub(crate) fn new(world: World, hypervisor: Option<Hypervisor>) -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::new(world),
            hypervisor,
            queues: Mutex::new(HashMap::new()),
            cancel: CancellationToken::new(),
            changes: watch::Sender::new(0),
        })
    }

    /// Wakes at every committed change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Saves what changed and wakes those who wait for changes.
    pub(crate) fn commit(&self, world: &mut World) {
        if world.commit() {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Records a job and queues its work. Returns the content of the answer.
    pub(crate) fn submit(
        self: &Arc<Self>,
        world: &mut World,
        caller: &Caller,
        params: &Params,
        submission: Submission,
    ) -> Result<Object, Refusal> {
        let id = job_id(world, params)?;
        let fault = world.faults.strike_job(params.command());
        world.jobs.push(AsyncJob {
            id: id.clone(),
            account_id: caller.account_id.clone(),
            command: params.command().to_owned(),
            instance_type: submission.instance_type.to_owned(),
            instance_id: submission.instance_id.clone(),
            status: JobStatus::Pending,
            result_code: 0,
            result: None,
            created: now(),
            completed: None,
            pending_polls_left: world.config.jobs.pending_polls,
        });
        world.touch();
        let entity = submission.instance_id.clone().filter(|_| submission.is_create);
        let answer = Object::new().maybe("id", entity).put("jobid", &id);
        if fault != Some(FaultKind::JobStuck) {
            self.enqueue(QueuedJob { id, caller: caller.clone(), fault, submission });
        }
        Ok(answer)
    }

    fn enqueue(self: &Arc<Self>, job: QueuedJob) {
        let key = job.submission.queue.clone();
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(&key) {
            queue.push_back(job);
            return;
        }
        queues.insert(key.clone(), VecDeque::from([job]));
        tokio::spawn(Arc::clone(self).run_queue(key));
    }

    async fn run_queue(self: Arc<Self>, key: String) {
        while let Some(job) = self.next_of(&key) {
            let delay = Duration::from_millis(self.world.lock().config.jobs.delay_ms);
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            if let Err(error) = Arc::clone(&self).carry_out(job).await {
                tracing::error!(%error, queue = key, "a simulated job broke down");
            }
            self.plug_late_devices();
        }
    }

    /// The next job of a queue; an empty queue ends and is forgotten in the same breath.
    fn next_of(&self, key: &str) -> Option<QueuedJob> {
        let mut queues = self.queues.lock();
        let job = queues.get_mut(key)?.pop_front();
        if job.is_none() {
            queues.remove(key);
        }
        job
    }

    async fn carry_out(self: Arc<Self>, job: QueuedJob) -> Result<(), tokio::task::JoinError> {
        let QueuedJob { id, caller, fault, submission } = job;
        if fault == Some(FaultKind::JobFailedNoResult) {
            let mut world = self.world.lock();
            finish(&mut world, &id, Outcome::FailedSilently);
            self.commit(&mut world);
            return Ok(());
        }
        let (engine, prepare) = (Arc::clone(&self), submission.prepare);
        let done = tokio::task::spawn_blocking(move || engine.run_errands(prepare)).await?;
        let work = Duration::from_millis(self.world.lock().config.jobs.work_ms);
        if !work.is_zero() {
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(work) => {}
            }
        }
        let act = submission.act;
        tokio::task::spawn_blocking(move || self.settle(&id, &caller, fault, act, done)).await
    }

    /// The part of a job that takes time.
    fn run_errands(&self, prepare: Option<Prepare>) -> Result<u64, Refusal> {
        let Some(prepare) = prepare else { return Ok(0) };
        let errands = {
            let mut world = self.world.lock();
            let errands = prepare(&mut world);
            self.commit(&mut world);
            errands?
        };
        errands.run(self.hypervisor.as_ref())
    }

    fn settle(&self, id: &str, caller: &Caller, fault: Option<FaultKind>, act: Act, done: Result<u64, Refusal>) {
        let mut world = self.world.lock();
        let outcome = match act(&mut world, caller, done) {
            Ok(_) if fault == Some(FaultKind::JobFailedButDone) => {
                Outcome::Failed(Refusal::runtime("Unexpected exception while waiting for the command's answer"))
            }
            Ok(result) => Outcome::Done(result),
            Err(refusal) => Outcome::Failed(refusal),
        };
        finish(&mut world, id, outcome);
        self.commit(&mut world);
    }

    fn plug_late_devices(self: &Arc<Self>) {
        let (late, delay) = {
            let mut world = self.world.lock();
            (std::mem::take(&mut world.late_devices), Duration::from_millis(world.config.device_delay_ms))
        };
        for volume_id in late {
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                tokio::select! {
                    () = engine.cancel.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
                if let Err(error) = engine.world.lock().plug_now(&volume_id) {
                    tracing::error!(%error, volume_id, "a late device could not be plugged in");
                }
                engine.changes.send_modify(|count| *count += 1);
            });
        }
    }
}

enum Outcome {
    Done(Object),
    Failed(Refusal),
    FailedSilently,
}

fn finish(world: &mut World, id: &str, outcome: Outcome) {
    world.touch();
    let Some(job) = world.jobs.iter_mut().find(|job| job.id == id) else { return };
    job.completed = Some(now());
    match outcome {
        Outcome::Done(result) => {
            job.status = JobStatus::Succeeded;
            job.result = Some(Json::from(result).render());
        }
        Outcome::Failed(refusal) => {
            let code = refusal.code_in_job(&job.command);
            let result = Object::new().put("errorcode", u32::from(code)).put("errortext", refusal.text);
            job.status = JobStatus::Failed;
            job.result_code = code;
            job.result = Some(Json::from(result).render());
        }
        Outcome::FailedSilently => {
            job.status = JobStatus::Failed;
            job.result_code = 530;
        }
    }
}

/// The id of a new job; `customjobid` chooses it.
fn job_id(world: &World, params: &Params) -> Result<String, Refusal> {
    let Some(id) = params.text("customjobid") else { return Ok(random_id()) };
    if world.jobs.iter().any(|job| job.id == id) {
        return Err(Refusal::invalid(format!("UUID: {id} already exists so can't create/update with custom id")));
    }
    Ok(id.to_owned())
}
