//! Turns SIGTERM and SIGINT into a token: the first asks everybody to stop, a second one does not wait.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal: what shells report for a process ended by SIGINT.
pub const IMPATIENT_EXIT_CODE: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT; the second one ends the process at once. To be called
/// inside a tokio runtime, once.
#[must_use]
pub fn on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    match signals {
        Ok((term, interrupt)) => {
            let exit = || std::process::exit(IMPATIENT_EXIT_CODE);
            tokio::spawn(heed(term, interrupt, token.clone(), exit));
        }
        Err(error) => tracing::error!(%error, "signals cannot be heard: the process can only be killed"),
    }
    token
}

async fn heed(mut term: Signal, mut interrupt: Signal, token: CancellationToken, exit: impl FnOnce()) {
    let name = either(&mut term, &mut interrupt).await;
    tracing::info!("{name}: stopping (a second signal ends the process at once)");
    token.cancel();
    let name = either(&mut term, &mut interrupt).await;
    tracing::warn!("{name} again: ending at once");
    exit();
}

async fn either(term: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_ends() {
        let term = signal(SignalKind::terminate()).unwrap();
        let interrupt = signal(SignalKind::interrupt()).unwrap();
        let (token, ended) = (CancellationToken::new(), CancellationToken::new());
        let heeding = tokio::spawn(heed(term, interrupt, token.clone(), {
            let ended = ended.clone();
            move || ended.cancel()
        }));
        assert!(!token.is_cancelled());
        kill_process(getpid(), Number::TERM).unwrap();
        token.cancelled().await;
        assert!(!ended.is_cancelled(), "one signal only asks");
        kill_process(getpid(), Number::INT).unwrap();
        ended.cancelled().await;
        heeding.await.unwrap();
    }
}
