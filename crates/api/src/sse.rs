//! Reads server-sent events (HTML living standard, "server-sent events") from the bytes of an answer. What a peer sends
//! is bounded; who reconnects is not decided here.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use futures::StreamExt;

use crate::client::{ClientError, ResponseBody};

/// Longest event taken, in bytes: the progress of a VM with 256 disks is a tenth of it.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// What it is called; `message` unless it says so.
    pub name: String,
    /// Its id, if it has one: the `Last-Event-ID` of whoever comes back.
    pub id: Option<String>,
    /// What it carries.
    pub data: String,
}

/// The events of one answer.
pub struct Events {
    body: ResponseBody,
    parser: Parser,
}

impl Events {
    /// Of these bytes.
    #[must_use]
    pub fn new(body: ResponseBody) -> Self {
        Self { body, parser: Parser::default() }
    }

    /// What comes next: an event, or a sign of life (a comment); `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection is lost, or what comes is not a stream of events.
    pub async fn next(&mut self) -> Result<Option<Option<SseEvent>>, ClientError> {
        loop {
            if let Some(heard) = self.parser.heard.pop_front() {
                return Ok(Some(heard));
            }
            let Some(bytes) = self.body.next().await.transpose()? else { return Ok(None) };
            if self.parser.take(&bytes).is_err() {
                let reason = format!("an event is longer than {MAX_EVENT_BYTES} bytes");
                return Err(ClientError::Unexpected { request: "the event stream".to_owned(), reason });
            }
        }
    }
}

/// An event that is longer than anything we take.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// Cuts bytes into lines and lines into events.
#[derive(Default)]
struct Parser {
    buffered: BytesMut,
    /// The event whose end is still to come.
    name: Option<String>,
    id: Option<String>,
    data: Option<String>,
    heard: VecDeque<Option<SseEvent>>,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        // Only what is new is searched for the end of a line.
        let mut from = self.buffered.len();
        self.buffered.extend_from_slice(bytes);
        while let Some(end) = self.buffered[from..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffered.split_to(from + end);
            self.buffered.advance(1);
            from = 0;
            let line = String::from_utf8_lossy(&line);
            self.line(line.strip_suffix('\r').unwrap_or(&line))?;
        }
        if self.buffered.len() > MAX_EVENT_BYTES { Err(TooLong) } else { Ok(()) }
    }

    fn line(&mut self, line: &str) -> Result<(), TooLong> {
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.heard.push_back(None),
            "event" => self.name = Some(value.to_owned()),
            // An id with NUL is ignored, as the standard has it.
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        if self.data.as_ref().is_some_and(|data| data.len() > MAX_EVENT_BYTES) { Err(TooLong) } else { Ok(()) }
    }

    fn dispatch(&mut self) {
        let (name, id) = (self.name.take(), self.id.take());
        if let Some(data) = self.data.take() {
            let name = name.unwrap_or_else(|| "message".to_owned());
            self.heard.push_back(Some(SseEvent { name, id, data }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    async fn heard(text: &str, chunk_bytes: usize) -> Vec<Option<SseEvent>> {
        let chunks: Vec<_> = text.as_bytes().chunks(chunk_bytes).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let mut events = Events::new(futures::stream::iter(chunks).boxed());
        let mut heard = Vec::new();
        while let Some(event) = events.next().await.unwrap() {
            heard.push(event);
        }
        heard
    }

    fn event(name: &str, id: Option<&str>, data: &str) -> Option<SseEvent> {
        Some(SseEvent { name: name.to_owned(), id: id.map(str::to_owned), data: data.to_owned() })
    }

    #[tokio::test]
    async fn events_are_the_same_however_they_are_cut() {
        let text = "event: log\nid: 7\ndata: {\"ä\":1}\n\n:\n\nevent:job\r\ndata:a\r\ndata: b\r\n\r\ndata\n\nid: 9\n\nevent: cut off\ndata: x\n";
        let expected =
            [event("log", Some("7"), "{\"ä\":1}"), None, event("job", None, "a\nb"), event("message", None, "")];
        for chunk_bytes in [1, 2, 7, 1000] {
            assert_eq!(heard(text, chunk_bytes).await, expected, "cut at {chunk_bytes}");
        }
    }

    #[tokio::test]
    async fn what_never_ends_is_refused() {
        let long_line = vec![b'x'; MAX_EVENT_BYTES + 1];
        assert_eq!(Parser::default().take(&long_line), Err(TooLong));
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "y".repeat(64 * 1024));
        let refused = (0..17).find_map(|_| parser.take(line.as_bytes()).err());
        assert_eq!(refused, Some(TooLong));
    }
}
