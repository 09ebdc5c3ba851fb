//! Tasks: what `*_Task` methods hand back, their progress and outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::value::{MoRef, Object, Value};

/// Finished tasks that stay readable; vCenter keeps them for about ten minutes.
const KEPT_TASKS: usize = 1_000;

/// How far a task is.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// Waiting.
    Queued,
    /// Working, percent done.
    Running(i32),
    /// Done, with a result for some methods.
    Success(Option<MoRef>),
    /// Failed.
    Error(Fault),
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) moref: MoRef,
    pub(crate) method: String,
    pub(crate) entity: MoRef,
    pub(crate) entity_name: String,
    pub(crate) user: String,
    pub(crate) queued: OffsetDateTime,
    pub(crate) cancel: CancellationToken,
    state: Mutex<TaskState>,
}

#[derive(Debug)]
struct TaskState {
    progress: Progress,
    completed: Option<OffsetDateTime>,
}

impl Task {
    /// Moves the task on.
    pub(crate) fn set(&self, progress: Progress, now: OffsetDateTime) {
        let mut state = self.state.lock();
        if matches!(progress, Progress::Success(_) | Progress::Error(_)) {
            state.completed = Some(now);
        }
        state.progress = progress;
    }

    /// The task as `TaskInfo`.
    pub(crate) fn info(&self) -> Object {
        let state = self.state.lock();
        let text = match state.progress {
            Progress::Queued => "queued",
            Progress::Running(_) => "running",
            Progress::Success(_) => "success",
            Progress::Error(_) => "error",
        };
        let info = Object::new("TaskInfo")
            .with("key", self.moref.id.clone())
            .with("task", &self.moref)
            .with("name", self.method.clone())
            .with("descriptionId", description_id(&self.method))
            .with("entity", &self.entity)
            .with("entityName", self.entity_name.clone())
            .with("state", Value::Enum("TaskInfoState", text.into()))
            .with("cancelled", self.cancel.is_cancelled())
            .with("cancelable", true)
            .with("reason", Object::new("TaskReasonUser").with("userName", self.user.clone()))
            .with("queueTime", self.queued)
            .with("startTime", self.queued)
            .with_some("completeTime", state.completed)
            .with("eventChainId", 1);
        match &state.progress {
            Progress::Running(percent) => info.with("progress", *percent),
            Progress::Success(result) => info.with_some("result", result.as_ref()),
            Progress::Error(fault) => info.with("error", fault.to_localized()),
            Progress::Queued => info,
        }
    }
}

/// `VirtualMachine.createSnapshot` for `CreateSnapshot_Task`.
fn description_id(method: &str) -> String {
    let name = method.trim_end_matches("_Task");
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase()).unwrap_or_default();
    format!("VirtualMachine.{first}{}", letters.as_str())
}

/// All tasks by number.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Task>>>,
}

impl Tasks {
    /// Registers a new queued task.
    pub(crate) fn queue(
        &self,
        method: &str,
        entity: MoRef,
        entity_name: &str,
        user: &str,
        now: OffsetDateTime,
    ) -> Arc<Task> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let task = Arc::new(Task {
            moref: MoRef::new("Task", format!("task-{number}")),
            method: method.to_owned(),
            entity,
            entity_name: entity_name.to_owned(),
            user: user.to_owned(),
            queued: now,
            cancel: CancellationToken::new(),
            state: Mutex::new(TaskState { progress: Progress::Queued, completed: None }),
        });
        let mut all = self.all.lock();
        all.insert(number, Arc::clone(&task));
        while all.len() > KEPT_TASKS {
            all.pop_first();
        }
        task
    }

    /// The task with that reference.
    pub(crate) fn find(&self, moref: &MoRef) -> Option<Arc<Task>> {
        let number: u64 = moref.id.strip_prefix("task-")?.parse().ok()?;
        self.all.lock().get(&number).filter(|_| moref.kind == "Task").map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_task_tells_its_result_and_an_unfinished_one_its_progress() {
        let tasks = Tasks::default();
        let now = OffsetDateTime::UNIX_EPOCH;
        let task = tasks.queue("CreateSnapshot_Task", MoRef::new("VirtualMachine", "vm-1"), "a", "u", now);
        task.set(Progress::Running(40), now);
        assert_eq!(task.info().get("progress"), Some(&Value::Int(40)));
        let result = MoRef::new("VirtualMachineSnapshot", "snapshot-1");
        task.set(Progress::Success(Some(result.clone())), now);
        assert_eq!(task.info().get("result"), Some(&Value::Ref(result)));
        assert_eq!(task.info().get("descriptionId"), Some(&"VirtualMachine.createSnapshot".into()));
        assert!(tasks.find(&task.moref).is_some());
        assert!(tasks.find(&MoRef::new("Task", "task-9")).is_none());
    }
}
