//! When a process is to stop: on a signal, or when its parent is gone. I/O: signals and standard input.

use std::{env, io::Read as _, thread};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Set to `1` by a supervisor that holds the write end of our standard input: when that closes, the supervisor is gone, however it died.
pub const PARENT_PIPE: &str = "ADX_FEDERATION_PARENT_PIPE";

/// A token that is cancelled by SIGTERM, SIGINT or the parent's end. Must be called within a tokio runtime.
///
/// # Errors
/// If the process cannot listen to signals.
pub fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
            tracing::info!(signal = name, "stopping");
        });
    }
    if env::var_os(PARENT_PIPE).is_some_and(|value| value == "1") {
        stop_with_parent(stop.clone());
    }
    Ok(stop)
}

/// Reads standard input to its end. A thread of its own: a blocking read in the runtime's pool would keep the process from ending.
fn stop_with_parent(stop: CancellationToken) {
    thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = [0; 256];
        while matches!(input.read(&mut buffer), Ok(1..)) {}
        stop.cancel();
        tracing::info!("asked to stop by the supervisor, or it is gone");
    });
}
