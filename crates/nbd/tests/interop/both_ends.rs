//! Our client against our server, in every form the two can agree on.

use std::sync::Arc;
use std::sync::Mutex;

use block::{BlockDevice, FileDevice, MemoryDevice, RegionState};
use model::{Extent, FailureKind};
use nbd::client::{Client, ClientOptions, Wishes, list_exports};
use nbd::proto::handshake::ReplyMode;
use nbd::server::{Command, CommandRecord, ConnectionObserver, Errno, ServeOptions, serve_connection};

use crate::harness::{Exports, Served, content, pair};

const SIZE_BYTES: u64 = 40 * (1 << 20) + 777;

fn all_modes() -> [(ReplyMode, Wishes); 3] {
    let wishes = |extended_headers, structured_replies, base_allocation| Wishes {
        extended_headers,
        structured_replies,
        base_allocation,
    };
    [
        (ReplyMode::Simple, wishes(false, false, false)),
        (ReplyMode::Structured, wishes(false, true, true)),
        (ReplyMode::Extended, wishes(true, true, true)),
    ]
}

fn options(wishes: Wishes) -> ClientOptions {
    ClientOptions { wishes, ..ClientOptions::default() }
}

/// Everything a client can do, seen from both ends.
async fn works(client: &Client, device: &dyn BlockDevice) {
    assert_eq!(client.size_bytes(), SIZE_BYTES);
    let pattern: Vec<u8> = (0..SIZE_BYTES).map(|at| (at % 251) as u8 + 1).collect();
    // Longer than one request may be: it is cut.
    client.write(0, &pattern).await.unwrap();
    assert!(content(device) == pattern);
    let mut back = vec![0; pattern.len()];
    client.read(0, &mut back).await.unwrap();
    assert!(back == pattern);
    let owned = client.read_into(1000, vec![0; 300_000]).await.unwrap();
    assert!(owned == pattern[1000..301_000]);
    assert!(client.read_into(0, vec![0; pattern.len()]).await.unwrap() == pattern);

    client.write_zeroes(Extent::new(1 << 20, 1 << 20), true).await.unwrap();
    client.write_zeroes(Extent::new(3 << 20, 1 << 20), false).await.unwrap();
    client.trim(Extent::new(5 << 20, 1 << 16)).await.unwrap();
    client.flush().await.unwrap();
    let mut expected = pattern;
    expected[1 << 20..2 << 20].fill(0);
    expected[3 << 20..4 << 20].fill(0);
    let mut back = vec![9; expected.len()];
    client.read(0, &mut back).await.unwrap();
    let trimmed = 5 << 20..(5 << 20) + (1 << 16);
    expected[trimmed.clone()].fill(0);
    back[trimmed].fill(0);
    assert!(back == expected, "holes and data arrive where they belong");
    for (offset, length) in [(SIZE_BYTES - 1, 1), (SIZE_BYTES, 0), (65_535, 65_538)] {
        let mut part = vec![9; length];
        client.read(offset, &mut part).await.unwrap();
        assert!(part == expected[offset as usize..][..length]);
    }

    let regions = client.block_status(Extent::new(100, SIZE_BYTES - 200)).await.unwrap();
    assert_eq!(regions.first().unwrap().extent.offset, 100);
    assert_eq!(regions.last().unwrap().extent.end(), SIZE_BYTES - 100);
    assert!(regions.windows(2).all(|pair| pair[0].extent.end() == pair[1].extent.offset));
    let state = |at: u64| regions.iter().find(|r| r.extent.offset <= at && at < r.extent.end()).unwrap().state;
    if client.can_block_status() {
        assert_eq!(state(3 << 19), RegionState::Hole);
        assert_eq!(state(2 << 20), RegionState::Data);
    } else {
        assert_eq!(regions.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_reply_carries_everything() {
    for (mode, wishes) in all_modes() {
        let (device, exports) = Exports::memory(SIZE_BYTES);
        let served = Served::unix(exports);
        let client = Client::connect_with(&served.uri, &options(wishes)).await.unwrap();
        assert_eq!(client.reply_mode(), mode);
        assert_eq!(client.can_block_status(), mode != ReplyMode::Simple);
        assert!(client.can_multi_conn() && client.can_flush() && client.can_trim() && client.can_write_zeroes());
        assert_eq!(client.export().description.as_deref(), Some("an export for tests"));
        works(&client, device.as_ref()).await;
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_ends_the_session() {
    let (device, exports) = Exports::memory(SIZE_BYTES);
    let (ours, theirs) = pair();
    let serving = tokio::spawn(serve_connection(theirs, Arc::new(exports), ServeOptions::default()));
    let client = Client::over(ours, "", &ClientOptions::default()).await.unwrap();
    works(&client, device.as_ref()).await;
    client.close().await;
    assert_eq!(serving.await.unwrap().unwrap(), nbd::server::SessionEnd::Disconnected);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_of_many_tasks_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::create(&folder.path().join("d"), SIZE_BYTES).unwrap());
    let served = Served::tcp(Exports::one(Arc::clone(&device))).await;
    let client = Arc::new(Client::connect(&served.uri).await.unwrap());
    let tasks: Vec<_> = (0..100u64)
        .map(|task| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let offset = task * 300_001;
                for round in 0..5u8 {
                    let data = vec![task as u8 ^ (round << 4) ^ 0x55; 100_000 + task as usize];
                    client.write(offset, &data).await.unwrap();
                    assert!(client.read_into(offset, vec![0; data.len()]).await.unwrap() == data);
                    client.flush().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_it_is_sent() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports.and("locked", Arc::new(MemoryDevice::new(4096)), true));
    let client = Client::connect(&served.uri).await.unwrap();
    for (offset, length) in [(SIZE_BYTES, 1), (SIZE_BYTES - 1, 2), (u64::MAX, 1)] {
        let mut buf = vec![0; length];
        assert_eq!(client.read(offset, &mut buf).await.unwrap_err().kind(), FailureKind::Invalid);
        assert_eq!(client.write(offset, &buf).await.unwrap_err().kind(), FailureKind::Invalid);
        let extent = Extent::new(offset, length as u64);
        assert_eq!(client.write_zeroes(extent, true).await.unwrap_err().kind(), FailureKind::Invalid);
        assert_eq!(client.block_status(extent).await.unwrap_err().kind(), FailureKind::Invalid);
    }
    let locked = Client::connect(&served.export("locked")).await.unwrap();
    assert!(locked.is_read_only());
    assert_eq!(locked.write(0, &[1]).await.unwrap_err().kind(), FailureKind::Forbidden);
    let missing = Client::connect(&served.export("missing")).await.err().unwrap();
    assert_eq!(missing.kind(), FailureKind::NotFound);
    let forbidden = Client::connect(&served.export("forbidden")).await.err().unwrap();
    assert_eq!(forbidden.kind(), FailureKind::Forbidden);
    assert!(forbidden.to_string().contains("not yours"), "{forbidden}");
    let gone = Client::connect(&nbd::NbdUri::unix(&served.path("nobody"), "")).await.err().unwrap();
    assert_eq!(gone.kind(), FailureKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_listed() {
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(4096));
    let served = Served::tcp(Exports::default().and("a", Arc::clone(&device), false).and("b", device, true)).await;
    let names: Vec<_> = list_exports(&served.uri).await.unwrap().into_iter().map(|export| export.name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[derive(Default)]
struct Recorder {
    opened: Mutex<Vec<String>>,
    records: Mutex<Vec<CommandRecord>>,
}

impl ConnectionObserver for Recorder {
    fn export_opened(&self, name: &str) {
        self.opened.lock().unwrap().push(name.to_owned());
    }

    fn command_done(&self, record: &CommandRecord) {
        self.records.lock().unwrap().push(*record);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_sees_every_command() {
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn ConnectionObserver> = recorder.clone();
    let plan = block::FaultPlan { flush_budget: Some(0), ..block::FaultPlan::default() };
    let device = block::FaultDevice::new(Arc::new(MemoryDevice::new(SIZE_BYTES)), plan);
    let served =
        Served::unix_with(Exports::one(Arc::new(device)), ServeOptions { observer, ..ServeOptions::default() });
    let client = Client::connect(&served.uri).await.unwrap();
    client.write(512, &[1; 100]).await.unwrap();
    client.read(0, &mut [0; 10]).await.unwrap();
    let failed = client.flush().await.unwrap_err();
    assert!(failed.to_string().contains("input/output error (cannot make the written data durable)"), "{failed}");
    assert_eq!(recorder.opened.lock().unwrap().as_slice(), [""]);
    let records = recorder.records.lock().unwrap();
    let seen: Vec<_> = records.iter().map(|r| (r.command, r.offset, r.length, r.error)).collect();
    let expected =
        [(Command::Write, 512, 100, None), (Command::Read, 0, 10, None), (Command::Flush, 0, 0, Some(Errno::Io))];
    assert_eq!(seen, expected);
}
