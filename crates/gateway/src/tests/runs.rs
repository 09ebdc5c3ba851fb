//! Runs that write: through a journal or in place, cut off and taken up again, one at a time.

use std::fs;
use std::io::Write;

use api::gateway::SealReport;
use model::status::LinuxState;
use nbd::{Client, NbdError};
use store::device_mappings;

use super::hub::{GENERATION, Hub, OTHER_GENERATION};

const MIB: u64 = 1 << 20;

fn pattern(length: u64, salt: u8) -> Vec<u8> {
    (0..length).map(|at| ((at / 4096 % 249) as u8).wrapping_add(salt) | 1).collect()
}

fn refusal(outcome: Result<Client, NbdError>) -> String {
    match outcome {
        Ok(_) => panic!("it was opened"),
        Err(error) => format!("{error:?}"),
    }
}

fn total(extents: &[(u64, u64)]) -> u64 {
    extents.iter().map(|(_, length)| length).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_that_was_cut_off_goes_on_is_committed_and_merged() {
    let mut hub = Hub::start().await;
    hub.begin("job-2", true).await;
    assert_eq!(hub.ledger(GENERATION).await, [], "nothing yet");
    let disk = pattern(50 * MIB, 3);
    let (first, second) = (hub.write_as(GENERATION).await.unwrap(), hub.write_as(GENERATION).await.unwrap());
    assert!(first.can_multi_conn() && !first.is_read_only());
    for (number, chunk) in disk.chunks(MIB as usize).enumerate().take(40) {
        let client = if number % 2 == 0 { &first } else { &second };
        client.write(number as u64 * MIB, chunk).await.unwrap();
    }
    hub.crash().await;

    let durable = hub.ledger(GENERATION).await;
    assert!((32 * MIB..=40 * MIB).contains(&total(&durable)), "one barrier was made by itself: {durable:?}");
    assert_eq!(hub.ledger(OTHER_GENERATION).await, [], "another generation has nothing");
    let client = hub.write_as(GENERATION).await.unwrap();
    for (number, chunk) in (0u64..).zip(disk.chunks(MIB as usize)) {
        let offset = number * MIB;
        if !durable.iter().any(|(at, length)| *at <= offset && offset + MIB <= at + length) {
            client.write(offset, chunk).await.unwrap();
        }
    }
    client.flush().await.unwrap();
    let mut read = vec![0; disk.len()];
    client.read(0, &mut read).await.unwrap();
    assert!(read == disk, "the run reads what it wrote");
    assert_eq!(hub.ledger(GENERATION).await, [(0, 50 * MIB)]);
    assert!(hub.volume_content(disk.len()).iter().all(|&byte| byte == 0), "the volume is as it was");

    let control = &hub.served.control;
    let seal = control.seal(&hub.export, "job-2").await.unwrap();
    assert_eq!((seal.journal, seal.durable_bytes), (true, 50 * MIB));
    assert_eq!(control.seal(&hub.export, "job-2").await.unwrap(), seal);
    assert!(client.write(0, &[1; 512]).await.is_err(), "sealed");
    assert!(control.forget(&hub.export, "job-2").await.is_err(), "it is connected");
    control.close(&hub.export).await.unwrap();
    hub.commit("job-2", 2, Some(seal)).await;
    control.forget(&hub.export, "job-2").await.unwrap();
    assert!(refusal(hub.write_as(GENERATION).await).contains("committed"));
    assert_eq!(hub.ledger(GENERATION).await, []);
    let point = format!("point-{}", hub.kept().await[0].id);
    assert!(hub.nbdcopy(&point, disk.len()).await == disk, "nbdcopy reads the point");
    assert!(hub.nbdcopy(&hub.export, disk.len()).await == disk, "and the export is its newest state");

    let merged = control.merge(&hub.export, 0).await.unwrap();
    assert_eq!((merged.written.len(), merged.kept), (1, 0));
    assert_eq!((merged.written[0].job_id.as_str(), merged.written[0].data_bytes), ("job-2", 50 * MIB));
    assert!(hub.volume_content(disk.len()) == disk);
    assert!(!hub.journal_path("job-2", "index").exists() && !hub.journal_path("job-2", "data").exists());
    assert_eq!(control.merge(&hub.export, 0).await.unwrap().written, []);
    assert!(hub.kept().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_in_place_is_noted_and_taken_up_again() {
    let mut hub = Hub::start().await;
    hub.begin("job-2", false).await;
    let client = hub.write_as(GENERATION).await.unwrap();
    client.write(0, &pattern(3 * MIB, 1)).await.unwrap();
    client.flush().await.unwrap();
    client.write(10 * MIB, &pattern(MIB, 2)).await.unwrap();
    hub.crash().await;
    assert_eq!(hub.ledger(GENERATION).await, [(0, 3 * MIB)], "what was not flushed is not told");
    let client = hub.write_as(GENERATION).await.unwrap();
    client.write(10 * MIB, &pattern(MIB, 2)).await.unwrap();
    client.write_zeroes(model::Extent::new(20 * MIB, MIB), true).await.unwrap();
    assert_eq!(hub.ledger(GENERATION).await, [(0, 3 * MIB), (10 * MIB, MIB), (20 * MIB, MIB)], "asking flushes");
    assert!(hub.volume_content(3 << 20) == pattern(3 * MIB, 1));
    let seal = hub.served.control.seal(&hub.export, "job-2").await.unwrap();
    assert_eq!(seal, SealReport { journal: false, index_bytes: 0, data_bytes: 0, durable_bytes: 5 * MIB });
    hub.served.control.close(&hub.export).await.unwrap();
    hub.commit("job-2", 2, None).await;
    hub.served.control.forget(&hub.export, "job-2").await.unwrap();
    hub.served.control.forget(&hub.export, "job-2").await.unwrap();
    assert!(!hub.journal_path("job-2", "index").exists());
    assert!(!hub.served.control.seal(&hub.export, "job-2").await.unwrap().journal, "nothing is there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_run_writes_and_a_new_one_begins_from_nothing() {
    let hub = Hub::start().await;
    hub.begin("job-2", true).await;
    let first = hub.write_as(GENERATION).await.unwrap();
    first.write(0, &[1; 4096]).await.unwrap();
    first.flush().await.unwrap();
    assert!(refusal(hub.write_as(OTHER_GENERATION).await).contains("another run still writes"));
    assert!(refusal(hub.agent(&format!("{}@nonsense", hub.export)).await).contains("no such export"));
    first.close().await;
    hub.served.control.close(&hub.export).await.unwrap();

    // Sealed: the same run may take it up again, another may not.
    hub.served.control.seal(&hub.export, "job-2").await.unwrap();
    assert!(refusal(hub.write_as(OTHER_GENERATION).await).contains("to be committed"));
    let again = hub.write_as(GENERATION).await.unwrap();
    again.write(4096, &[2; 4096]).await.unwrap();
    assert_eq!(hub.ledger(GENERATION).await, [(0, 8192)]);
    again.close().await;
    hub.served.control.close(&hub.export).await.unwrap();

    let other = hub.write_as(OTHER_GENERATION).await.unwrap();
    let mut read = [9; 8192];
    other.read(0, &mut read).await.unwrap();
    assert_eq!(read, [0; 8192], "what the first wrote is gone");
    assert_eq!(hub.ledger(GENERATION).await, []);
    other.close().await;
    hub.served.control.close(&hub.export).await.unwrap();
    hub.served.control.forget(&hub.export, "job-2").await.unwrap();
    assert!(!hub.journal_path("job-2", "index").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_index_is_cut_and_a_damaged_one_is_begun_anew_once_it_is_told() {
    let mut hub = Hub::start().await;
    hub.begin("job-2", true).await;
    let client = hub.write_as(GENERATION).await.unwrap();
    client.write(0, &[1; 4096]).await.unwrap();
    client.flush().await.unwrap();
    hub.crash().await;
    let index = hub.journal_path("job-2", "index");
    fs::OpenOptions::new().append(true).open(&index).unwrap().write_all(&[0x5a; 99]).unwrap();
    assert_eq!(hub.ledger(GENERATION).await, [(0, 4096)], "half a barrier is none");

    let mut bytes = fs::read(&index).unwrap();
    bytes[100] ^= 1;
    fs::write(&index, bytes).unwrap();
    assert!(refusal(hub.write_as(GENERATION).await).contains("journals"), "it may have been told what is durable");
    assert_eq!(hub.ledger(GENERATION).await, [], "now it is told that nothing is");
    let client = hub.write_as(GENERATION).await.unwrap();
    client.write(0, &[3; 4096]).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(hub.ledger(GENERATION).await, [(0, 4096)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_device_an_export_is_refused_and_what_was_sealed_stays() {
    let hub = Hub::start().await;
    hub.increment("job-2", 2, (0, 4096, 7)).await;
    let aside = hub.root.path().join("aside.raw");
    fs::rename(hub.volume(), &aside).unwrap();
    assert!(refusal(hub.tool(&hub.export).await).contains("failed"));
    assert!(hub.served.control.merge(&hub.export, 0).await.is_err());
    device_mappings::set_gone(&hub.store, &hub.volumes[0], LinuxState::Vanished).await.unwrap();
    let error = hub.served.control.merge(&hub.export, 0).await.unwrap_err();
    assert!(format!("{error:?}").contains("not present"), "{error:?}");
    assert_eq!(hub.kept().await.len(), 1);

    fs::rename(&aside, hub.volume()).unwrap();
    let seen = store::device_mappings::SeenDevice {
        device_path: hub.volume().display().to_string(),
        symlink_path: None,
        ..super::fixture::device(&hub.volumes[0])
    };
    device_mappings::set_present(&hub.store, &hub.volumes[0], &seen).await.unwrap();
    assert_eq!(hub.served.control.merge(&hub.export, 0).await.unwrap().written.len(), 1);
    assert_eq!(hub.volume_content(4096), [7; 4096]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_export_is_written_only_while_nothing_lies_beside_the_volume() {
    let hub = Hub::start().await;
    hub.begin("job-2", false).await;
    let agent = hub.agent(&hub.export).await.unwrap();
    agent.write(0, &[5; 4096]).await.unwrap();
    let tool = hub.tool(&hub.export).await.unwrap();
    assert!(!tool.is_read_only(), "as before: tools may write where it is allowed");
    assert!(refusal(hub.write_as(GENERATION).await).contains("another run still writes"));
    agent.flush().await.unwrap();
    (agent.close().await, tool.close().await);
    assert_eq!(hub.volume_content(4096), [5; 4096]);
    hub.served.control.close(&hub.export).await.unwrap();
    hub.commit("job-2", 2, None).await;

    hub.begin("job-3", true).await;
    assert!(hub.agent(&hub.export).await.unwrap().is_read_only(), "what a run writes goes to a journal");
    hub.served.control.close(&hub.export).await.unwrap();
    let run = hub.write_as(GENERATION).await.unwrap();
    run.write(0, &[6; 4096]).await.unwrap();
    run.flush().await.unwrap();
    let tool = hub.tool(&hub.export).await.unwrap();
    let mut read = [0; 4096];
    tool.read(0, &mut read).await.unwrap();
    assert_eq!((tool.is_read_only(), read), (true, [5; 4096]), "tools see the committed state");
    (run.close().await, tool.close().await);
    hub.served.control.close(&hub.export).await.unwrap();
    let seal = hub.served.control.seal(&hub.export, "job-3").await.unwrap();
    hub.commit("job-3", 3, Some(seal)).await;

    // With a recovery point beside it the volume is written in place by nobody.
    hub.begin("job-4", false).await;
    assert!(refusal(hub.agent(&hub.export).await).contains("recovery points are kept"));
    assert!(refusal(hub.write_as(GENERATION).await).contains("recovery points are kept"));
    assert!(hub.tool(&hub.export).await.unwrap().is_read_only());
}
