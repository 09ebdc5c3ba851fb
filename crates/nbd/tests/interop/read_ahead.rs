//! Reads that have arrived behind the present one are announced to the device, each once; other requests are not.

use std::sync::{Arc, Mutex};

use block::{BlockDevice, BlockError, MemoryDevice, Region};
use model::Extent;
use nbd::proto::handshake::{OptionHeader, ReplyMode};
use nbd::proto::transmission::Request;
use nbd::proto::wire::{Command, option};
use nbd::server::{ServeOptions, SessionEnd, serve_connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Exports, pair};

/// A device that remembers what it was told of.
struct Told {
    inner: MemoryDevice,
    announced: Mutex<Vec<Extent>>,
}

impl BlockDevice for Told {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.inner.write_at(data, offset)
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.inner.write_zeroes(extent, may_punch_holes)
    }

    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.inner.trim(extent)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.inner.map_front(extent, max_regions)
    }

    fn will_read(&self, extent: Extent) {
        self.announced.lock().unwrap().push(extent);
    }
}

fn request(command: Command, cookie: u64, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Request { flags: 0, command, cookie, offset, length: 512 }.encode(ReplyMode::Simple, &mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_behind_the_present_one_are_announced_once() {
    let device = Arc::new(Told { inner: MemoryDevice::new(1 << 20), announced: Mutex::default() });
    let (mut ours, theirs) = pair();
    let exports = Exports::one(Arc::clone(&device) as Arc<dyn BlockDevice>);
    let serving = tokio::spawn(serve_connection(theirs, Arc::new(exports), ServeOptions::default()));
    // Everything is there before the server looks: flags, GO for the default export, reads, a write, a read.
    let mut bytes = 3u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&OptionHeader { option: option::GO, length: 6 }.encode());
    bytes.extend_from_slice(&[0; 6]);
    for (cookie, offset) in [(1, 0), (2, 4096), (3, 8192)] {
        bytes.extend_from_slice(&request(Command::Read, cookie, offset));
    }
    bytes.extend_from_slice(&request(Command::Write, 4, 0));
    bytes.extend_from_slice(&[7; 512]);
    bytes.extend_from_slice(&request(Command::Read, 5, u64::MAX));
    bytes.extend_from_slice(&request(Command::Read, 6, 0));
    ours.write_all(&bytes).await.unwrap();
    ours.shutdown().await.unwrap();
    let mut answers = Vec::new();
    ours.read_to_end(&mut answers).await.unwrap();
    assert!(answers.ends_with(&[7; 512]), "the last read sees the write");
    assert_eq!(serving.await.unwrap().unwrap(), SessionEnd::EndOfStream);
    assert_eq!(*device.announced.lock().unwrap(), [Extent::new(4096, 512), Extent::new(8192, 512)]);
}
