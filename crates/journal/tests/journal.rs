//! Journals and ledgers as files on a disk: against a model, cut off anywhere, damaged anywhere, merged with interruptions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed assertion is what a test is for")]

#[path = "journal/damage.rs"]
mod damage;
#[path = "journal/fixture.rs"]
mod fixture;
#[path = "journal/model.rs"]
mod model_of_it;
#[path = "journal/threads.rs"]
mod threads;
