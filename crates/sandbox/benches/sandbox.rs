//! What a start costs, and what unpacking a layer of the size of pandas and scikit-learn costs.
//!
//! `cargo bench -p longshore-sandbox`; as root also for an ordinary user: `setpriv --reuid=12345
//! --regid=12345 --clear-groups` before the program that cargo names. Needs a static busybox.

use std::{path::Path, time::Instant};

use longshore_layer::{Entry, EntryPath, LayerWriter};
use longshore_oci::{Digest, MediaType};
use longshore_sandbox::{Container, Process, Sandbox, Snapshots, Streams};

const FILES: u32 = 6500;
const FILE: usize = 41_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    longshore_sandbox::enter_if_asked();
    let folder = tempfile::tempdir()?;
    starts(folder.path())?;
    unpacking(folder.path())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn starts(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let layer = folder.join("layer");
    std::fs::create_dir_all(layer.join("bin"))?;
    std::fs::copy("/bin/busybox", layer.join("bin/true"))?;
    let sandbox = Sandbox {
        layers: vec![layer],
        scratch: folder.join("scratch"),
        container: Container::new(Process::new(["true"])),
    };
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        let mut running = sandbox.spawn(Streams::captured())?;
        let started = start.elapsed();
        running.wait()?;
        times.push((started, start.elapsed()));
    }
    times.sort();
    let (started, ended) = times[times.len() / 2];
    println!("start: {started:.1?} until `true` runs, {ended:.1?} until it is cleaned up (median of 100)");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn unpacking(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (layer, diff_id) = layer()?;
    for round in 0..3 {
        let snapshots = Snapshots::open(folder.join(format!("snapshots-{round}")))?;
        let start = Instant::now();
        snapshots.unpack(&diff_id, &MediaType::LayerGzip, &layer[..])?;
        let time = start.elapsed();
        let megabytes = f64::from(FILES) * 0.041;
        println!(
            "unpack: {FILES} files, {megabytes:.0} MB in {time:.2?}, {:.0} MB/s",
            megabytes / time.as_secs_f64()
        );
    }
    Ok(())
}

/// A layer with files that compress about threefold, as compiled Python packages do.
fn layer() -> Result<(Vec<u8>, Digest), Box<dyn std::error::Error>> {
    let mut state = 1_u64;
    let mut words = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = (state >> 33) % 4096;
        format!("{word:x} value ").into_bytes()
    };
    let mut writer = LayerWriter::new(Vec::new());
    for number in 0..FILES {
        let mut content = Vec::with_capacity(FILE + 16);
        while content.len() < FILE {
            content.extend(words());
        }
        content.truncate(FILE);
        let path =
            format!("opt/venv/lib/python3.11/site-packages/p{:03}/m{:03}.py", number / 65, number % 65);
        writer.file(&Entry::file(EntryPath::new(&path)?, 0o644), &content)?;
    }
    let (layer, summary) = writer.finish()?;
    Ok((layer, summary.diff_id))
}
