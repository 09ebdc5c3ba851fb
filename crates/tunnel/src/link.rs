//! Keeps an agent's control connection up: dials, serves, and dials again after a pause that grows.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::dial::Dialer;
use crate::error::{BoxedError, TunnelError};
use crate::reverse::serve_control;

/// When the link is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkTimings {
    /// The shortest pause.
    pub min_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
    /// A connection that lasted this long makes the next pause short again.
    pub stable_after: Duration,
}

impl Default for LinkTimings {
    fn default() -> Self {
        Self {
            min_pause: Duration::from_millis(500),
            // A hub that is back is found within a few seconds; its acceptor takes thousands of such dials a second.
            max_pause: Duration::from_secs(4),
            stable_after: Duration::from_secs(60),
        }
    }
}

/// What the link is doing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LinkState {
    /// Dialling.
    Connecting,
    /// The hub has begun to speak HTTP/2 and is being served.
    Connected {
        /// Since when.
        #[serde(with = "time::serde::rfc3339")]
        since: OffsetDateTime,
    },
    /// Waiting to dial again.
    Waiting {
        /// Attempts since the last stable connection.
        attempt: u32,
        /// Length of the pause, in milliseconds.
        pause_ms: u64,
        /// Why there is no connection, with its causes.
        error: String,
        /// What the operator can do about it.
        remedy: Option<String>,
    },
    /// Shut down.
    Stopped,
}

/// The pauses between attempts: doubling up to the longest, the second half of each left to chance so that many agents
/// do not return to a restarted hub in step.
#[derive(Debug)]
struct Backoff {
    timings: LinkTimings,
    attempt: u32,
}

impl Backoff {
    /// The pause after a connection that lasted `lasted` (zero when there was none). `chance` is from 0 to 1.
    fn pause(&mut self, lasted: Duration, chance: f64) -> Duration {
        if lasted >= self.timings.stable_after {
            self.attempt = 0;
        }
        self.attempt = self.attempt.saturating_add(1);
        let doubled = self.timings.min_pause.saturating_mul(2u32.saturating_pow(self.attempt));
        let ceiling = doubled.min(self.timings.max_pause);
        (ceiling / 2 + (ceiling / 2).mul_f64(chance)).max(self.timings.min_pause)
    }
}

/// The supervisor of one agent's control connection.
#[derive(Debug)]
pub struct AgentLink {
    dialer: Arc<Dialer>,
    timings: LinkTimings,
    state: watch::Sender<LinkState>,
}

impl AgentLink {
    /// A link that is not started.
    #[must_use]
    pub fn new(dialer: Arc<Dialer>, timings: LinkTimings) -> Self {
        Self { dialer, timings, state: watch::Sender::new(LinkState::Connecting) }
    }

    /// What the link is doing, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Keeps the link up and serves `service` on it, until `shutdown` is cancelled.
    pub async fn run<V, B>(&self, service: V, shutdown: CancellationToken)
    where
        V: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        V::Error: Into<BoxedError>,
        V::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxedError>,
    {
        let mut backoff = Backoff { timings: self.timings, attempt: 0 };
        while !shutdown.is_cancelled() {
            let (lasted, outcome) = self.connect_and_serve(service.clone(), &shutdown).await;
            if shutdown.is_cancelled() {
                break;
            }
            let pause = backoff.pause(lasted, rand::random());
            self.report(backoff.attempt, pause, outcome);
            let _ = unless(&shutdown, tokio::time::sleep(pause)).await;
        }
        self.state.send_replace(LinkState::Stopped);
    }

    async fn connect_and_serve<V, B>(
        &self,
        service: V,
        shutdown: &CancellationToken,
    ) -> (Duration, Result<(), TunnelError>)
    where
        V: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        V::Error: Into<BoxedError>,
        V::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxedError>,
    {
        self.state.send_replace(LinkState::Connecting);
        let stream = match unless(shutdown, self.dialer.dial_control()).await {
            None => return (Duration::ZERO, Ok(())),
            Some(Err(error)) => return (Duration::ZERO, Err(error)),
            Some(Ok(stream)) => stream,
        };
        let started = Instant::now();
        tracing::info!(hub = %self.dialer.hub(), "control connection is up");
        self.state.send_replace(LinkState::Connected { since: OffsetDateTime::now_utc() });
        let served = serve_control(stream, service, shutdown.clone()).await;
        (started.elapsed(), served)
    }

    fn report(&self, attempt: u32, pause: Duration, outcome: Result<(), TunnelError>) {
        let error = outcome.err();
        let text = error.as_ref().map_or_else(|| "the hub ended the connection".to_owned(), with_causes);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(hub = %self.dialer.hub(), attempt, pause_ms, error = %text, "control connection is down");
        let remedy = error.and_then(|error| error.remedy().map(str::to_owned));
        self.state.send_replace(LinkState::Waiting { attempt, pause_ms, error: text, remedy });
    }
}

/// The result of `future`, or `None` when the shutdown came first.
async fn unless<F: Future>(shutdown: &CancellationToken, future: F) -> Option<F::Output> {
    tokio::select! {
        () = shutdown.cancelled() => None,
        output = future => Some(output),
    }
}

fn with_causes(error: &TunnelError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(chance: f64, lasted: &[u64]) -> Vec<u128> {
        let mut backoff = Backoff { timings: LinkTimings::default(), attempt: 0 };
        lasted.iter().map(|s| backoff.pause(Duration::from_secs(*s), chance).as_millis()).collect()
    }

    #[test]
    fn pauses_double_to_four_seconds_and_start_again_after_a_stable_minute() {
        assert_eq!(pauses(0.0, &[0; 5]), [500, 1000, 2000, 2000, 2000]);
        assert_eq!(pauses(1.0, &[0; 5]), [1000, 2000, 4000, 4000, 4000]);
        assert_eq!(pauses(0.0, &[0, 0, 59, 60, 0]), [500, 1000, 2000, 500, 1000]);
        let long = pauses(0.5, &[0; 200]);
        assert!(long.iter().all(|ms| (500..=4000).contains(ms)));
    }
}
