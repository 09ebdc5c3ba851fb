//! Sources of others: nbdkit with a file, and with a disk in its memory; images that qemu-img wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::vma::SyncMode;
use block::{BlockDevice, MemoryDevice};
use mover::reader::{NbdReader, Reader, ServedDisk, Source};
use nbd::NbdUri;
use nbd::client::Client;

use crate::replica::{LEAF, Setup, content, dirty, expected_digests, noise, patchy_source, write_file};

async fn nbdkit(socket: &Path, plugin: &[&str]) -> ServedDisk {
    let found =
        std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|p| p.join("nbdkit").is_file()));
    assert!(found, "nbdkit not found: apt-get install nbdkit");
    let socket_text = socket.display().to_string();
    let mut arguments =
        vec!["--foreground".to_owned(), "--exit-with-parent".to_owned(), "--unix".to_owned(), socket_text];
    arguments.extend(plugin.iter().map(|&text| text.to_owned()));
    ServedDisk::start("nbdkit", &arguments, socket).await.unwrap()
}

fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("source.sock")
}

#[tokio::test]
async fn a_file_that_nbdkit_serves_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let source = patchy_source();
    let path = folder.path().join("disk.raw");
    write_file(&path, &source);
    let file = format!("file={}", path.display());
    let served = nbdkit(&socket(&folder), &["--readonly", "file", &file]).await;
    let reader = NbdReader::served(served).await.unwrap();
    assert_eq!(reader.capacity_bytes(), source.len() as u64);
    let device = dirty(source.len());
    let setup = Setup::new(reader, SyncMode::Full);
    setup.run(&device).await.unwrap();
    assert!(content(&*device) == source, "the replica differs from the source");
    assert_eq!(setup.digests(), expected_digests(&source, 0..source.len().div_ceil(LEAF)));
    drop(setup);
    assert!(tokio::net::UnixStream::connect(socket(&folder)).await.is_err() || ended(&socket(&folder)).await);
}

/// Waits until nobody answers on the socket any more.
async fn ended(socket: &Path) -> bool {
    for _ in 0..200 {
        if tokio::net::UnixStream::connect(socket).await.is_err() {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    false
}

#[tokio::test]
async fn a_disk_in_the_memory_of_nbdkit_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let _served = nbdkit(&socket(&folder), &["memory", "size=5M"]).await;
    let uri = NbdUri::unix(&socket(&folder), "");
    let mut source = vec![0; 5 << 20];
    source[(1 << 20)..(2 << 20)].copy_from_slice(&noise(1 << 20, 7));
    let guest = Client::connect(&uri).await.unwrap();
    guest.write(1 << 20, &source[(1 << 20)..(2 << 20)]).await.unwrap();
    guest.flush().await.unwrap();
    guest.close().await;

    let mut replica = source.clone();
    replica[1_500_000] ^= 0x10;
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::from_bytes(&replica));
    let setup = Setup::new(NbdReader::connect(&uri).await.unwrap(), SyncMode::Compare);
    let seen = setup.run(&device).await.unwrap();
    assert!(content(&*device) == source, "the replica differs from the source");
    assert_eq!(seen.bytes_sent, LEAF as u64);
}

#[tokio::test]
async fn a_server_that_is_not_there_may_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let error = NbdReader::connect(&NbdUri::unix(&socket(&folder), "")).await.err().unwrap();
    assert_eq!(error.kind(), model::FailureKind::Unavailable);
}

#[tokio::test]
async fn an_image_of_vmware_is_copied_by_what_it_holds_and_its_holes_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = patchy_source();
    let (raw, image) = (folder.path().join("disk.raw"), folder.path().join("disk.vmdk"));
    write_file(&raw, &source);
    for subformat in ["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse"] {
        let option = format!("subformat={subformat}");
        let (from, to) = (raw.to_str().unwrap(), image.to_str().unwrap());
        let converted = std::process::Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vmdk", "-o", &option, from, to])
            .status()
            .expect("qemu-img not found: apt-get install qemu-utils");
        assert!(converted.success());
        let opened = Source::file(&image).unwrap();
        let allocated = opened.allocated(opened.capacity_bytes()).unwrap().unwrap();
        let device = dirty(source.len());
        let seen = Setup::of(opened, SyncMode::Full).only(&allocated).run(&device).await.unwrap();
        assert!(content(&*device) == source, "{subformat}: the replica differs from the source");
        assert!(seen.bytes_read < 4 << 20, "{subformat}: {} bytes were read", seen.bytes_read);
    }
}
