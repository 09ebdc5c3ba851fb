//! The agent's digests on their way to the gateway, written down as they pass. What the gateway proves and what is
//! staged are the same bytes.

use std::sync::Arc;

use api::client::ResponseBody;
use api::gateway::{DIGEST_RECORD_BYTES, DigestRecord};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use parking_lot::Mutex;
use proof::{ProofError, StagedWriter};

use super::blocking;
use crate::error::OmaError;

/// What has been written down so far. Clones are the same.
#[derive(Clone)]
pub(crate) struct Staging(Arc<Mutex<Progress>>);

struct Progress {
    /// None once it has ended.
    writer: Option<StagedWriter>,
    /// The beginning of a record whose end is still to come.
    partial: BytesMut,
    /// What went wrong first; nothing is written after it.
    error: Option<ProofError>,
}

impl Staging {
    /// Into this file.
    pub(crate) fn new(writer: StagedWriter) -> Self {
        Self(Arc::new(Mutex::new(Progress { writer: Some(writer), partial: BytesMut::new(), error: None })))
    }

    /// The stream unchanged; each chunk is written down before it is passed on.
    pub(crate) fn tee(&self, digests: ResponseBody) -> ResponseBody {
        let staging = self.clone();
        let passed = digests.then(move |chunk| {
            let staging = staging.clone();
            async move {
                if let Ok(bytes) = &chunk {
                    let bytes = bytes.clone();
                    // A thread that died leaves the records short, which the end of it notices.
                    let _ended = tokio::task::spawn_blocking(move || staging.take(&bytes)).await;
                }
                chunk
            }
        });
        passed.boxed()
    }

    fn take(&self, bytes: &Bytes) {
        let mut progress = self.0.lock();
        if progress.error.is_some() {
            return;
        }
        progress.partial.extend_from_slice(bytes);
        if let Err(error) = progress.write_whole_records() {
            progress.error = Some(error);
        }
    }

    /// Makes everything durable; answers with the number of leaves that were named.
    ///
    /// # Errors
    /// Something could not be written, or the stream ended within a record.
    pub(crate) async fn finish(&self) -> Result<u64, OmaError> {
        let staging = self.clone();
        blocking(move || staging.end()).await
    }

    fn end(&self) -> Result<u64, ProofError> {
        let mut progress = self.0.lock();
        if let Some(error) = progress.error.take() {
            return Err(error);
        }
        if !progress.partial.is_empty() {
            return Err(ProofError::Digests { reason: "they end within a record".to_owned() });
        }
        match progress.writer.take() {
            Some(writer) => writer.finish(),
            None => Err(ProofError::Digests { reason: "they have ended already".to_owned() }),
        }
    }
}

impl Progress {
    fn write_whole_records(&mut self) -> Result<(), ProofError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        while self.partial.len() >= DIGEST_RECORD_BYTES {
            let mut wire = [0; DIGEST_RECORD_BYTES];
            self.partial.copy_to_slice(&mut wire);
            let record =
                DigestRecord::decode(&wire).map_err(|problem| ProofError::Digests { reason: problem.detail })?;
            writer.add(record.first_leaf, record.leaf_count.into(), &record.digest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::LEAF_SIZE_BYTES;
    use proof::{Coverage, DigestFolder, DiskName};

    fn disk() -> DiskName {
        DiskName { vm_disk_id: "d".to_owned(), disk_uuid: "u".to_owned(), capacity_bytes: 100 * LEAF_SIZE_BYTES }
    }

    fn wire(records: &[(u64, u32, u8)]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (first_leaf, leaf_count, digest) in records {
            let record = DigestRecord {
                first_leaf: *first_leaf,
                leaf_count: *leaf_count,
                is_scrubbed: false,
                digest: [*digest; 32],
            };
            record.encode(&mut wire);
        }
        wire
    }

    async fn staged(folder: &DigestFolder, wire: &[u8], chunk_bytes: usize) -> (Vec<u8>, Result<u64, OmaError>) {
        let staging = Staging::new(folder.stage(&disk(), "job", Coverage::Named).unwrap());
        let chunks: Vec<_> = wire.chunks(chunk_bytes).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let passed: Vec<_> = staging.tee(futures::stream::iter(chunks).boxed()).collect().await;
        let passed = passed.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        (passed, staging.finish().await)
    }

    #[tokio::test]
    async fn what_passes_is_written_down_however_it_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DigestFolder::open(dir.path()).unwrap();
        let wire = wire(&[(40, 3, 1), (0, 2, 2), (99, 1, 3)]);
        let mut roots = Vec::new();
        for chunk_bytes in [1, 7, DIGEST_RECORD_BYTES, 1000] {
            let (passed, leaves) = staged(&folder, &wire, chunk_bytes).await;
            assert_eq!((passed, leaves.unwrap()), (wire.clone(), 6));
            roots.push(folder.staged(&disk(), "job").unwrap().unwrap().root().unwrap());
        }
        assert!(roots.windows(2).all(|two| two[0] == two[1]));
    }

    #[tokio::test]
    async fn records_cut_short_or_beyond_the_disk_pass_but_are_no_proof() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DigestFolder::open(dir.path()).unwrap();
        for (wire, reason) in [
            (wire(&[(0, 1, 1)])[..40].to_vec(), "end within a record"),
            (wire(&[(99, 2, 1), (0, 1, 1)]), "leaves 99 to 101"),
            (wire(&[(0, 0, 1)]), "names no leaf"),
        ] {
            let (passed, leaves) = staged(&folder, &wire, 11).await;
            assert_eq!(passed, wire);
            let told = leaves.unwrap_err().to_string();
            assert!(told.contains(reason), "{told}");
        }
    }
}
