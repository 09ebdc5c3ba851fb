//! Whatever a client may send: the server must end the connection without a panic and keep the device's size.

#![no_main]

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use block::{BlockDevice, MemoryDevice};
use libfuzzer_sys::fuzz_target;
use nbd::channel::{Channel, Hangup, Intake};
use nbd::proto::handshake::{OptionHeader, encode_meta_request};
use nbd::proto::wire::option;
use nbd::server::{ExportListing, ExportSource, OpenExport, OpenRefused, ServeOptions, serve_connection};
use tokio::runtime::{Builder, Runtime};

const SIZE_BYTES: u64 = 1 << 20;

struct Exports(Arc<MemoryDevice>);

#[async_trait]
impl ExportSource for Exports {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        if name.is_empty() {
            Ok(OpenExport::new(Arc::clone(&self.0) as Arc<dyn BlockDevice>).described("fuzzed"))
        } else {
            Err(OpenRefused::Unknown)
        }
    }

    async fn list(&self) -> Vec<ExportListing> {
        vec![ExportListing { name: String::new(), description: "fuzzed".into() }]
    }
}

/// Bytes that a client has sent already, and nobody who reads the answers.
struct Sent {
    bytes: Vec<u8>,
    at: usize,
}

impl Channel for Sent {
    fn send(&mut self, _parts: &[&[u8]]) -> std::io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, intake: &mut Intake) -> std::io::Result<usize> {
        let now = (self.bytes.len() - self.at).min(intake.spare().len());
        intake.spare()[..now].copy_from_slice(&self.bytes[self.at..self.at + now]);
        intake.advance(now);
        self.at += now;
        Ok(now)
    }

    fn has_arrived(&self) -> bool {
        true
    }

    fn finish(&mut self) {}

    fn hangup(&self) -> std::io::Result<Hangup> {
        Ok(Hangup::none())
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime can be built"));

fn push_option(bytes: &mut Vec<u8>, number: u32, data: &[u8]) {
    bytes.extend_from_slice(&OptionHeader { option: number, length: data.len() as u32 }.encode());
    bytes.extend_from_slice(data);
}

/// The client's part of a handshake that ends where the input takes over.
fn opening(kind: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    if kind == 0 {
        return bytes;
    }
    bytes.extend_from_slice(&3u32.to_be_bytes());
    if kind > 1 {
        let mode = if kind == 2 { option::STRUCTURED_REPLY } else { option::EXTENDED_HEADERS };
        push_option(&mut bytes, mode, &[]);
        push_option(&mut bytes, option::SET_META_CONTEXT, &encode_meta_request("", &["base:allocation"]));
    }
    push_option(&mut bytes, option::GO, &[0; 6]);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut bytes = opening(kind % 4);
    bytes.extend_from_slice(rest);
    let device = Arc::new(MemoryDevice::new(SIZE_BYTES));
    let exports = Arc::new(Exports(Arc::clone(&device)));
    let served = serve_connection(Sent { bytes, at: 0 }, exports, ServeOptions::default());
    // How it ends is open; that it ends is not.
    let _ = RUNTIME.block_on(served);
    assert_eq!(device.size_bytes(), SIZE_BYTES);
    assert!(device.allocated_bytes() <= SIZE_BYTES);
});
