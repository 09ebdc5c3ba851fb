//! Faults on demand: which calls fail, hang or are slow, and how often.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::fault::Fault;

/// What an injected rule does to the calls it matches.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// The method answers with that fault type at once.
    Fault {
        /// vim25 type name, for example `SystemError` or `FileFault`.
        fault: String,
        /// Text of the fault.
        #[serde(default)]
        message: String,
    },
    /// The method starts its task, and the task ends with that fault type.
    TaskFault {
        /// vim25 type name.
        fault: String,
        /// Text of the fault.
        #[serde(default)]
        message: String,
    },
    /// The request is read and never answered, until rules are cleared or the server stops.
    Hang,
    /// The request is answered with that HTTP status and no SOAP body.
    Status {
        /// HTTP status code.
        status: u16,
    },
    /// The body of a `/folder` answer breaks off after that many bytes.
    CutAfter {
        /// Bytes sent before the connection ends.
        bytes: u64,
    },
    /// `ShutdownGuest` is accepted and the guest does nothing: a guest that hangs, or asks somebody first.
    IgnoredByGuest,
    /// Every matching call waits until rules are cleared and is then answered as usual. Such a rule is never used up.
    Hold,
}

/// An injected rule.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Method name, or `/folder` for file reads.
    pub method: String,
    /// What happens.
    pub what: Effect,
    /// How many matching calls it happens to.
    #[serde(default = "once")]
    pub count: u64,
    /// Matching calls let through first.
    #[serde(default)]
    pub skip: u64,
}

fn once() -> u64 {
    1
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Injections {
    rules: Mutex<Vec<FaultRule>>,
    task_delay: Mutex<Duration>,
    calls: Mutex<HashMap<String, u64>>,
    cleared: tokio::sync::Notify,
}

impl Injections {
    /// Adds a rule.
    pub(crate) fn add(&self, rule: FaultRule) {
        self.rules.lock().push(rule);
    }

    /// Rules that still have something to do.
    pub(crate) fn rules(&self) -> Vec<FaultRule> {
        self.rules.lock().clone()
    }

    /// Forgets all rules and delays, and lets hanging requests go.
    pub(crate) fn clear(&self) {
        self.rules.lock().clear();
        *self.task_delay.lock() = Duration::ZERO;
        self.cleared.notify_waiters();
    }

    /// Every task takes at least that long.
    pub(crate) fn set_task_delay(&self, delay: Duration) {
        *self.task_delay.lock() = delay;
    }

    /// How long a task has to take at least.
    pub(crate) fn task_delay(&self) -> Duration {
        *self.task_delay.lock()
    }

    /// Waits until the rules are cleared.
    pub(crate) async fn until_cleared(&self) {
        self.cleared.notified().await;
    }

    /// Counts a call and gives the effect a rule has on it. Rules on what comes after the answer are left for
    /// `take_task_fault` and `take_ignorance`.
    pub(crate) fn take(&self, method: &str) -> Option<Effect> {
        *self.calls.lock().entry(method.to_owned()).or_insert(0) += 1;
        self.take_where(method, |effect| !matches!(effect, Effect::TaskFault { .. } | Effect::IgnoredByGuest))
    }

    /// Whether the guest ignores this call, because a rule says so.
    pub(crate) fn take_ignorance(&self, method: &str) -> bool {
        self.take_where(method, |effect| *effect == Effect::IgnoredByGuest).is_some()
    }

    /// The fault the task of that method has to end with, if a rule says so.
    pub(crate) fn take_task_fault(&self, method: &str) -> Option<Fault> {
        match self.take_where(method, |effect| matches!(effect, Effect::TaskFault { .. }))? {
            Effect::TaskFault { fault, message } => Some(Fault::new(fault, message)),
            _ => None,
        }
    }

    fn take_where(&self, method: &str, wanted: impl Fn(&Effect) -> bool) -> Option<Effect> {
        let mut rules = self.rules.lock();
        let at = rules.iter().position(|rule| rule.method == method && wanted(&rule.what))?;
        let rule = rules.get_mut(at)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let effect = rule.what.clone();
        if effect == Effect::Hold {
            return Some(effect);
        }
        rule.count = rule.count.saturating_sub(1);
        if rule.count == 0 {
            rules.remove(at);
        }
        Some(effect)
    }

    /// Like [`Self::take`]; a call that is held waits here first and goes on without an effect.
    pub(crate) async fn take_or_hold(&self, method: &str) -> Option<Effect> {
        match self.take(method) {
            Some(Effect::Hold) => {
                self.until_released(method).await;
                None
            }
            effect => effect,
        }
    }

    async fn until_released(&self, method: &str) {
        loop {
            let cleared = self.cleared.notified();
            tokio::pin!(cleared);
            // Entered before looking: rules that are cleared meanwhile are not missed.
            cleared.as_mut().enable();
            let holds = |rule: &FaultRule| rule.method == method && rule.what == Effect::Hold;
            if !self.rules.lock().iter().any(holds) {
                return;
            }
            cleared.await;
        }
    }

    /// How often each method was called so far.
    pub(crate) fn calls(&self) -> HashMap<String, u64> {
        self.calls.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_skips_strikes_and_is_used_up() {
        let injections = Injections::default();
        let what = Effect::Fault { fault: "FileFault".to_owned(), message: String::new() };
        injections.add(FaultRule { method: "QueryChangedDiskAreas".to_owned(), what: what.clone(), count: 2, skip: 1 });
        let taken: Vec<_> = (0..4).map(|_| injections.take("QueryChangedDiskAreas")).collect();
        assert_eq!(taken, [None, Some(what.clone()), Some(what), None]);
        assert_eq!(injections.take("Login"), None);
        assert_eq!(injections.calls()["QueryChangedDiskAreas"], 4);
    }

    #[tokio::test]
    async fn held_calls_go_on_when_the_rules_are_cleared() {
        let injections = std::sync::Arc::new(Injections::default());
        injections.add(FaultRule { method: "/folder".to_owned(), what: Effect::Hold, count: 1, skip: 1 });
        assert_eq!(injections.take_or_hold("/folder").await, None, "the first is let through");
        let held: Vec<_> = (0..2)
            .map(|_| {
                let injections = std::sync::Arc::clone(&injections);
                tokio::spawn(async move { injections.take_or_hold("/folder").await })
            })
            .collect();
        while injections.calls()["/folder"] < 3 {
            tokio::task::yield_now().await;
        }
        assert!(held.iter().all(|call| !call.is_finished()));
        injections.clear();
        for call in held {
            assert_eq!(call.await.unwrap(), None);
        }
    }

    #[test]
    fn task_faults_wait_for_the_task() {
        let injections = Injections::default();
        let rule =
            r#"{"method":"CreateSnapshot_Task","what":{"effect":"task_fault","fault":"ApplicationQuiesceFault"}}"#;
        injections.add(serde_json::from_str(rule).unwrap());
        assert_eq!(injections.take("CreateSnapshot_Task"), None);
        assert_eq!(injections.take_task_fault("CreateSnapshot_Task").unwrap().type_name, "ApplicationQuiesceFault");
        assert!(injections.rules().is_empty());
    }
}
