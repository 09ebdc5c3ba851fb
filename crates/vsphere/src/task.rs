//! Tasks: long operations of the server, watched until they end.
//!
//! There is no deadline on the clock, because removing a large vm_snapshot may take hours: a task is given up only when
//! nothing about it changes for a long time, and even then it goes on and can be watched again by its id.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::VsphereError;
use crate::fault::Fault;
use crate::moref::MoRef;
use crate::properties::{Among, Wanted, filter_spec, retrieve_one};
use crate::session::VimSession;
use crate::soap::{Element, Request};

/// Longest time one `WaitForUpdatesEx` may stay open on the server, in seconds.
const MAX_WAIT_S: i32 = 30;
/// HTTP timeout of that call: longer than the server's own.
const WAIT_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause between looks at a task when the server cannot notify.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Shortest time between two looks at a task, so that a server that reports nothing new cannot make us spin.
const MIN_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a task may stand still. Consolidating a large delta shows no progress for a long time.
pub const DEFAULT_STALL_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// A running operation. Note its reference before waiting: it survives a crash of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its reference.
    pub moref: MoRef,
    /// The method that started it.
    pub doing: &'static str,
}

/// How a task ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutcome {
    /// What it made, for example a vm_snapshot.
    pub result: Option<MoRef>,
}

/// `TaskInfo`, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TaskState {
    Pending { progress_percent: u8, state: String },
    Succeeded(TaskOutcome),
    Failed(Fault),
}

impl Task {
    pub(crate) fn from_response(doing: &'static str, response: &Element) -> Result<Self, VsphereError> {
        let moref = response.reference_of("returnval");
        moref.map(|moref| Self { moref, doing }).ok_or_else(|| VsphereError::unexpected(doing, "it names no task"))
    }
}

impl VimSession {
    /// Waits for a task to end; `progress` hears its percentage when it changes.
    ///
    /// Dropping the future leaves the task running.
    ///
    /// # Errors
    /// `TaskFailed` with the task's fault, `TaskStalled` when nothing changed for [`DEFAULT_STALL_LIMIT`].
    pub async fn wait_for_task(
        &self,
        task: &Task,
        progress: impl Fn(u8) + Send + Sync,
    ) -> Result<TaskOutcome, VsphereError> {
        self.wait_for_task_within(task, DEFAULT_STALL_LIMIT, progress).await
    }

    /// [`Self::wait_for_task`] with another limit on standing still.
    ///
    /// # Errors
    /// As there.
    pub async fn wait_for_task_within(
        &self,
        task: &Task,
        stall_limit: Duration,
        progress: impl Fn(u8) + Send + Sync,
    ) -> Result<TaskOutcome, VsphereError> {
        let mut watch = Watch { session: self, task: &task.moref, subscription: None, can_notify: true };
        let mut last: Option<TaskState> = None;
        let mut changed_at = Instant::now();
        let outcome = loop {
            let looked_at = Instant::now();
            let state = task_state(self, task).await?;
            match &state {
                TaskState::Succeeded(outcome) => break Ok(outcome.clone()),
                TaskState::Failed(fault) => {
                    break Err(VsphereError::TaskFailed {
                        doing: task.doing,
                        task: task.moref.id().to_owned(),
                        source: fault.clone(),
                    });
                }
                TaskState::Pending { progress_percent, .. } => {
                    if last.as_ref() != Some(&state) {
                        progress(*progress_percent);
                        changed_at = Instant::now();
                    } else if changed_at.elapsed() >= stall_limit {
                        break Err(VsphereError::TaskStalled {
                            doing: task.doing,
                            task: task.moref.id().to_owned(),
                            stalled_for_s: changed_at.elapsed().as_secs(),
                            progress_percent: *progress_percent,
                        });
                    }
                }
            }
            last = Some(state);
            watch.changed().await?;
            tokio::time::sleep_until(looked_at + MIN_LOOK_INTERVAL).await;
        };
        watch.end().await;
        outcome
    }
}

