//! The client with a thread of its own, against our server, nbdkit and qemu-nbd.

use std::sync::Arc;

use block::{BlockDevice, Fault, FaultDevice, FaultPlan, FileDevice, MemoryDevice};
use model::{Extent, FailureKind};
use nbd::client::Wishes;
use nbd::server::{ServeOptions, serve_connection};
use nbd::{Lane, NbdError, channel};
use tokio::net::UnixStream;

use crate::harness::{Exports, Peer, content, pair};

const SIZE_BYTES: u64 = 40 * (1 << 20) + 512;

/// What the two can agree on.
fn wishes() -> [Wishes; 3] {
    [(false, false), (false, true), (true, true)].map(|(extended_headers, structured_replies)| Wishes {
        extended_headers,
        structured_replies,
        base_allocation: structured_replies,
    })
}

async fn lane(socket: &std::path::Path, wishes: Wishes) -> Result<Lane, NbdError> {
    let stream = UnixStream::connect(socket).await.unwrap();
    Lane::open(Box::new(channel::unix(stream).unwrap()), "", wishes).await
}

/// A lane to a server of ours over a device.
async fn to(device: Arc<dyn BlockDevice>, wishes: Wishes) -> Lane {
    let (ours, theirs) = pair();
    tokio::spawn(serve_connection(theirs, Arc::new(Exports::one(device)), ServeOptions::default()));
    Lane::open(Box::new(channel::unix(ours).unwrap()), "", wishes).await.unwrap()
}

/// Everything a lane can do; what the device must hold then.
fn works(lane: &mut Lane) -> Vec<u8> {
    let size_bytes = usize::try_from(lane.size_bytes()).unwrap();
    let mut expected: Vec<u8> = (0..size_bytes).map(|at| (at % 251) as u8 + 1).collect();
    // Longer than one request may be, and then many that are under way at once.
    let (front, rest) = expected.split_at(33 * (1 << 20));
    lane.write(0, front).unwrap();
    for (index, piece) in rest.chunks(40_960).enumerate() {
        lane.write((front.len() + index * 40_960) as u64, piece).unwrap();
    }
    lane.write_zeroes(Extent::new(1 << 20, 3 << 20)).unwrap();
    expected[1 << 20..4 << 20].fill(0);
    // A server may carry out in any order what is under way at once.
    lane.settle().unwrap();
    let mut back = vec![9; 5 << 20];
    lane.read(512, &mut back).unwrap();
    assert!(back == expected[512..512 + (5 << 20)]);
    lane.read(0, &mut []).unwrap();
    lane.flush().unwrap();
    let mut whole = vec![9; size_bytes];
    lane.read(0, &mut whole).unwrap();
    assert!(whole == expected);
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_in_every_form_of_reply() {
    for wishes in wishes() {
        let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(SIZE_BYTES));
        let mut lane = to(Arc::clone(&device), wishes).await;
        let expected = tokio::task::spawn_blocking(move || {
            let expected = works(&mut lane);
            lane.close();
            expected
        })
        .await
        .unwrap();
        assert!(content(device.as_ref()) == expected, "{wishes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    FileDevice::create(&path, SIZE_BYTES).unwrap();
    let image = path.to_str().unwrap();
    let memory = format!("{SIZE_BYTES}");
    let peers = [
        Peer::nbdkit(&["memory", &memory]).await,
        Peer::nbdkit(&["--no-sr", "memory", &memory]).await,
        Peer::nbdkit(&["--filter=nozero", "memory", &memory]).await,
        Peer::qemu(tempfile::tempdir().unwrap(), &["--format=raw", image]).await,
    ];
    for peer in &peers {
        let nbd::uri::Address::Unix { path } = &peer.uri.address else { panic!("{}", peer.uri) };
        for wishes in wishes() {
            let mut lane = lane(path, wishes).await.unwrap();
            tokio::task::spawn_blocking(move || {
                works(&mut lane);
                lane.close();
            })
            .await
            .unwrap();
        }
    }
    let last = std::fs::read(&path).unwrap();
    assert_eq!((last[0], last[2 << 20], last.len() as u64), (1, 0, SIZE_BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_an_earlier_request_comes_out_at_the_latest_when_it_settles() {
    let plan = FaultPlan { write_budget_bytes: Some((1 << 20, Fault::Full)), ..FaultPlan::default() };
    let device = FaultDevice::new(Arc::new(MemoryDevice::new(SIZE_BYTES)), plan);
    let mut lane = to(Arc::new(device), Wishes::default()).await;
    let failed = tokio::task::spawn_blocking(move || {
        let data = vec![7; 256 * 1024];
        for index in 0..8 {
            lane.write(index * 256 * 1024, &data)?;
        }
        lane.settle()
    });
    let error = failed.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), FailureKind::Exhausted, "{error:?}");
    assert!(matches!(error, NbdError::Remote { offset: 0x10_0000, .. }), "the first that did not fit: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_it_is_sent() {
    let mut lane = to(Arc::new(MemoryDevice::new(4096)), Wishes::default()).await;
    let mut locked = to(Arc::new(MemoryDevice::new(4096).read_only()), Wishes::default()).await;
    tokio::task::spawn_blocking(move || {
        assert_eq!(lane.write(4096, &[1]).unwrap_err().kind(), FailureKind::Invalid);
        assert_eq!(lane.read(u64::MAX, &mut [0]).unwrap_err().kind(), FailureKind::Invalid);
        assert_eq!(lane.write_zeroes(Extent::new(0, 4097)).unwrap_err().kind(), FailureKind::Invalid);
        assert_eq!(locked.write(0, &[1]).unwrap_err().kind(), FailureKind::Forbidden);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_wakes_a_lane_that_waits() {
    // Accepts, and never says a word.
    let (ours, _silent) = pair();
    let channel = Box::new(channel::unix(ours).unwrap());
    let hangup = nbd::channel::Channel::hangup(channel.as_ref()).unwrap();
    let opening = tokio::spawn(async move { Lane::open(channel, "", Wishes::default()).await });
    hangup.cut();
    assert_eq!(opening.await.unwrap().err().unwrap().kind(), FailureKind::Unavailable);
}
