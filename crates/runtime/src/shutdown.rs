//! SIGTERM and SIGINT as a token everybody watches; a second signal ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after an impatient second signal: 128 + SIGINT, as shells expect.
const IMPATIENT_EXIT_CODE: i32 = 130;

/// A token that is cancelled at the first SIGTERM or SIGINT.
#[must_use]
pub fn on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => {
            tokio::spawn(watch(terminate, interrupt, token.clone()));
        }
        (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "signals cannot be watched"),
    }
    token
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("shutting down; a second signal ends at once");
    token.cancel();
    either(&mut terminate, &mut interrupt).await;
    std::process::exit(IMPATIENT_EXIT_CODE);
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
