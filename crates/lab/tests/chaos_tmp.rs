//! tmp
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code, reason = "tmp")]
#[path = "life_of_a_block/answers.rs"]
mod answers;
#[path = "life_of_a_block/stage.rs"]
mod stage;
use lab::world::Roles;
use stage::*;
use std::time::{Duration, Instant};

async fn first(roles: Roles, name: &str, delay: u64) {
    let mut stage = Stage::ready(roles).await;
    stage.guest_writes(200, 10).await;
    let begun = Instant::now();
    let job_id = stage.started().await;
    tokio::time::sleep(Duration::from_millis(delay)).await;
    let before = stage.world.api(&format!("/api/v1/replications/{job_id}/progress")).await.map(|p| p["replication"]["current_operation"].clone());
    if name == "vma" { stage.world.kill_agent(); stage.world.start_agent().await.unwrap(); }
    else { stage.world.kill_role(name).unwrap(); stage.world.restart_role(name).await.unwrap(); }
    let back = begun.elapsed();
    let after = stage.completed(&job_id).await;
    let volumes = stage.world.volumes().await.unwrap().len();
    eprintln!("{name} after {delay} ms in {before:?}: up {back:.1?} done {:.1?} {:?} {volumes} volumes", begun.elapsed(), modes(&after));
}
#[tokio::test(flavor = "multi_thread")]
async fn together() { for d in [50, 150, 300, 450, 700] { first(Roles::Together, "hub", d).await; first(Roles::Together, "vma", d).await; } }
#[tokio::test(flavor = "multi_thread")]
async fn apart() { for d in [50, 200, 400] { for n in ["volume-daemon", "oma", "gateway"] { first(Roles::Apart, n, d).await; } } }
