//! Tracing to standard error: text on a terminal, JSON lines for a collector; other layers may listen too.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The variable that filters what is logged, in the form of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "MIGRATEKIT_LOG";
/// What is logged unless the variable says otherwise.
const DEFAULT_FILTER: &str = "info,sqlx=warn,sea_orm=warn,hyper=warn,h2=warn,rustls=warn";

/// A layer that listens beside the log.
pub type ExtraLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Begins to log; a second call in one process changes nothing.
pub fn init(extra: Option<ExtraLayer>) {
    let filter = || EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let to_stderr: ExtraLayer = if std::io::stderr().is_terminal() {
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_filter(filter()).boxed()
    } else {
        tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .with_filter(filter())
            .boxed()
    };
    let mut layers = vec![to_stderr];
    layers.extend(extra);
    // An error only says that somebody has begun already.
    let _ = tracing_subscriber::registry().with(layers).try_init();
}
