//! QEMU's control protocol (QMP) on a Unix socket: greeting, capabilities, one command at a time.
//!
//! Blocking; events that arrive between answers are passed over.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// How long an answer may take on a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connection on which commands may be sent.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.message()?;
        qmp.command("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Carries out a command and gives what it returns.
    pub(crate) fn command(&mut self, name: &str, arguments: &Value) -> io::Result<Value> {
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        self.reader.get_mut().write_all(line.as_bytes())?;
        loop {
            let message = self.message()?;
            if let Some(error) = message.get("error") {
                let text = error["desc"].as_str().unwrap_or("no reason given");
                return Err(io::Error::other(format!("{name}: {text}")));
            }
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
        }
    }

    fn message(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn events_are_passed_over_and_errors_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let say = |text: &str| (&stream).write_all(format!("{text}\r\n").as_bytes()).unwrap();
            say(r#"{"QMP": {"version": {}, "capabilities": []}}"#);
            let asked = lines.next().unwrap().unwrap();
            say(r#"{"return": {}}"#);
            lines.next();
            say(r#"{"event": "RESUME"}"#);
            say(r#"{"return": {"running": true}}"#);
            lines.next();
            say(r#"{"error": {"class": "GenericError", "desc": "no such device"}}"#);
            asked
        });
        let mut qmp = Qmp::connect(&socket).unwrap();
        assert_eq!(qmp.command("query-status", &json!({})).unwrap(), json!({ "running": true }));
        let refused = qmp.command("screendump", &json!({ "filename": "x" })).unwrap_err();
        assert_eq!(refused.to_string(), "screendump: no such device");
        assert!(server.join().unwrap().contains("qmp_capabilities"));
    }
}
