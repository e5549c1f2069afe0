//! Servers that live as long as their handle.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    thread::JoinHandle,
};

use axum::Router;
use tokio::{net::TcpListener, sync::oneshot};

/// A server on a free port of the loopback interface, in a thread of its own: it serves tests that are asynchronous and
/// tests that wait for a program alike. Dropping it ends it, with all its connections.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Serves a router.
    pub fn router(router: Router) -> io::Result<Self> {
        Self::start(|listener| async move {
            // It ends only with its runtime; an error of a single connection does not end it.
            let _ = axum::serve(listener, router).await;
        })
    }

    /// Runs what `serve` makes of a listener, until the handle is dropped.
    pub fn start<F>(serve: impl FnOnce(TcpListener) -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // What was dropped on the other side has ended already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
