//! The life of a block from a guest's write to its replica, through every process of the product: the plain way, and
//! with each process killed in the middle of a copy.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "life_of_a_block/answers.rs"]
mod answers;
#[path = "life_of_a_block/certificates.rs"]
mod certificates;
#[path = "life_of_a_block/hotadd.rs"]
mod hotadd;
#[path = "life_of_a_block/kills.rs"]
mod kills;
#[path = "life_of_a_block/points.rs"]
mod points;
#[path = "life_of_a_block/progress.rs"]
mod progress;
#[path = "life_of_a_block/scrub.rs"]
mod scrub;
#[path = "life_of_a_block/stage.rs"]
mod stage;
#[path = "life_of_a_block/tracking.rs"]
mod tracking;
#[path = "life_of_a_block/walk.rs"]
mod walk;