async fn task_state(session: &VimSession, task: &Task) -> Result<TaskState, VsphereError> {
    let content = retrieve_one(session, &task.moref, &["info"]).await?;
    let info = content.get("info").ok_or_else(|| VsphereError::unexpected(task.doing, "the task has no info"))?;
    Ok(read_info(info))
}

fn read_info(info: &Element) -> TaskState {
    match info.text_of("state").unwrap_or_default().trim() {
        "success" => TaskState::Succeeded(TaskOutcome { result: info.reference_of("result") }),
        "error" => TaskState::Failed(info.child("error").map_or_else(
            || Fault { type_name: "MethodFault".to_owned(), message: String::new(), fields: Vec::new() },
            Fault::from_localized,
        )),
        state => TaskState::Pending {
            progress_percent: info.number_of::<u8>("progress").unwrap_or_default().min(100),
            state: state.to_owned(),
        },
    }
}

/// Tells that a task may have changed. What it changed to is read apart, so a lost notification costs time only.
struct Watch<'a> {
    session: &'a VimSession,
    task: &'a MoRef,
    subscription: Option<Subscription>,
    can_notify: bool,
}

/// A private collector with one filter on the task; lives as long as the session.
struct Subscription {
    collector: MoRef,
    version: String,
}

impl Watch<'_> {
    /// Returns after a change, after the server's longest wait, or after the poll interval.
    async fn changed(&mut self) -> Result<(), VsphereError> {
        if self.can_notify {
            match self.notified().await {
                Ok(()) => return Ok(()),
                Err(VsphereError::SessionExpired { .. }) => {
                    self.subscription = None;
                    return Ok(());
                }
                Err(error) if error.is_fault("InvalidCollectorVersion") => {
                    if let Some(subscription) = &mut self.subscription {
                        subscription.version.clear();
                    }
                }
                Err(error) if error.is_fault("NotAuthenticated") => return Err(error),
                Err(error) if error.fault().is_some() => {
                    tracing::debug!(%error, "the server cannot notify about tasks; polling");
                    self.can_notify = false;
                }
                Err(error) => return Err(error),
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        Ok(())
    }

    async fn notified(&mut self) -> Result<(), VsphereError> {
        let mut subscription = match self.subscription.take() {
            Some(subscription) => subscription,
            None => self.subscribe().await?,
        };
        let request = wait_request(&subscription.collector, &subscription.version);
        let answered = self.session.call_within(request, WAIT_TIMEOUT).await;
        if let Some(version) = answered.as_ref().ok().and_then(|response| response.at(&["returnval", "version"])) {
            subscription.version.clone_from(&version.text);
        }
        self.subscription = Some(subscription);
        answered.map(drop)
    }

    async fn subscribe(&self) -> Result<Subscription, VsphereError> {
        const CREATE: &str = "CreatePropertyCollector";
        let shared = &self.session.service().property_collector;
        let created = self.session.call(Request::new(CREATE, shared)).await?;
        let collector = created
            .reference_of("returnval")
            .ok_or_else(|| VsphereError::unexpected(CREATE, "it names no collector"))?;
        self.session.call(create_filter_request(&collector, self.task)).await?;
        Ok(Subscription { collector, version: String::new() })
    }

    async fn end(self) {
        let Some(subscription) = self.subscription else { return };
        let request = Request::new("DestroyPropertyCollector", &subscription.collector).once_only();
        if let Err(error) = self.session.call(request).await {
            tracing::debug!(%error, "the property collector stays until the session ends");
        }
    }
}

fn create_filter_request(collector: &MoRef, task: &MoRef) -> Request {
    let wanted = Wanted { kind: "Task", paths: &["info.state", "info.progress"] };
    let among = Among::Objects(std::slice::from_ref(task));
    filter_spec(Request::new("CreateFilter", collector).open("spec"), wanted, among)
        .close()
        .flag("partialUpdates", false)
        .once_only()
}

fn wait_request(collector: &MoRef, version: &str) -> Request {
    Request::new("WaitForUpdatesEx", collector)
        .text("version", version)
        .open("options")
        .number("maxWaitSeconds", MAX_WAIT_S)
        .close()
        .once_only()
}

#[cfg(test)]
mod tests;
