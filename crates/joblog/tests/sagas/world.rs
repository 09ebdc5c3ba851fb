//! The world a saga changes: effects that outlive every crash, and a plan of what goes wrong at which step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use joblog::{JobView, RetryPolicy, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::JobStatus;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

pub const STEPS: [&str; 5] = ["check", "reserve", "copy", "commit", "release"];
/// Steps that leave something behind, in order.
pub const UNDOABLE: [&str; 2] = ["reserve", "copy"];
pub const PIVOT: usize = 3;

/// What goes wrong when a step (or, with `undo:` before its name, its undo; or `finished`) is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Fails with this kind, without the effect.
    Fail(FailureKind),
    /// Fails with this kind after the effect.
    FailLate(FailureKind),
    /// The process dies before the effect.
    DieBefore,
    /// The process dies after the effect.
    DieAfter,
    /// Panics.
    Panic,
    /// Signals `reached` and goes on when the job is being cancelled, failing as asked.
    AwaitCancel,
    /// Signals `reached` and goes on when `open` is notified.
    AwaitOpen,
    /// Signals `reached` and never ends.
    Hang,
}

#[derive(Default)]
pub struct World {
    /// What is there now, and the id it was made with.
    effects: Mutex<BTreeMap<String, String>>,
    /// Every call in order.
    calls: Mutex<Vec<String>>,
    /// What the domain was told.
    told: Mutex<Vec<JobStatus>>,
    /// Troubles by call, each used once, in order.
    plan: Mutex<Vec<(String, Trouble)>>,
    pub reached: Notify,
    pub open: Notify,
    pub died: Notify,
}

impl World {
    pub fn with(plan: &[(&str, Trouble)]) -> Arc<Self> {
        let world = Self::default();
        world.plan.lock().extend(plan.iter().map(|&(call, trouble)| (call.to_owned(), trouble)));
        Arc::new(world)
    }

    pub fn effects(&self) -> Vec<String> {
        self.effects.lock().keys().cloned().collect()
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }

    pub fn told(&self) -> Vec<JobStatus> {
        self.told.lock().clone()
    }

    fn trouble(&self, call: &str) -> Option<Trouble> {
        self.calls.lock().push(call.to_owned());
        let mut plan = self.plan.lock();
        let index = plan.iter().position(|(planned, _)| planned == call)?;
        Some(plan.remove(index).1)
    }

    /// Does `effect` with whatever trouble is planned for the call.
    async fn call(&self, call: &str, context: Option<&StepContext>, effect: impl FnOnce()) -> Result<(), StepError> {
        let Some(trouble) = self.trouble(call) else {
            effect();
            return Ok(());
        };
        let failure = |kind| Err(StepError::new(kind, format!("{call} broke")));
        match trouble {
            Trouble::Fail(kind) => failure(kind),
            Trouble::FailLate(kind) => {
                effect();
                failure(kind)
            }
            Trouble::DieBefore => self.die().await,
            Trouble::DieAfter => {
                effect();
                self.die().await
            }
            Trouble::Panic => panic!("{call} panics"),
            Trouble::AwaitCancel => {
                self.reached.notify_one();
                context.unwrap().cancellation().cancelled().await;
                Err(StepError::cancelled())
            }
            Trouble::AwaitOpen => {
                self.reached.notify_one();
                self.open.notified().await;
                effect();
                Ok(())
            }
            Trouble::Hang => {
                self.reached.notify_one();
                std::future::pending().await
            }
        }
    }

    async fn die(&self) -> Result<(), StepError> {
        self.died.notify_one();
        std::future::pending().await
    }

    async fn act(&self, step: &str, context: &StepContext) -> StepResult {
        let made = || {
            let id = format!("{step}-of-{}", context.params::<String>().unwrap());
            self.effects.lock().insert(step.to_owned(), id);
        };
        self.call(step, Some(context), made).await?;
        output(&json!({ "id": format!("{step}-of-{}", context.params::<String>()?) }))
    }

    async fn undo(&self, step: &str, context: &StepContext) -> Result<(), StepError> {
        let call = format!("undo:{step}");
        self.call(&call, Some(context), || drop(self.effects.lock().remove(step))).await
    }

    /// An ended job left the world as its status says.
    pub fn assert_consistent(&self, status: JobStatus) {
        let effects = self.effects();
        match status {
            JobStatus::Completed => {
                assert_eq!(effects, ["check", "commit", "copy", "release", "reserve"], "{:?}", self.calls());
            }
            JobStatus::Failed | JobStatus::Cancelled => {
                let left: Vec<_> = effects.iter().filter(|effect| *effect != "check").collect();
                assert!(left.is_empty(), "{left:?} left behind: {:?}", self.calls());
            }
            other => panic!("the job is still {other}: {:?}", self.calls()),
        }
        assert_eq!(self.told().last(), Some(&status), "{:?}", self.calls());
    }
}

/// Attempts that do not slow the tests' paused clock down.
const QUICK: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    max_elapsed: Duration::from_secs(60),
    first_delay: Duration::from_millis(100),
    max_delay: Duration::from_secs(1),
};

fn act_check<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(world.act("check", context))
}

fn act_reserve<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(world.act("reserve", context))
}

fn undo_reserve<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(world.undo("reserve", context))
}

fn act_copy<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(async move {
        let reserved: serde_json::Value = context.output("reserve")?;
        assert_eq!(reserved["id"], format!("reserve-of-{}", context.params::<String>()?));
        context.progress(0.5);
        context.checkpoint(&json!({ "began": true })).await?;
        world.act("copy", context).await
    })
}

fn undo_copy<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(world.undo("copy", context))
}

fn act_commit<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(world.act("commit", context))
}

fn act_release<'a>(world: &'a World, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(world.act("release", context))
}

fn finished<'a>(world: &'a World, view: &'a JobView) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async move {
        assert_eq!(view.job.status, view.outcome);
        world.call("finished", None, || world.told.lock().push(view.outcome)).await
    })
}

pub static SAGA: Saga<World> = Saga {
    job_type: "example",
    steps: &[
        Step::check(STEPS[0], act_check).with_retry(QUICK),
        Step::undoable(STEPS[1], act_reserve, undo_reserve).with_retry(QUICK),
        Step::undoable(STEPS[2], act_copy, undo_copy).with_retry(QUICK).with_weight(6),
        Step::pivot(STEPS[3], act_commit).with_retry(QUICK),
        Step::retried(STEPS[4], act_release).with_retry(QUICK),
    ],
    finished,
};
