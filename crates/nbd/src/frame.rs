//! Whole frames on a stream: heads are read through a small buffer, payloads straight to their place, and what is
//! written goes out in as few system calls as possible.

use std::io::{self, IoSlice};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes buffered for heads. Small, because what a payload has in here is copied once more.
const BUFFER_BYTES: usize = 4096;

/// A stream read in frames.
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Waits until `length` (at most [`BUFFER_BYTES`]) bytes are there; `false` when the stream ended before the
    /// first. May be dropped and called again: nothing is lost.
    pub(crate) async fn wait_for(&mut self, length: usize) -> io::Result<bool> {
        while self.end - self.start < length {
            if self.start + length > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let read = self.stream.read(&mut self.buffer[self.end..]).await?;
            if read == 0 && self.end == self.start {
                return Ok(false);
            }
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.end += read;
        }
        Ok(true)
    }

    /// The bytes [`wait_for`](Self::wait_for) waited for, still to be taken.
    pub(crate) fn peek(&self, length: usize) -> &[u8] {
        &self.buffer[self.start..self.end.min(self.start + length)]
    }

    /// Takes bytes that were waited for.
    pub(crate) fn take(&mut self, length: usize) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from + length);
        let taken = from..self.start;
        if self.start == self.end {
            // Empty: the next read gets the whole buffer.
            (self.start, self.end) = (0, 0);
        }
        &self.buffer[taken]
    }

    /// Fills `out`. Must not be dropped half-way if the stream is used afterwards.
    pub(crate) async fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        let buffered = out.len().min(self.end - self.start);
        let (front, rest) = out.split_at_mut(buffered);
        front.copy_from_slice(self.take(buffered));
        if !rest.is_empty() {
            self.stream.read_exact(rest).await?;
        }
        Ok(())
    }

    /// Takes a fixed number of bytes; `None` when the stream ended before the first.
    pub(crate) async fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        if !self.wait_for(N).await? {
            return Ok(None);
        }
        Ok(self.take(N).first_chunk().copied())
    }
}

/// Writes every byte of the slices and flushes.
pub(crate) async fn write_all<W>(writer: &mut W, mut slices: &mut [IoSlice<'_>]) -> io::Result<()>
where
    W: AsyncWrite + Unpin + ?Sized,
{
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = writer.write_vectored(slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    writer.flush().await
}
