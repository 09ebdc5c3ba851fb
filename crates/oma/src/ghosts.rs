//! Ghosts: what carries our marks in CloudStack and vCenter and belongs to no live job. They are found and explained by
//! a look again and again, and removed only when an operator says so.
//!
//! Read `classify` (what is a ghost and what may be removed; pure, over `facts`), then `gather` (how it is looked),
//! `reconcile` (when, and what is remembered of it), `removal` (the job that removes one).

mod classify;
mod facts;
mod gather;
pub(crate) mod reconcile;
mod removal;

pub use removal::REMOVAL;

pub(crate) use reconcile::Reports;
pub(crate) use removal::start;
