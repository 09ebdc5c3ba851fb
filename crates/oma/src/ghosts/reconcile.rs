//! Looks for ghosts again and again, remembers the last look, and says what is new. It removes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::oma::ghosts::{GhostList, GhostView};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::classify::{Fate, Ghost, Verdict};
use super::gather::{self, Look, Scope};
use crate::error::OmaError;
use crate::state::OmaState;

/// How often it is looked without being asked. Agents have connected again before the first look after a start.
const LOOK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What is remembered of the looks.
#[derive(Debug, Default)]
pub struct Reports {
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    last: Option<Arc<Report>>,
    /// Ghosts and when each was seen first.
    known: BTreeMap<String, OffsetDateTime>,
}

/// One look's ghosts.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    ghosts: Vec<(Ghost, OffsetDateTime)>,
    looked_at: OffsetDateTime,
    notes: Vec<String>,
}

impl Reports {
    /// The last look, or a new one: when asked to look again, or when there was none yet.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) async fn latest(&self, state: &OmaState, refresh: bool) -> Result<Arc<Report>, OmaError> {
        let asked_at = OffsetDateTime::now_utc();
        let is_enough = |report: &Arc<Report>| !refresh || report.looked_at >= asked_at;
        if let Some(last) = self.last().filter(is_enough) {
            return Ok(last);
        }
        let _one_at_a_time = self.looking.lock().await;
        // Somebody else may have looked while this waited.
        if let Some(last) = self.last().filter(is_enough) {
            return Ok(last);
        }
        let look = gather::look(state, &Scope::Everything).await?;
        Ok(self.memory.lock().remember(look))
    }

    fn last(&self) -> Option<Arc<Report>> {
        self.memory.lock().last.clone()
    }

    /// Forgets a ghost that was removed.
    pub(crate) fn forget(&self, id: &str) {
        let mut memory = self.memory.lock();
        memory.known.remove(id);
        memory.last = memory.last.take().map(|last| {
            let mut without = Report::clone(&last);
            without.ghosts.retain(|(ghost, _)| ghost.id != id);
            Arc::new(without)
        });
    }
}

impl Memory {
    fn remember(&mut self, look: Look) -> Arc<Report> {
        let is_ghost = |verdict| match verdict {
            Verdict::Ghost(ghost) => Some(ghost),
            Verdict::Needed(_) => None,
        };
        let ghosts: Vec<Ghost> = look.verdicts.into_values().filter_map(is_ghost).collect();
        if look.notes.is_empty() {
            self.known.retain(|id, _| ghosts.iter().any(|ghost| ghost.id == *id));
        }
        let ghosts = ghosts.into_iter().map(|ghost| {
            let since = *self.known.entry(ghost.id.clone()).or_insert_with(|| {
                tracing::warn!(ghost = ghost.id, name = ghost.name, "a ghost: {}", ghost.reason);
                look.looked_at
            });
            (ghost, since)
        });
        let report = Report { ghosts: ghosts.collect(), looked_at: look.looked_at, notes: look.notes };
        let report = Arc::new(report);
        self.last = Some(Arc::clone(&report));
        report
    }
}

impl Report {
    /// The look as the API shows it.
    pub(crate) fn view(&self) -> GhostList {
        GhostList {
            items: self.ghosts.iter().map(|(ghost, since)| view(ghost.clone(), *since)).collect(),
            looked_at: self.looked_at,
            notes: self.notes.clone(),
        }
    }
}

fn view(ghost: Ghost, seen_since: OffsetDateTime) -> GhostView {
    let (removable, obstacle, remedy) = match ghost.fate {
        Fate::Removable(_) => (true, None, format!("migratekit ghost remove {}", ghost.id)),
        Fate::Kept { obstacle, remedy } => (false, Some(obstacle), remedy),
    };
    GhostView {
        id: ghost.id,
        kind: ghost.kind,
        resource_id: ghost.resource_id,
        name: ghost.name,
        target: ghost.target,
        vm_context_id: ghost.vm_context_id,
        vm_name: ghost.vm_name,
        job_id: ghost.job_id,
        created: ghost.created,
        seen_since,
        reason: ghost.reason,
        removable,
        obstacle,
        remedy,
    }
}

/// Looks until `shutdown`.
pub(crate) async fn run(state: OmaState, shutdown: CancellationToken) {
    let mut rounds = tokio::time::interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            rounds.tick().await;
            match state.ghosts().latest(&state, true).await {
                Ok(report) => {
                    for note in &report.notes {
                        tracing::debug!("ghosts were not looked for everywhere: {note}");
                    }
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for ghosts"),
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = looking => {}
    }
}

#[cfg(test)]
mod tests {
    use api::oma::ghosts::GhostKind;
    use time::macros::datetime;

    use super::*;

    const FIRST: OffsetDateTime = datetime!(2026-03-04 05:00 UTC);

    fn look(ids: &[&str], notes: &[&str], minutes: i64) -> Look {
        let ghost = |id: &&str| {
            let ghost = Ghost {
                id: (*id).to_owned(),
                kind: GhostKind::Vm,
                resource_id: (*id).to_owned(),
                name: String::new(),
                target: None,
                vm_context_id: None,
                vm_name: None,
                job_id: None,
                created: None,
                reason: String::new(),
                fate: Fate::Kept { obstacle: String::new(), remedy: String::new() },
            };
            ((*id).to_owned(), Verdict::Ghost(ghost))
        };
        Look {
            verdicts: ids.iter().map(ghost).collect(),
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            looked_at: FIRST + time::Duration::minutes(minutes),
        }
    }

    fn seen(report: &Report) -> Vec<(&str, i64)> {
        report.ghosts.iter().map(|(ghost, since)| (ghost.id.as_str(), (*since - FIRST).whole_minutes())).collect()
    }

    #[test]
    fn a_ghost_keeps_the_time_it_was_seen_first_while_it_is_there_or_cannot_be_looked_for() {
        let mut memory = Memory::default();
        assert_eq!(seen(&memory.remember(look(&["vm-a"], &[], 0))), [("vm-a", 0)]);
        assert_eq!(seen(&memory.remember(look(&["vm-a", "vm-b"], &[], 5))), [("vm-a", 0), ("vm-b", 5)]);
        assert_eq!(seen(&memory.remember(look(&[], &["the cloud is away"], 10))), []);
        assert_eq!(seen(&memory.remember(look(&["vm-a"], &[], 15))), [("vm-a", 0)]);
        assert_eq!(seen(&memory.remember(look(&["vm-b"], &[], 20))), [("vm-b", 20)]);
    }

    #[test]
    fn a_removed_ghost_is_not_shown_again() {
        let reports = Reports::default();
        reports.memory.lock().remember(look(&["vm-a", "vm-b"], &[], 0));
        reports.forget("vm-a");
        assert_eq!(seen(&reports.last().unwrap()), [("vm-b", 0)]);
    }
}
