//! One end of a copy: a file (or block device), or an NBD export over several connections.

use std::path::Path;
use std::sync::Arc;

use block::{BlockDevice, FileDevice, Region, RegionState};
use model::Extent;
use nbd::{Client, NbdUri};

use super::{device_failure, nbd_failure};
use crate::cli::failure::Failure;

/// One end.
pub enum Endpoint {
    /// A local file or block device.
    File(Arc<FileDevice>),
    /// An export; each worker has a connection.
    Nbd(Vec<Client>),
}

/// Whether what was typed is a URI.
pub fn is_uri(text: &str) -> bool {
    text.starts_with("nbd://") || text.starts_with("nbd+unix://")
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
            return Self::connect(text, connections).await;
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
    pub async fn map(&self, extent: Extent) -> Result<Vec<Region>, Failure> {
        match self {
            Self::File(device) => {
                let device = Arc::clone(device);
                blocking(move || device.map(extent)).await
            }
            Self::Nbd(clients) => match clients.first().filter(|client| client.can_block_status()) {
                Some(client) => client.block_status(extent).await.map_err(|error| nbd_failure(&error)),
                None => Ok(vec![Region { extent, state: RegionState::Data }]),
            },
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
                client.write(offset, &data).await.map_err(|error| nbd_failure(&error))?;
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
                client.write_zeroes(extent, true).await.map_err(|error| nbd_failure(&error))
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, block::BlockError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| device_failure(&error)),
        Err(error) => Err(Failure::new(model::FailureKind::Internal, error.to_string())),
    }
}
