//! Output of a program as bounded lines. A line ends with a line feed or, as progress bars do it, a carriage return.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest line, in bytes; the rest of a longer one is left out.
const MAX_LINE_BYTES: usize = 2048;
/// Bytes read at once.
const CHUNK_BYTES: usize = 4096;

/// Reads one stream.
pub(super) struct Lines {
    stream: Option<Box<dyn AsyncRead + Unpin + Send>>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        Self { stream: Some(Box::new(stream)), line: Vec::new() }
    }

    /// Whether there is nothing more to come.
    pub(super) fn has_ended(&self) -> bool {
        self.stream.is_none()
    }

    /// Waits for bytes and answers with the lines that they end, often none. Never comes back after the stream's end. No
    /// byte is lost when it is dropped.
    pub(super) async fn next(&mut self) -> io::Result<Vec<String>> {
        let Some(stream) = &mut self.stream else { return std::future::pending().await };
        let mut chunk = [0; CHUNK_BYTES];
        let length = stream.read(&mut chunk).await?;
        let mut lines = Vec::new();
        for byte in &chunk[..length] {
            if matches!(byte, b'\n' | b'\r') {
                lines.extend(self.finish());
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(*byte);
            }
        }
        if length == 0 {
            self.stream = None;
            lines.extend(self.finish());
        }
        Ok(lines)
    }

    /// The line that is complete; none when it is blank.
    fn finish(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.line);
        let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
        self.line.clear();
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &'static [u8]) -> Vec<String> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        while !lines.has_ended() {
            found.extend(lines.next().await.unwrap());
        }
        found
    }

    #[tokio::test]
    async fn lines_end_in_every_way_and_blank_ones_are_left_out() {
        let found = all(b"[   0.0] Setting up\n\n 10%\r 20%\r\n\x1b[35mred\x1b[0m\t\xFF end").await;
        assert_eq!(found, ["[   0.0] Setting up", " 10%", " 20%", "[35mred[0m\u{FFFD} end"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_bounded() {
        let endless = vec![b'x'; 3 * MAX_LINE_BYTES].leak();
        let found = all(endless).await;
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES]);
    }
}
