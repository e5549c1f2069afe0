//! `longshore registry`

use std::net::SocketAddr;

use longshore_build::cache;
use longshore_registry::{Exposure, ServeConfig, Server};

use crate::{
    context::{Context, URI},
    failure::Failure,
    runtime,
};

/// `longshore registry serve`: serves until Ctrl-C or a request to terminate; requests under way are finished.
pub(crate) fn serve(context: &Context, listen: SocketAddr, insecure_anyone: bool) -> Result<(), Failure> {
    let registry = context.registry()?;
    // What is being pushed is not taken for something that no image needs.
    let _serving = cache::serving(&context.home.registry());
    let exposure = if insecure_anyone { Exposure::Anyone } else { Exposure::Loopback };
    let folder = registry.blobs().root().display().to_string();
    let config = ServeConfig { listen, exposure, ..ServeConfig::default() };
    runtime::serve(async |stop| {
        let server = Server::bind(registry, config).await?;
        let address = server.address();
        anstream::eprintln!("serving {folder} at http://{address}");
        if address.to_string() != URI.replace("localhost", "127.0.0.1") {
            anstream::eprintln!("images that are called {URI}/… here are {address}/… there");
        }
        Ok(server.run(stop).await?)
    })
}
