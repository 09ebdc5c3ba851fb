//! Our client against nbdkit and qemu-nbd.

use std::sync::Arc;

use block::{BlockDevice, FileDevice, RegionState};
use model::{Extent, FailureKind};
use nbd::NbdError;
use nbd::client::{Client, ClientOptions, Wishes, list_exports};
use nbd::proto::handshake::ReplyMode;

use crate::harness::{PROGRAM_TIMEOUT, Peer, image, must};

const SIZE_BYTES: u64 = 5 * (1 << 20) + 512;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_nbdkit_is_read_written_and_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let mut bytes = image(&path, SIZE_BYTES);
    let peer = Peer::nbdkit_in(folder, &["file", path.to_str().unwrap()]).await;
    let client = Client::connect(&peer.uri).await.unwrap();
    assert_eq!(client.size_bytes(), SIZE_BYTES);
    assert_eq!(client.reply_mode(), ReplyMode::Structured);
    assert!(client.can_multi_conn());
    let mut back = vec![1; bytes.len()];
    client.read(0, &mut back).await.unwrap();
    assert!(back == bytes);
    let regions = client.block_status(Extent::new(0, SIZE_BYTES)).await.unwrap();
    assert!(regions.iter().any(|region| region.state == RegionState::Hole), "{regions:?}");
    for region in regions.iter().filter(|region| region.state.reads_as_zero()) {
        let range = region.extent.offset as usize..region.extent.end() as usize;
        assert!(bytes[range].iter().all(|&byte| byte == 0));
    }
    client.write(1000, &[0xcc; 100_000]).await.unwrap();
    client.write_zeroes(Extent::new(200_000, 70_000), true).await.unwrap();
    client.trim(Extent::new(1 << 20, 1 << 16)).await.unwrap();
    client.flush().await.unwrap();
    client.close().await;
    bytes[1000..101_000].fill(0xcc);
    bytes[200_000..270_000].fill(0);
    let mut file = std::fs::read(&path).unwrap();
    for content in [&mut bytes, &mut file] {
        content[1 << 20..(1 << 20) + (1 << 16)].fill(0);
    }
    assert!(file == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_and_plainer_servers_are_understood() {
    let cases: [(&[&str], ReplyMode, bool); 4] = [
        (&["memory", "1M"], ReplyMode::Structured, true),
        (&["--no-sr", "memory", "1M"], ReplyMode::Simple, true),
        // No fixed newstyle and no leaving out of zeroes: the export name is all that can be sent.
        (&["--mask-handshake=0", "memory", "1M"], ReplyMode::Simple, true),
        (&["--filter=nozero", "--filter=noextents", "memory", "1M"], ReplyMode::Structured, false),
    ];
    for (arguments, mode, zeroes) in cases {
        let peer = Peer::nbdkit(arguments).await;
        let client = Client::connect(&peer.uri).await.unwrap();
        assert_eq!(client.reply_mode(), mode, "{arguments:?}");
        assert_eq!(client.can_write_zeroes(), zeroes, "{arguments:?}");
        client.write(0, &[1; 200_000]).await.unwrap();
        client.write_zeroes(Extent::new(50_000, 100_000), true).await.unwrap();
        let back = client.read_into(0, vec![9; 200_001]).await.unwrap();
        assert!(back[..50_000].iter().all(|&byte| byte == 1));
        assert!(back[50_000..150_000].iter().all(|&byte| byte == 0), "{arguments:?}");
        assert!(back[150_000..200_000].iter().all(|&byte| byte == 1));
        assert_eq!(back[200_000], 0);
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oldstyle_server_is_named_as_such() {
    let peer = Peer::nbdkit(&["--oldstyle", "memory", "1M"]).await;
    let error = Client::connect(&peer.uri).await.err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("oldstyle"), "{error}: {source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn block_sizes_of_the_server_are_kept() {
    let arguments = [
        "--filter=blocksize-policy",
        "pattern",
        "1M",
        "blocksize-minimum=4096",
        "blocksize-preferred=65536",
        "blocksize-maximum=131072",
        "blocksize-error-policy=error",
    ];
    let peer = Peer::nbdkit(&arguments).await;
    let client = Client::connect(&peer.uri).await.unwrap();
    let sizes = client.block_sizes();
    assert_eq!((sizes.minimum, sizes.preferred, sizes.maximum), (4096, 65536, 131_072));
    for (offset, length) in [(512, 4096), (4096, 100)] {
        let error = client.read(offset, &mut vec![0; length]).await.unwrap_err();
        assert!(matches!(error, NbdError::Unaligned { minimum: 4096, .. }), "{error}");
    }
    // Eight requests, each as long as the server takes.
    let bytes = client.read_into(0, vec![0; 1 << 20]).await.unwrap();
    for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
        assert_eq!(u64::from_be_bytes(*word), index as u64 * 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_have_kinds() {
    let arguments = [
        "eval",
        "get_size=echo 1M",
        "pread=echo 'EIO the platter is scratched' >&2; exit 1",
        // A script that leaves its input unread makes nbdkit answer EIO now and then, whatever the script says.
        "pwrite=cat >/dev/null; echo 'ENOSPC nothing left' >&2; exit 1",
        "flush=echo 'EPERM no' >&2; exit 1",
        "can_write=exit 0",
        "can_flush=exit 0",
    ];
    for structured_replies in [true, false] {
        let peer = Peer::nbdkit(&arguments).await;
        let wishes = Wishes { extended_headers: false, structured_replies, base_allocation: false };
        let options = ClientOptions { wishes, ..ClientOptions::default() };
        let client = Client::connect_with(&peer.uri, &options).await.unwrap();
        assert_eq!(client.read(0, &mut [0; 512]).await.unwrap_err().kind(), FailureKind::Internal);
        let full = client.write(0, &[0; 512]).await.unwrap_err();
        assert_eq!(full.kind(), FailureKind::Exhausted);
        assert!(full.remedy().is_some());
        assert_eq!(client.flush().await.unwrap_err().kind(), FailureKind::Forbidden);
        // The connection is still good.
        assert_eq!(client.read(0, &mut [0; 512]).await.unwrap_err().kind(), FailureKind::Internal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_fails_everything_under_way() {
    let mut peer = Peer::nbdkit(&["--filter=delay", "memory", "1M", "rdelay=60"]).await;
    let client = Arc::new(Client::connect(&peer.uri).await.unwrap());
    let reads: Vec<_> = (0..8u64)
        .map(|at| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.read(at * 4096, &mut [0; 4096]).await })
        })
        .collect();
    // A write overtakes the reads, so they are under way when its answer is there.
    client.write(0, &[1; 512]).await.unwrap();
    peer.child.kill().await.unwrap();
    for read in reads {
        let outcome = tokio::time::timeout(PROGRAM_TIMEOUT, read).await.unwrap().unwrap();
        let error = outcome.unwrap_err();
        assert!(matches!(error, NbdError::ConnectionLost { .. }), "{error}");
        assert_eq!(error.kind(), FailureKind::Unavailable);
    }
    assert!(matches!(client.flush().await, Err(NbdError::ConnectionLost { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_given_up_while_it_waits_harms_nobody() {
    let peer = Peer::nbdkit(&["--filter=delay", "memory", "1M", "rdelay=1"]).await;
    let client = Client::connect(&peer.uri).await.unwrap();
    let mut given_up = [0; 512];
    let slow = client.read(0, &mut given_up);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), slow).await.is_err());
    client.write(0, &[7; 512]).await.unwrap();
    let mut back = [0; 512];
    client.read(0, &mut back).await.unwrap();
    assert_eq!(back, [7; 512]);
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_nbd_is_spoken_to_in_extended_headers_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("source.raw");
    let bytes = image(&raw, SIZE_BYTES);
    let qcow = folder.path().join("disk.qcow2");
    must("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap(), qcow.to_str().unwrap()]).await;
    let peer = Peer::qemu(folder, &["--format=qcow2", "--export-name=disk", qcow.to_str().unwrap()]).await;
    let listed = list_exports(&peer.uri).await.unwrap();
    assert_eq!(listed.first().map(|export| export.name.as_str()), Some("disk"));
    let mut uri = peer.uri.clone();
    uri.export = "disk".into();
    let client = Client::connect(&uri).await.unwrap();
    assert_ne!(client.reply_mode(), ReplyMode::Simple);
    // Cannot be agreed on before QEMU 9; from there on it must be.
    let version = must("qemu-nbd", &["--version"]).await.stdout;
    let major: u32 = version.split_whitespace().nth(1).and_then(|v| v.split('.').next()?.parse().ok()).unwrap();
    assert_eq!(client.reply_mode() == ReplyMode::Extended, major >= 9, "{version}");
    // qemu pads an image to whole sectors.
    let mut back = vec![1; bytes.len()];
    client.read(0, &mut back).await.unwrap();
    assert!(back == bytes);
    let regions = client.block_status(Extent::new(0, client.size_bytes())).await.unwrap();
    assert!(regions.iter().any(|region| region.state == RegionState::Hole), "{regions:?}");
    client.write(0, &[3; 1 << 20]).await.unwrap();
    client.write_zeroes(Extent::new(4096, 1 << 16), true).await.unwrap();
    client.trim(Extent::new(3 << 20, 1 << 16)).await.unwrap();
    client.flush().await.unwrap();
    let back = client.read_into(0, vec![0; 1 << 20]).await.unwrap();
    assert!(back[4096..4096 + (1 << 16)].iter().all(|&byte| byte == 0) && back[4095] == 3);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_sparse_disk_is_mapped_and_zeroed_in_a_moment() {
    const HUGE_BYTES: u64 = 100 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.raw");
    let device = FileDevice::create(&path, HUGE_BYTES).unwrap();
    device.write_at(&[1; 4096], 50 << 30).unwrap();
    let peer = Peer::qemu(folder, &["--format=raw", "--discard=unmap", path.to_str().unwrap()]).await;
    let client = Client::connect(&peer.uri).await.unwrap();
    let regions = client.block_status(Extent::new(0, HUGE_BYTES)).await.unwrap();
    assert_eq!(regions.len(), 3, "{regions:?}");
    client.write_zeroes(Extent::new(0, HUGE_BYTES), true).await.unwrap();
    assert!(client.read_into(50 << 30, vec![1; 4096]).await.unwrap().iter().all(|&byte| byte == 0));
}
