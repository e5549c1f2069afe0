//! Pushes the image in an OCI image layout, or pulls one into it:
//! `transfer push FOLDER REFERENCE`, `transfer pull REFERENCE FOLDER`.
//! With `TRANSFER_CONNECTIONS=n`, n blobs at a time. Credentials are those of docker and podman.

#[path = "../tests/support/layout.rs"]
mod layout;

use std::{error::Error, path::Path, sync::Arc};

use longshore_auth::{DockerConfig, Environment, Sources};
use longshore_client::{
    Client, ClientConfig, ImageSink, ImageSource, Observer, Selection, ignore, pull, push,
};
use longshore_oci::{Platform, Reference};

use layout::Layout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = ClientConfig::default();
    if let Ok(parallel) = std::env::var("TRANSFER_CONNECTIONS") {
        config.parallel = parallel.parse()?;
    }
    let logins = DockerConfig::discover(&Environment::process())?;
    config.credentials = Sources(vec![Arc::new(logins)]);
    let client = Client::new(config);
    let observer: Arc<Observer> = Arc::new(ignore);
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["push", folder, reference] => {
            let image: Arc<dyn ImageSource> = Arc::new(Layout::open(Path::new(folder))?);
            let destination: Reference = reference.parse()?;
            push(&client, image, &[destination], &[], &observer).await?;
        }
        ["pull", reference, folder] => {
            let sink: Arc<dyn ImageSink> = Arc::new(Layout::create(Path::new(folder))?);
            let reference: Reference = reference.parse()?;
            let platform = Selection::Platform("linux/amd64".parse::<Platform>()?);
            pull(&client, &reference, &platform, &sink, &observer).await?;
        }
        _ => return Err("usage: transfer push FOLDER REFERENCE | transfer pull REFERENCE FOLDER".into()),
    }
    Ok(())
}
