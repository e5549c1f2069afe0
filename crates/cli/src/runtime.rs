//! Waiting for asynchronous work, and for Ctrl-C.

use std::{future::Future, io, pin::Pin, time::Duration};

use crate::failure::Failure;

/// Does the work, unless Ctrl-C or a request to terminate comes first: then everything that it had begun is dropped.
/// Half-written files have no names yet, and what it runs ends with it.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        tokio::select! {
            result = work => result,
            () = stop => Err(Failure::Interrupted),
        }
    });
    // Threads that are in the middle of a layer are not waited for.
    runtime.shutdown_timeout(if result.is_ok() { Duration::from_secs(1) } else { Duration::ZERO });
    result
}

/// Ends at the next Ctrl-C or request to terminate.
pub(crate) fn stop() -> io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
    Ok(Box::pin(stop_signal()?))
}

/// Ends when the user or the system asks this program to.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {},
            _ = terminate.recv() => {},
            _ = hangup.recv() => {},
        }
    })
}

/// Does work that goes on until Ctrl-C or a request to terminate, which it is told of.
pub(crate) fn serve(
    work: impl AsyncFnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { work(Box::pin(stop_signal()?)).await })
}

/// Calls `stop` at each Ctrl-C or request to terminate while the work, which blocks, is done on another thread.
pub(crate) fn block_on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    stop: impl Fn(),
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut work = tokio::task::spawn_blocking(work);
        loop {
            let stopped = stop_signal()?;
            tokio::select! {
                result = &mut work => return result.unwrap_or(Err(Failure::Said)),
                () = stopped => stop(),
            }
        }
    })
}
