//! The process dies at every place there is, with every other trouble on top.

use std::sync::Arc;

use model::FailureKind;
use model::status::{JobStatus, StepStatus};
use proptest::prelude::*;

use crate::memory_store::MemoryStore;
use crate::process::{Line, live, stored};
use crate::world::{PIVOT, STEPS, Trouble, UNDOABLE, World};

/// More lives than any job here needs.
const MAX_LIVES: usize = 40;

fn live_to_the_end(store: &Arc<MemoryStore>, world: &Arc<World>, job_id: &str) -> JobStatus {
    for _ in 0..MAX_LIVES {
        if !live(store, world, Line::Up, job_id, false).0 {
            let record = store.record(job_id);
            assert_eq!(record.job.owner, None, "an ended job is nobody's");
            return record.job.status;
        }
    }
    panic!("the job never ends: {:?}", world.calls());
}

#[test]
fn it_dies_before_and_after_every_write() {
    for trouble in [None, Some(("copy", Trouble::FailLate(FailureKind::Invalid)))] {
        for write in 0.. {
            let mut died = false;
            for line in [Line::DieBeforeWrite(write), Line::DieAfterWrite(write)] {
                let (store, world) = (Arc::new(MemoryStore::default()), World::with(trouble.as_slice()));
                let job_id = stored(&store, &world);
                died |= live(&store, &world, line, &job_id, false).0;
                let status = live_to_the_end(&store, &world, &job_id);
                world.assert_consistent(status);
                // A failure that was not recorded is forgotten, and the repeated step succeeds.
                let failure_known = trouble.is_some() && world.calls().contains(&"undo:copy".to_owned());
                assert_eq!(status, if failure_known { JobStatus::Failed } else { JobStatus::Completed }, "{line:?}");
            }
            if !died {
                assert!(write > 10, "only {write} writes");
                break;
            }
        }
    }
}

#[test]
fn it_dies_before_and_after_every_effect() {
    for step in STEPS {
        for trouble in [Trouble::DieBefore, Trouble::DieAfter] {
            let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(step, trouble)]));
            let job_id = stored(&store, &world);
            assert_eq!(live_to_the_end(&store, &world, &job_id), JobStatus::Completed);
            world.assert_consistent(JobStatus::Completed);
            let attempts = store.record(&job_id).steps.iter().map(|row| row.attempt).collect::<Vec<_>>();
            let expected: Vec<u32> = STEPS.iter().map(|&name| if name == step { 2 } else { 1 }).collect();
            assert_eq!(attempts, expected, "only the interrupted step is repeated");
        }
    }
}

#[test]
fn it_dies_while_undoing() {
    for step in UNDOABLE {
        for trouble in [Trouble::DieBefore, Trouble::DieAfter] {
            let undo = format!("undo:{step}");
            let plan = [("copy", Trouble::FailLate(FailureKind::Exhausted)), (undo.as_str(), trouble)];
            let (store, world) = (Arc::new(MemoryStore::default()), World::with(&plan));
            let job_id = stored(&store, &world);
            assert_eq!(live_to_the_end(&store, &world, &job_id), JobStatus::Failed);
            world.assert_consistent(JobStatus::Failed);
            assert_eq!(world.calls().iter().filter(|call| **call == undo).count(), 2);
            assert_eq!(store.record(&job_id).job.error.unwrap().message, "copy broke");
        }
    }
}

#[test]
fn it_dies_while_telling_the_domain() {
    for trouble in [Trouble::DieBefore, Trouble::DieAfter] {
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("finished", trouble)]));
        let job_id = stored(&store, &world);
        assert_eq!(live_to_the_end(&store, &world, &job_id), JobStatus::Completed);
        assert!(world.told().iter().all(|&told| told == JobStatus::Completed));
        world.assert_consistent(JobStatus::Completed);
    }
}

