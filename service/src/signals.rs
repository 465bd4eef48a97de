//! SIGTERM and Ctrl-C, and SIGHUP.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Waits for SIGTERM or SIGINT and names it.
///
/// # Errors
/// When the handlers cannot be installed.
pub async fn shutdown() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Counts SIGHUPs: "look at your files again". Without it the signal would end the process.
///
/// # Errors
/// When the handler cannot be installed.
pub fn hangups(tasks: &TaskTracker, cancel: CancellationToken) -> std::io::Result<watch::Receiver<u64>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (count, counted) = watch::channel(0);
    tasks.spawn(async move {
        while let Some(Some(())) = cancel.run_until_cancelled(hangup.recv()).await {
            tracing::info!("SIGHUP: looking at the files again");
            count.send_modify(|n| *n += 1);
        }
    });
    Ok(counted)
}
