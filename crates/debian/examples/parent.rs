//! Makes a parent image and says how long each stage takes: `parent <store> [amd64|arm64]`.
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::time::Instant;

use longshore_debian::{ParentRequest, Sources, assemble, fetch, plan};
use longshore_fetch::{FetchConfig, Fetcher};
use longshore_layer::Format;
use longshore_oci::Arch;
use longshore_store::{BlobStore, Table};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("usage: parent <store> [amd64|arm64]")?;
    let arch = match arguments.next().as_deref() {
        Some("arm64") => Arch::Arm64,
        Some("amd64") => Arch::Amd64,
        _ => Arch::host().ok_or("name an architecture")?,
    };
    let (blobs, table) = (BlobStore::open(format!("{root}/blobs"))?, Table::open(format!("{root}/table"))?);
    let fetcher = Fetcher::new(FetchConfig::default());
    let start = Instant::now();
    let request = ParentRequest::python(arch, Sources::from_system()?);
    let plan = plan(&request, &fetcher, &blobs, &table, &|_| ()).await?;
    let planned = Instant::now();
    fetch(&plan, &fetcher, &blobs, &|_| ()).await?;
    let downloaded = Instant::now();
    let parent = tokio::task::spawn_blocking({
        let (plan, blobs) = (plan.clone(), blobs.clone());
        move || assemble(&plan, Format::Plain, &blobs, &blobs, &|_| ())
    })
    .await??;
    let made = Instant::now();
    println!("{} for {arch}, key {}", plan.distribution, plan.key().short());
    println!("{} packages, {} bytes", plan.packages.len(), plan.download_size());
    for layer in &parent.layers {
        println!(
            "{:22} {} {:>9} of {:>9} bytes, {} entries",
            layer.group.to_string(),
            layer.digest.short(),
            layer.size,
            layer.uncompressed_size,
            layer.entries
        );
    }
    let sum = |of: fn(&longshore_debian::ParentLayer) -> u64| parent.layers.iter().map(of).sum::<u64>();
    println!("layers: {} of {} bytes", sum(|layer| layer.size), sum(|layer| layer.uncompressed_size));
    println!("python: {:?}, {} modules", parent.python.map(|it| it.version), parent.python_sources.len());
    println!("scripts not run: {:?}", parent.scripts_not_run);
    println!(
        "plan {:.2?}, fetch {:.2?}, assemble {:.2?}",
        planned - start,
        downloaded - planned,
        made - downloaded
    );
    Ok(())
}
