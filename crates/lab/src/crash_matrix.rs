//! The crash matrix: every step of every saga meets every kind of trouble, and afterwards the saga is completed or undone
//! without a trace: no orphan in the cloud, no job stuck, every replica equal to its last commit.
//!
//! `cases` says what is tried, `site` what must be true in between, `run` does one case. The bounded form is part of the
//! ordinary tests; the full one is `cargo xtask crash-matrix`.

mod cases;
mod run;
mod site;

use std::collections::BTreeMap;
use std::time::Instant;

pub use cases::{Case, SagaKind, Trouble, all, bounded};
use run::Outcome;
use site::Site;

use crate::world::WorldError;

/// A case with what came of it.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What was tried.
    pub case: Case,
    /// Whether everything was as it must be.
    pub passed: bool,
    /// In words.
    pub message: String,
    /// How long it took.
    pub seconds: f64,
}

/// Runs cases one after the other and tells each verdict as it is reached. A site that a failed case leaves behind is
/// thrown away.
///
/// # Errors
/// A world cannot be made.
pub async fn run(cases: &[Case], mut tell: impl FnMut(&Verdict)) -> Result<Vec<Verdict>, WorldError> {
    let mut verdicts = Vec::with_capacity(cases.len());
    let mut site: Option<Site> = None;
    for case in cases {
        let mut at_hand = match site.take() {
            Some(site) => site,
            None => Site::ready().await?,
        };
        let begun = Instant::now();
        let outcome = run::run(&mut at_hand, case).await;
        let (passed, message) = match outcome {
            Ok(Outcome::Completed) => (true, "completed".to_owned()),
            Ok(Outcome::Undone(why)) => (true, format!("undone: {why}")),
            Ok(Outcome::Failed(wrong)) => (false, wrong),
            Err(error) => (false, error.to_string()),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let mut verdict = Verdict { case: *case, passed, message, seconds };
        if verdict.passed {
            site = Some(at_hand);
        } else if let Some(folder) = at_hand.give_up(true).await {
            verdict.message.push_str(&format!(" (the world's files are in {})", folder.display()));
        }
        tell(&verdict);
        verdicts.push(verdict);
    }
    if let Some(site) = site {
        site.give_up(false).await;
    }
    Ok(verdicts)
}

/// How many cases passed, of how many, for each trouble.
type Cells = BTreeMap<Trouble, (u32, u32)>;

/// A table of steps against troubles, and the sum.
#[must_use]
pub fn table(verdicts: &[Verdict]) -> String {
    let mut rows: BTreeMap<(SagaKind, usize, &str), Cells> = BTreeMap::new();
    for (index, verdict) in verdicts.iter().enumerate() {
        let place = verdict.case.place;
        let known = rows.keys().find(|(saga, _, step)| (*saga, *step) == (place.saga, place.step)).copied();
        let row = rows.entry(known.unwrap_or((place.saga, index, place.step))).or_default();
        let cell = row.entry(verdict.case.trouble).or_default();
        *cell = (cell.0 + u32::from(verdict.passed), cell.1 + 1);
    }
    let mut text = format!("{:30}", "step");
    for trouble in Trouble::ALL {
        text.push_str(&format!(" {:>8}", short(trouble)));
    }
    for ((saga, _, step), cells) in rows {
        text.push_str(&format!("\n{:30}", format!("{saga}/{step}")));
        for trouble in Trouble::ALL {
            let cell = cells.get(&trouble).map_or_else(|| "-".to_owned(), |(passed, all)| format!("{passed}/{all}"));
            text.push_str(&format!(" {cell:>8}"));
        }
    }
    let passed = verdicts.iter().filter(|verdict| verdict.passed).count();
    format!("{text}\n\n{passed} passed, {} failed", verdicts.len() - passed)
}

fn short(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::KillBefore => "kill<",
        Trouble::KillDuring => "kill~",
        Trouble::KillAfter => "kill>",
        Trouble::ServerError => "5xx",
        Trouble::Hang => "hang",
        Trouble::HangAfterEffect => "hang~",
        Trouble::RateLimited => "429",
        Trouble::JobWithoutResult => "no res",
        Trouble::JobFailedButDone => "but done",
        Trouble::StaleList => "stale",
        Trouble::DatabaseLost => "no db",
    }
}
