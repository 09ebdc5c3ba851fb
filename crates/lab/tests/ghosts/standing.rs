//! What a failover made is no ghost while the failover stands, and one when it has ended.

use joblog::StepError;
use model::status::FailoverType;
use store::failover_jobs::{self, Learnt, NewFailover};
use store::{DatabaseConfig, Store};

use super::stage::{Stage, VM};

/// A failover that stands.
const JOB: &str = "failover-20260304-050607-a1b2c3";

#[tokio::test(flavor = "multi_thread")]
async fn the_vm_of_a_failover_is_listed_once_that_has_ended() {
    let stage = Stage::replicated().await;
    let path = stage.world.dir().join("hub/hub.sqlite");
    let store = Store::connect(&DatabaseConfig::Sqlite { path }).await.unwrap();
    let new = NewFailover {
        job_id: JOB.to_owned(),
        vm_context_id: stage.context_id().await,
        job_type: FailoverType::Test,
        power_off_source: false,
        final_sync: false,
    };
    failover_jobs::start(&store, &new).await.unwrap();
    let vm_id = stage.left_vm("web01-test", JOB).await;
    let learnt = Learnt { destination_vm_id: Some(vm_id.clone()), ..Learnt::default() };
    failover_jobs::record(&store, JOB, &learnt).await.unwrap();

    let id = format!("vm-{vm_id}");
    assert_eq!(stage.ghosts().await.len(), 0);
    let (code, detail) = stage.refused(&id).await;
    assert!(code == 4 && detail.contains(JOB), "{code}: {detail}");
    assert!(stage.has_vm(&vm_id).await);

    failover_jobs::end(&store, JOB, true, &StepError::cancelled(), None).await.unwrap();
    let ghost = stage.ghost(&id).await;
    let reason = format!("a VM made by the test failover {JOB} of {VM}, which is cancelled");
    assert_eq!((ghost["reason"].as_str(), ghost["job_id"].as_str()), (Some(reason.as_str()), Some(JOB)), "{ghost:#}");
    stage.command(&["ghost", "remove", &id, "--watch"]).await;
    assert!(!stage.has_vm(&vm_id).await);
    stage.world.stop().await;
}
