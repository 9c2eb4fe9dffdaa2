//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The exit code of a process that was interrupted twice.
const INTERRUPTED: i32 = 130;

/// A token that the first signal cancels.
pub fn on_signal(tracker: &TaskTracker) -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let cancel = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = cancel.clone();
    let ended = cancel.child_token();
    tracker.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            // Somebody else ended the work: nothing is left to be asked for.
            () = ended.cancelled() => return,
        }
        tracing::info!("stopping: what is in hand is finished first (once more to stop at once)");
        token.cancel();
    });
    let again = cancel.clone();
    std::thread::Builder::new().name("second-signal".into()).spawn(move || second_signal(&again))?;
    Ok(cancel)
}

/// Waits for a signal after the first, on a thread that dies with the process: draining must not depend on it.
fn second_signal(first: &CancellationToken) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    runtime.block_on(async {
        first.cancelled().await;
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED);
        }
    });
}
