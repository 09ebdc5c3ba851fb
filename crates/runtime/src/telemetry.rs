//! Sets `tracing` up for a process: readable text on a terminal, JSON lines otherwise, both on standard error.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Variable with the filter for standard error, as `info,store=debug`; it does not touch the extra layer.
pub const FILTER_VARIABLE: &str = "MIGRATEKIT_LOG";
/// The filter when the variable is not set or not understood.
pub const DEFAULT_FILTER: &str = "info,sqlx=warn,sea_orm=warn,hyper=warn,h2=warn,rustls=warn";

/// A further receiver of events, with a filter of its own.
pub type ExtraLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text { colours: bool },
    JsonLines,
}

/// Sets tracing up for the whole process. Once it is set up, a further call changes nothing.
pub fn init(extra: Option<ExtraLayer>) {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let (filter, complaint) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let is_terminal = std::io::stderr().is_terminal();
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let format = if is_terminal { Format::Text { colours } } else { Format::JsonLines };
    let installed = subscriber(format, filter, std::io::stderr, extra).try_init();
    if let (Ok(()), Some(error)) = (installed, complaint) {
        tracing::warn!(%error, "{FILTER_VARIABLE}={wanted} is not understood, using {DEFAULT_FILTER}");
    }
}

fn subscriber<W>(
    format: Format,
    filter: EnvFilter,
    writer: W,
    extra: Option<ExtraLayer>,
) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Text { colours } => lines.with_ansi(colours).with_target(false).boxed(),
        Format::JsonLines => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(extra).with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::filter::LevelFilter;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn emit() {
        let _span = tracing::info_span!("step", job_id = "j1").entered();
        tracing::info!(bytes = 7, "copied");
        tracing::debug!("details");
    }

    fn written(format: Format, filter: &str, extra: Option<ExtraLayer>) -> String {
        let buffer = Buffer::default();
        let writer = {
            let buffer = buffer.clone();
            move || buffer.clone()
        };
        tracing::subscriber::with_default(subscriber(format, EnvFilter::new(filter), writer, extra), emit);
        buffer.text()
    }

    #[test]
    fn json_has_the_event_and_its_span() {
        let text = written(Format::JsonLines, "info", None);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((line["message"].as_str(), line["bytes"].as_i64()), (Some("copied"), Some(7)));
        assert_eq!(line["span"]["job_id"], "j1");
    }

    #[test]
    fn text_is_readable_and_plain_without_a_terminal() {
        let text = written(Format::Text { colours: false }, "debug", None);
        assert!(text.contains("INFO step{job_id=\"j1\"}: ") && text.contains("copied bytes=7"), "{text}");
        assert!(text.contains("details") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_extra_layer_has_its_own_filter() {
        let buffer = Buffer::default();
        let writer = {
            let buffer = buffer.clone();
            move || buffer.clone()
        };
        let extra = tracing_subscriber::fmt::layer().with_writer(writer).with_filter(LevelFilter::DEBUG).boxed();
        assert_eq!(written(Format::JsonLines, "error", Some(extra)), "");
        assert!(buffer.text().contains("copied") && buffer.text().contains("details"));
    }
}