#[test]
fn a_cancel_after_a_crash_is_honoured_before_the_pivot_only() {
    for (index, step) in STEPS.iter().enumerate() {
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(step, Trouble::DieAfter)]));
        let job_id = stored(&store, &world);
        assert!(live(&store, &world, Line::Up, &job_id, false).0);
        live(&store, &world, Line::Up, &job_id, true);
        let expected = if index < PIVOT { JobStatus::Cancelled } else { JobStatus::Completed };
        assert_eq!(live_to_the_end(&store, &world, &job_id), expected, "{step}");
        world.assert_consistent(expected);
        if index < PIVOT {
            assert_eq!(store.statuses(&job_id)[index], StepStatus::Undone, "the interrupted step is undone too");
        }
    }
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        1 => Just(Line::Up),
        3 => (0_usize..14).prop_map(Line::DieBeforeWrite),
        3 => (0_usize..14).prop_map(Line::DieAfterWrite),
        1 => (0_usize..6).prop_map(Line::Outage),
    ]
}

fn trouble() -> impl Strategy<Value = (String, Trouble)> {
    let kinds = prop_oneof![
        Just(FailureKind::Unavailable),
        Just(FailureKind::Unavailable),
        Just(FailureKind::Invalid),
        Just(FailureKind::Internal)
    ];
    let what = prop_oneof![
        kinds.clone().prop_map(Trouble::Fail),
        kinds.prop_map(Trouble::FailLate),
        Just(Trouble::DieBefore),
        Just(Trouble::DieAfter),
        Just(Trouble::Panic),
    ];
    let calls = STEPS.iter().map(|&step| step.to_owned());
    let undos = UNDOABLE.iter().map(|step| format!("undo:{step}"));
    let calls: Vec<String> = calls.chain(undos).chain(["finished".to_owned()]).collect();
    // A pivot that claims that nothing happened after it did would be lying, and nothing can help then.
    (prop::sample::select(calls), what).prop_filter("a pivot does not lie", |(call, trouble)| {
        call != "commit" || *trouble != Trouble::FailLate(FailureKind::Invalid)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, in the end the job is completed or fully undone, or an operator is asked; and after the
    /// operator retried often enough it is completed or fully undone.
    #[test]
    fn every_history_ends_well(
        lives in prop::collection::vec((line(), any::<bool>()), 0..6),
        troubles in prop::collection::vec(trouble(), 0..6),
    ) {
        let plan: Vec<(&str, Trouble)> = troubles.iter().map(|(call, trouble)| (call.as_str(), *trouble)).collect();
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&plan));
        let job_id = stored(&store, &world);
        for &(line, cancel) in &lives {
            live(&store, &world, line, &job_id, cancel);
        }
        let mut status = live_to_the_end(&store, &world, &job_id);
        for _ in 0..MAX_LIVES {
            if status != JobStatus::NeedsOperator {
                break;
            }
            prop_assert_eq!(world.told().last().copied(), Some(JobStatus::NeedsOperator));
            prop_assert!(store.record(&job_id).job.error.is_some());
            retry_once(&store, &world, &job_id);
            status = live_to_the_end(&store, &world, &job_id);
        }
        world.assert_consistent(status);
        assert_order(&world.calls());
    }
}

fn retry_once(store: &Arc<MemoryStore>, world: &Arc<World>, job_id: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let wire = crate::process::Wire::new(store, Line::Up);
        let runner = crate::process::runner("operator", &wire, world, crate::process::PausedClock::new());
        runner.retry(job_id).await.unwrap();
        // As if the process died right after the answer: the next life goes on.
    });
    store.edit(job_id, |record| (record.job.owner, record.job.lease_until) = (None, None));
}

/// Steps are begun in order, undone in reverse, and nothing is begun after the first undo.
fn assert_order(calls: &[String]) {
    let undone: Vec<usize> = calls.iter().filter_map(|call| position(call.strip_prefix("undo:")?)).collect();
    assert!(undone.is_sorted_by(|earlier, later| earlier >= later), "{calls:?}");
    let done: Vec<usize> = calls.iter().filter_map(|call| position(call)).collect();
    assert!(done.is_sorted(), "{calls:?}");
    if let Some(first_undo) = calls.iter().position(|call| call.starts_with("undo:")) {
        assert!(calls[first_undo..].iter().all(|call| position(call).is_none()), "{calls:?}");
    }
}

fn position(step: &str) -> Option<usize> {
    STEPS.iter().position(|&name| name == step)
}
