//! tmp
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code, reason = "tmp")]
#[path = "life_of_a_block/answers.rs"]
mod answers;
#[path = "life_of_a_block/stage.rs"]
mod stage;
use lab::world::Roles;
use stage::*;
use std::time::{Duration, Instant};

async fn chaos(roles: Roles, names: &[&str], rounds: u64) {
    let mut stage = Stage::ready(roles).await;
    stage.replicated().await;
    for round in 0..rounds {
        stage.guest_writes(100, round + 10).await;
        let begun = Instant::now();
        let job_id = stage.started().await;
        let delay = (round * 137) % 1500;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let name = names[round as usize % names.len()];
        let before = stage.world.api(&format!("/api/v1/replications/{job_id}/progress")).await.map(|p| p["replication"]["current_operation"].clone());
        if name == "vma" { stage.world.kill_agent(); stage.world.start_agent().await.unwrap(); }
        else { stage.world.kill_role(name).unwrap(); stage.world.restart_role(name).await.unwrap(); }
        let back = begun.elapsed();
        let after = stage.completed(&job_id).await;
        eprintln!("round {round}: {name} after {delay} ms in {before:?}: up {back:.1?} done {:.1?} {:?}", begun.elapsed(), modes(&after));
    }
}
#[tokio::test(flavor = "multi_thread")]
async fn together() { chaos(Roles::Together, &["hub", "vma"], 14).await; }
#[tokio::test(flavor = "multi_thread")]
async fn apart() { chaos(Roles::Apart, &["gateway", "oma", "vma", "volume-daemon"], 24).await; }
