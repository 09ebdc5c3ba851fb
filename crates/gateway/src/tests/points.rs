//! Recovery points: read, merged under readers, applied, discarded, damaged, and verified before they are committed.

use std::fs;

use api::gateway::{Coverage, DigestRecord, VerifyQuery};
use block::digest::leaf_digest;
use futures::StreamExt;
use model::status::PointState;
use model::{FailureKind, LEAF_SIZE_BYTES};
use store::recovery_points;

use super::fixture::GIB;
use super::hub::{GENERATION, Hub, must};

const LEAF: usize = LEAF_SIZE_BYTES as usize;

/// Three points: each writes its number over 8 KiB, half of which the next one writes over.
async fn three_points() -> Hub {
    let hub = Hub::start().await;
    for number in 1..4u8 {
        let job = format!("job-{}", number + 1);
        hub.increment(&job, u32::from(number) + 1, (u64::from(number - 1) * 4096, 8192, number)).await;
    }
    hub
}

/// What the first 16 KiB hold at each point: a byte for each 4 KiB.
fn state(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(4096).map(|page| if page.iter().all(|byte| *byte == page[0]) { page[0] } else { 0xff }).collect()
}

async fn read(hub: &Hub, name: &str) -> Vec<u8> {
    let client = hub.tool(name).await.unwrap();
    assert!(client.is_read_only());
    let mut bytes = vec![0; 16_384];
    client.read(0, &mut bytes).await.unwrap();
    client.close().await;
    state(&bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_read_and_merged_oldest_first_but_never_under_who_reads_below() {
    let hub = three_points().await;
    let names: Vec<String> = hub.kept().await.iter().map(|point| format!("point-{}", point.id)).collect();
    let states = [[1, 1, 0, 0], [1, 2, 2, 0], [1, 2, 3, 3]];
    for (name, expected) in names.iter().zip(states) {
        assert_eq!(read(&hub, name).await, expected);
    }
    let listed = must("nbdinfo", &["--list", &format!("nbd://{}", hub.served.tools)]).await;
    assert!(listed.contains(&names[2]) && listed.contains("recovery point 3"), "{listed}");
    assert!(hub.agent(&names[2]).await.is_err(), "points are not for agents");
    assert!(hub.tool("point-nothing").await.is_err());

    let usage = hub.served.replicas.usage().await.unwrap();
    assert!(usage.points == 3 && usage.bytes >= 3 * 8192, "{usage:?}");

    let control = &hub.served.control;
    let first = hub.tool(&names[0]).await.unwrap();
    let error = control.merge(&hub.export, 0).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unavailable, "{error:?}");
    assert_eq!(hub.kept().await.len(), 3, "nothing was merged");
    // What it reads does not change when the point itself is merged.
    assert_eq!(control.merge(&hub.export, 2).await.unwrap().written.len(), 1);
    let mut bytes = vec![0; 16_384];
    first.read(0, &mut bytes).await.unwrap();
    assert_eq!(state(&bytes), states[0]);
    assert!(hub.tool(&names[0]).await.is_err(), "it has ended");
    first.close().await;
    control.close(&names[0]).await.unwrap();
    assert_eq!(state(&hub.volume_content(16_384)), states[0]);

    let newest = hub.tool(&hub.export).await.unwrap();
    let merged = control.merge(&hub.export, 0).await.unwrap();
    assert_eq!((merged.written.len(), merged.kept), (2, 0));
    newest.read(0, &mut bytes).await.unwrap();
    assert_eq!(state(&bytes), states[2], "the newest state is the same before, during and after");
    assert_eq!(state(&hub.volume_content(16_384)), states[2]);
    assert!(!hub.root.path().join("journals").join(&hub.export).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_merged_while_the_next_run_writes_and_are_not_discarded_under_it() {
    let hub = three_points().await;
    hub.begin("job-5", true).await;
    let client = hub.write_as(GENERATION).await.unwrap();
    client.write(8192, &[5; 4096]).await.unwrap();
    let control = &hub.served.control;
    assert_eq!(control.discard(&hub.export).await.unwrap_err().kind(), FailureKind::Unavailable);
    assert_eq!(control.merge(&hub.export, 0).await.unwrap().written.len(), 3);
    client.write(0, &[6; 4096]).await.unwrap();
    client.flush().await.unwrap();
    let mut bytes = vec![0; 16_384];
    client.read(0, &mut bytes).await.unwrap();
    assert_eq!(state(&bytes), [6, 2, 5, 3]);
    assert_eq!(state(&hub.volume_content(16_384)), [1, 2, 3, 3], "what is not committed is not in the volume");
    client.close().await;
    control.close(&hub.export).await.unwrap();
    let seal = control.seal(&hub.export, "job-5").await.unwrap();
    hub.commit("job-5", 5, Some(seal)).await;
    assert_eq!(read(&hub, &hub.export).await, [6, 2, 5, 3]);
    assert_eq!(control.merge(&hub.export, 0).await.unwrap().written.len(), 1);
    assert_eq!(state(&hub.volume_content(16_384)), [6, 2, 5, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_applied_and_stay_or_are_discarded_and_go() {
    let hub = three_points().await;
    let kept = hub.kept().await;
    let control = &hub.served.control;
    store::nbd_exports::set_status(&hub.store, &hub.export, model::status::ExportStatus::Closed).await.unwrap();
    let applied = control.apply(&hub.export, Some(&kept[1].id)).await.unwrap();
    assert_eq!((applied.written.len(), applied.kept), (2, 3));
    assert_eq!(state(&hub.volume_content(16_384)), [1, 2, 2, 0]);
    control.apply(&hub.export, Some(&kept[1].id)).await.unwrap();
    assert_eq!(hub.kept().await, kept, "they are kept");
    assert_eq!(read(&hub, &format!("point-{}", kept[2].id)).await, [1, 2, 3, 3], "also of a closed export");
    let error = control.apply(&hub.export, Some("nothing")).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    assert_eq!(control.apply(&hub.export, None).await.unwrap().written.len(), 3);
    assert_eq!(state(&hub.volume_content(16_384)), [1, 2, 3, 3]);

    assert_eq!(control.discard(&hub.export).await.unwrap().discarded, 3);
    assert_eq!(control.discard(&hub.export).await.unwrap().discarded, 0);
    let row = recovery_points::by_id(&hub.store, &kept[0].id).await.unwrap();
    assert_eq!(*row.state, PointState::Discarded);
    assert!(!hub.root.path().join("journals").join(&hub.export).exists());
    assert_eq!(control.merge(&hub.export, 0).await.unwrap().written, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_died_after_its_row_is_swept_and_one_before_is_repeated() {
    let mut hub = three_points().await;
    let kept = hub.kept().await;
    // Died after the volume was written, before the row: the row decides.
    hub.served.control.apply(&hub.export, Some(&kept[0].id)).await.unwrap();
    hub.crash().await;
    assert_eq!(hub.served.control.merge(&hub.export, 2).await.unwrap().written.len(), 1);
    // Died after the row, before the files.
    recovery_points::set_state(&hub.store, &kept[1].id, PointState::Discarded).await.unwrap();
    assert!(hub.journal_path("job-3", "index").exists());
    hub.crash().await;
    assert!(!hub.journal_path("job-3", "index").exists() && hub.journal_path("job-4", "index").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_is_told_and_never_becomes_a_shorter_one() {
    let hub = three_points().await;
    let index = hub.journal_path("job-3", "index");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, &whole[..whole.len() - 1]).unwrap();
    assert!(hub.tool(&hub.export).await.is_err());
    let error = hub.served.control.merge(&hub.export, 0).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Internal, "{error:?}");
    assert!(format!("{error:?}").contains("discard the recovery points"), "{error:?}");
    assert_eq!(hub.kept().await.len(), 2, "the one before it was merged");
    assert_eq!(state(&hub.volume_content(16_384)), [1, 1, 0, 0]);
    fs::write(&index, &whole).unwrap();
    let data = hub.journal_path("job-4", "data");
    let mut bytes = fs::read(&data).unwrap();
    bytes[17] ^= 1;
    fs::write(&data, bytes).unwrap();
    assert!(hub.served.control.merge(&hub.export, 0).await.is_err());
    assert_eq!(state(&hub.volume_content(16_384)), [1, 2, 2, 0], "the damaged bytes are not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_looks_at_the_journal_that_is_to_be_committed() {
    let mut hub = three_points().await;
    hub.begin("job-9", true).await;
    let client = hub.write_as(GENERATION).await.unwrap();
    client.write(LEAF as u64, &vec![9; LEAF]).await.unwrap();
    client.flush().await.unwrap();
    hub.crash().await;
    let mut first = vec![0; LEAF];
    for (page, byte) in first.chunks_mut(4096).zip([1, 2, 3, 3]) {
        page.fill(byte);
    }
    let digests = |second: u8| {
        let mut wire = Vec::new();
        for (leaf, bytes) in [(0, &first), (1, &vec![second; LEAF])] {
            DigestRecord { first_leaf: leaf, leaf_count: 1, is_scrubbed: false, digest: leaf_digest(bytes) }
                .encode(&mut wire);
        }
        futures::stream::iter([Ok(bytes::Bytes::from(wire))]).boxed()
    };
    let query = VerifyQuery { capacity_bytes: GIB, coverage: Coverage::Full };
    let control = &hub.served.control;
    for _ in 0..2 {
        let report = control.verify(&hub.export, query, digests(9)).await.unwrap();
        assert_eq!((report.mismatch_count, report.leaves_verified), (0, GIB / LEAF_SIZE_BYTES));
        let report = control.verify(&hub.export, query, digests(8)).await.unwrap();
        assert_eq!((report.mismatch_count, report.mismatches[0].leaf), (1, 1));
        control.seal(&hub.export, "job-9").await.unwrap();
    }
    assert_eq!(control.discard(&hub.export).await.unwrap().discarded, 3);
    let report = control.verify(&hub.export, query, digests(9)).await.unwrap();
    assert_eq!(report.mismatch_count, 2, "with the points the run is gone, too");
}
