//! A shutdown finishes what has arrived, and ends.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use block::{BlockDevice, BlockError, MemoryDevice, Region};
use model::{Extent, FailureKind};
use nbd::client::{Client, ClientOptions};
use nbd::server::{Limits, ServeOptions, SessionEnd, serve_connection};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::harness::{Exports, PROGRAM_TIMEOUT, pair};

/// A device whose writes wait until they are let through.
struct Gate {
    inner: MemoryDevice,
    entered: UnboundedSender<()>,
    passes: Mutex<Receiver<()>>,
}

impl Gate {
    fn new() -> (Arc<Self>, UnboundedReceiver<()>, Sender<()>) {
        let (entered, at_the_gate) = unbounded_channel();
        let (pass, passes) = channel();
        let inner = MemoryDevice::new(1 << 20);
        (Arc::new(Self { inner, entered, passes: Mutex::new(passes) }), at_the_gate, pass)
    }
}

impl BlockDevice for Gate {
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
        self.entered.send(()).unwrap();
        let _ = self.passes.lock().unwrap().recv();
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
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_arrived_is_answered_and_later_requests_fail() {
    let (device, mut at_the_gate, pass) = Gate::new();
    let options = ServeOptions::default();
    let shutdown = options.shutdown.clone();
    let (ours, theirs) = pair();
    let exports = Exports::one(Arc::clone(&device) as Arc<dyn BlockDevice>);
    let serving = tokio::spawn(serve_connection(theirs, Arc::new(exports), options));
    let client = Arc::new(Client::over(ours, "", &ClientOptions::default()).await.unwrap());
    let writing = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.write(4096, &[7; 4096]).await }
    });
    at_the_gate.recv().await.unwrap();
    shutdown.cancel();
    pass.send(()).unwrap();
    writing.await.unwrap().unwrap();
    let ended = tokio::time::timeout(PROGRAM_TIMEOUT, serving).await.unwrap().unwrap();
    assert_eq!(ended.unwrap(), SessionEnd::ShutDown);
    let mut kept = [0; 4096];
    device.read_at(&mut kept, 4096).unwrap();
    assert_eq!(kept, [7; 4096]);
    assert_eq!(client.flush().await.unwrap_err().kind(), FailureKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_hangs_does_not_hold_the_shutdown_for_ever() {
    let (device, mut at_the_gate, pass) = Gate::new();
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let options = ServeOptions { limits, ..ServeOptions::default() };
    let shutdown = options.shutdown.clone();
    let (ours, theirs) = pair();
    let serving = tokio::spawn(serve_connection(theirs, Arc::new(Exports::one(device)), options));
    let client = Arc::new(Client::over(ours, "", &ClientOptions::default()).await.unwrap());
    let writing = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.write(0, &[1; 512]).await }
    });
    at_the_gate.recv().await.unwrap();
    shutdown.cancel();
    let ended = tokio::time::timeout(PROGRAM_TIMEOUT, serving).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().kind(), FailureKind::Unavailable);
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), FailureKind::Unavailable);
    pass.send(()).unwrap();
}
