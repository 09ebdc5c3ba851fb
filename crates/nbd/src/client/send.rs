//! The sending half of a client's connection: one request at a time, head and payload in one system call.

use std::io::IoSlice;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::error::NbdError;
use crate::frame::write_all;
use crate::proto::handshake::ReplyMode;
use crate::proto::transmission::Request;

type Writer = Box<dyn AsyncWrite + Send + Unpin>;

struct SendHalf {
    writer: Writer,
    head: Vec<u8>,
    /// Set while a request is being sent. Found set by the next one, it was given up half-way.
    midway: bool,
}

/// Sends requests of any number of tasks.
pub(super) struct Sender {
    half: Mutex<SendHalf>,
    mode: ReplyMode,
}

impl Sender {
    pub(super) fn new(writer: Writer, mode: ReplyMode) -> Self {
        Self { half: Mutex::new(SendHalf { writer, head: Vec::new(), midway: false }), mode }
    }

    /// Sends a request and its payload straight from the caller's memory.
    pub(super) async fn send(&self, request: &Request, payload: &[u8]) -> Result<(), NbdError> {
        let mut half = self.half.lock().await;
        if half.midway {
            return Err(NbdError::Interrupted);
        }
        half.midway = true;
        let SendHalf { writer, head, .. } = &mut *half;
        head.clear();
        request.encode(self.mode, head);
        let sent = write_all(writer, &mut [IoSlice::new(head), IoSlice::new(payload)]).await;
        sent.map_err(|source| NbdError::Stream { source })?;
        half.midway = false;
        Ok(())
    }

    /// Ends the stream in this direction.
    pub(super) async fn shut_down(&self) {
        // The other side may have gone first.
        let _ = self.half.lock().await.writer.shutdown().await;
    }
}
