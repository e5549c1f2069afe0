//! Serves the registry in a folder: `serve FOLDER ADDRESS:PORT`, until SIGINT or SIGTERM.

use longshore_registry::{RegistryError, ServeConfig, serve};
use longshore_store::Registry;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(listen)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve FOLDER ADDRESS:PORT".into());
    };
    let registry = Registry::open(folder).map_err(RegistryError::from)?;
    let config = ServeConfig { listen: listen.parse()?, ..ServeConfig::default() };
    Ok(serve(registry, config).await?)
}
