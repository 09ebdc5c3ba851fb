//! One end of a copy: a file (or block device), or an NBD export over several connections.

use std::path::Path;
use std::sync::Arc;

use block::{BlockDevice, FileDevice, Region};
use model::{Extent, FailureKind};
use nbd::{Client, NbdError, NbdUri};

use super::{device_failure, nbd_failure};
use crate::cli::failure::Failure;

/// One end.
pub enum Endpoint {
    /// A local file or block device.
    File(Arc<FileDevice>),
    /// An export; each worker has a connection.
    Nbd(Vec<Client>),
}

/// Whether what was typed is meant as a URI; a file of such a name can be called `./…`.
pub fn is_uri(text: &str) -> bool {
    text.contains("://")
}

impl Endpoint {
    /// Opens the end that is read.
    pub async fn source(text: &str, connections: usize) -> Result<Self, Failure> {
        if is_uri(text) {
            return Self::connect(text, connections).await;
        }
        let device = FileDevice::open(Path::new(text), true).map_err(|error| device_failure(&error))?;
        Ok(Self::File(Arc::new(device)))
    }

    /// Opens the end that is written; a file that does not exist is made as large as needed.
    pub async fn destination(text: &str, connections: usize, size_bytes: u64) -> Result<Self, Failure> {
        if is_uri(text) {
            let end = Self::connect(text, connections).await?;
            if matches!(&end, Self::Nbd(clients) if clients.iter().any(Client::is_read_only)) {
                return Err(Failure::new(FailureKind::Forbidden, format!("{text} is read-only"))
                    .remedy("serve it writable, or copy to something else"));
            }
            return Ok(end);
        }
        let path = Path::new(text);
        let opened = if path.exists() { FileDevice::open(path, false) } else { FileDevice::create(path, size_bytes) };
        Ok(Self::File(Arc::new(opened.map_err(|error| device_failure(&error))?)))
    }

    async fn connect(text: &str, connections: usize) -> Result<Self, Failure> {
        let uri: NbdUri = text.parse().map_err(|error| nbd_failure(&error))?;
        let first = Client::connect(&uri).await.map_err(|error| nbd_failure(&error))?;
        let wanted = if first.can_multi_conn() { connections } else { 1 };
        let mut clients = vec![first];
        while clients.len() < wanted {
            clients.push(Client::connect(&uri).await.map_err(|error| nbd_failure(&error))?);
        }
        Ok(Self::Nbd(clients))
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::File(device) => device.size_bytes(),
            Self::Nbd(clients) => clients.first().map_or(0, Client::size_bytes),
        }
    }

    /// How many workers it has room for.
    pub fn connections(&self) -> usize {
        match self {
            Self::File(_) => usize::MAX,
            Self::Nbd(clients) => clients.len(),
        }
    }

    /// What is where: an end that does not tell is all data.
    pub async fn map(&self, worker: usize, extent: Extent) -> Result<Vec<Region>, Failure> {
        match self {
            Self::File(device) => {
                let device = Arc::clone(device);
                blocking(move || device.map(extent)).await
            }
            Self::Nbd(clients) => {
                let client = &clients[worker % clients.len()];
                client.block_status(extent).await.map_err(|error| nbd_failure(&error))
            }
        }
    }

    /// Reads into a buffer that is given back.
    pub async fn read(&self, worker: usize, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self {
            Self::File(device) => {
                let device = Arc::clone(device);
                blocking(move || device.read_at(&mut buffer, offset).map(|()| buffer)).await
            }
            Self::Nbd(clients) => {
                let client = &clients[worker % clients.len()];
                client.read(offset, &mut buffer).await.map_err(|error| nbd_failure(&error))?;
                Ok(buffer)
            }
        }
    }

    /// Writes a buffer that is given back.
    pub async fn write(&self, worker: usize, offset: u64, data: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self {
            Self::File(device) => {
                let device = Arc::clone(device);
                blocking(move || device.write_at(&data, offset).map(|()| data)).await
            }
            Self::Nbd(clients) => {
                let client = &clients[worker % clients.len()];
                write_blocks(client, offset, &data).await.map_err(|error| nbd_failure(&error))?;
                Ok(data)
            }
        }
    }

    /// Makes an extent zero, as a hole where possible.
    pub async fn zero(&self, worker: usize, extent: Extent) -> Result<(), Failure> {
        match self {
            Self::File(device) => {
                let device = Arc::clone(device);
                blocking(move || device.write_zeroes(extent, true)).await
            }
            Self::Nbd(clients) => {
                let client = &clients[worker % clients.len()];
                zero_blocks(client, extent).await.map_err(|error| nbd_failure(&error))
            }
        }
    }

    /// Everything written is durable when this returns.
    pub async fn flush(&self) -> Result<(), Failure> {
        match self {
            Self::File(device) => {
                let device = Arc::clone(device);
                blocking(move || device.flush()).await
            }
            Self::Nbd(clients) => {
                for client in clients.iter().filter(|client| client.can_flush()) {
                    client.flush().await.map_err(|error| nbd_failure(&error))?;
                }
                Ok(())
            }
        }
    }
}

/// Writes also where the server takes only whole blocks and the data ends within one: the rest of that block is kept.
async fn write_blocks(client: &Client, offset: u64, data: &[u8]) -> Result<(), NbdError> {
    let block_bytes = u64::from(client.block_sizes().minimum);
    let end = offset + data.len() as u64;
    let (first, last) = (offset / block_bytes * block_bytes, end.next_multiple_of(block_bytes));
    if (first, last) == (offset, end) {
        return client.write(offset, data).await;
    }
    let mut blocks = vec![0; usize::try_from(last - first).unwrap_or(usize::MAX)];
    client.read(first, &mut blocks).await?;
    let at = usize::try_from(offset - first).unwrap_or(usize::MAX);
    blocks[at..at + data.len()].copy_from_slice(data);
    client.write(first, &blocks).await
}

/// Zeroes whole blocks as such and the rest by writing.
async fn zero_blocks(client: &Client, extent: Extent) -> Result<(), NbdError> {
    let block_bytes = u64::from(client.block_sizes().minimum);
    let first = extent.offset.next_multiple_of(block_bytes).min(extent.end());
    let last = (extent.end() / block_bytes * block_bytes).max(first);
    for (from, to) in [(extent.offset, first), (last, extent.end())] {
        if from < to {
            write_blocks(client, from, &vec![0; usize::try_from(to - from).unwrap_or(usize::MAX)]).await?;
        }
    }
    if first < last { client.write_zeroes(Extent::new(first, last - first), true).await } else { Ok(()) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, block::BlockError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| device_failure(&error)),
        Err(error) => Err(Failure::new(FailureKind::Internal, error.to_string())),
    }
}
