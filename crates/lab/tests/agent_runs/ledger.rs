//! What the small hub says is durable: as the gateway does it, a write counts after a flush or when enough was written,
//! and what one generation of content left is forgotten when another begins.

use std::sync::Arc;

use block::{BlockDevice, BlockError, MemoryDevice, Region};
use model::Extent;
use model::extent::{normalise, total_bytes};
use parking_lot::Mutex;

/// Bytes written until they are made durable without a flush.
pub(crate) const BARRIER_BYTES: u64 = 2 << 20;

#[derive(Default)]
struct State {
    generation: String,
    writers: usize,
    /// Not durable.
    loose: Vec<Extent>,
    durable: Vec<Extent>,
    written_bytes: u64,
}

/// The ledger of one export.
pub(crate) struct Ledger {
    device: Arc<dyn BlockDevice>,
    state: Mutex<State>,
}

impl Ledger {
    pub(crate) fn new(device: Arc<dyn BlockDevice>) -> Arc<Self> {
        Arc::new(Self { device, state: Mutex::default() })
    }

    /// The device for one writer of a generation; none while another generation is written.
    pub(crate) fn writer(self: &Arc<Self>, generation: &str) -> Option<Writer> {
        let mut state = self.state.lock();
        if state.generation != generation {
            if state.writers > 0 {
                return None;
            }
            *state = State { generation: generation.to_owned(), ..State::default() };
        }
        state.writers += 1;
        Some(Writer(Arc::clone(self)))
    }

    /// The ledger of a generation, as an export holds it.
    pub(crate) fn bytes(&self, generation: &str) -> MemoryDevice {
        let state = self.state.lock();
        let durable: &[Extent] = if state.generation == generation { &state.durable } else { &[] };
        let mut bytes = b"MKLEDGR1".to_vec();
        bytes.extend((durable.len() as u64).to_le_bytes());
        for extent in durable {
            bytes.extend([extent.offset.to_le_bytes(), extent.length.to_le_bytes()].concat());
        }
        MemoryDevice::from_bytes(&bytes).read_only()
    }

    /// Bytes of the first `length` that are durable.
    pub(crate) fn durable_bytes(&self, length: u64) -> u64 {
        let state = self.state.lock();
        total_bytes(&state.durable.iter().filter_map(|extent| extent.clamp_to(length)).collect::<Vec<_>>())
    }

    /// Bytes of data written by the present generation.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.state.lock().written_bytes
    }

    /// As after a loss of power: what was not durable holds something else.
    pub(crate) fn lose_what_is_loose(&self) {
        for extent in std::mem::take(&mut self.state.lock().loose) {
            let garbage = vec![0xEE; usize::try_from(extent.length).unwrap()];
            self.device.write_at(&garbage, extent.offset).unwrap();
        }
    }

    fn wrote(&self, extent: Extent, data_bytes: u64) {
        let mut state = self.state.lock();
        state.loose.push(extent);
        state.written_bytes += data_bytes;
        if total_bytes(&state.loose) >= BARRIER_BYTES {
            state.barrier();
        }
    }
}

impl State {
    fn barrier(&mut self) {
        let mut all = std::mem::take(&mut self.durable);
        all.append(&mut self.loose);
        self.durable = normalise(all);
    }
}

/// The device of an export while one connection writes to it.
pub(crate) struct Writer(Arc<Ledger>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.state.lock().writers -= 1;
    }
}

impl BlockDevice for Writer {
    fn size_bytes(&self) -> u64 {
        self.0.device.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.0.device.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.0.device.write_at(data, offset)?;
        self.0.wrote(Extent::new(offset, data.len() as u64), data.len() as u64);
        Ok(())
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.0.device.write_zeroes(extent, may_punch_holes)?;
        self.0.wrote(extent, 0);
        Ok(())
    }

    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.0.device.trim(extent)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.0.device.flush()?;
        self.0.state.lock().barrier();
        Ok(())
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.0.device.map_front(extent, max_regions)
    }
}
