//! Listening.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::serve::ListenerExt;
use longshore_store::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{RegistryError, router};

/// How a registry is served.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The address to listen on; port 0 is one that is free.
    pub listen: SocketAddr,
    /// Who may reach it.
    pub exposure: Exposure,
    /// How long requests in flight may take once the server is to stop.
    pub drain: Duration,
    /// After how long without a byte an unfinished upload is removed.
    pub stale_upload: Duration,
}

/// Who may reach a server that authenticates nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Programs on this machine.
    #[default]
    Loopback,
    /// Whoever can reach the address.
    Anyone,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)),
            exposure: Exposure::Loopback,
            drain: Duration::from_secs(30),
            stale_upload: Duration::from_hours(24 * 7),
        }
    }
}

/// A server that is listening, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    registry: Registry,
    config: ServeConfig,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Begins to listen.
    pub async fn bind(registry: Registry, config: ServeConfig) -> Result<Self, RegistryError> {
        let address = config.listen;
        if !address.ip().to_canonical().is_loopback() && config.exposure != Exposure::Anyone {
            return Err(RegistryError::Exposed(address));
        }
        let failed = |source| RegistryError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { registry, config, listener, address })
    }

    /// The address, with the port that was found.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is done and the requests in flight are answered.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), RegistryError> {
        let Self { registry, config, listener, .. } = self;
        let uploads = registry.uploads().clone();
        let stale = tokio::task::spawn_blocking(move || uploads.remove_stale(config.stale_upload));
        match stale.await {
            Ok(Err(error)) => tracing::warn!(%error, "stale uploads could not be removed"),
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "stale uploads removed"),
        }
        let (stopping, mut stopped) = watch::channel(());
        let until_stopped = async move {
            stop.await;
            drop(stopping);
        };
        // Small answers must not wait for the next packet.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let serving =
            axum::serve(listener, router(registry)).with_graceful_shutdown(until_stopped).into_future();
        let overdue = async {
            // Nothing is ever sent: this ends when the sender is dropped.
            let _ = stopped.changed().await;
            tokio::time::sleep(config.drain).await;
        };
        tokio::select! {
            served = serving => served.map_err(RegistryError::Serve),
            () = overdue => Ok(()),
        }
    }
}

/// Serves a registry until SIGINT or SIGTERM.
pub async fn serve(registry: Registry, config: ServeConfig) -> Result<(), RegistryError> {
    let server = Server::bind(registry, config).await?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RegistryError::Serve)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RegistryError::Serve)?;
    tracing::info!(address = %server.address(), "the registry is listening");
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    server.run(stop).await
}
