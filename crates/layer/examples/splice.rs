//! Splices the entries of a zip archive into a layer: `cargo run --example splice -- IN.whl OUT.tar.gz`.
#![allow(missing_docs, reason = "a program")]
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{env, error::Error, fs::File};

use longshore_layer::{Entry, LayerWriter, zip::Archive};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, output] = &arguments[..] else { return Err("usage: splice IN.whl OUT.tar.gz".into()) };
    let mut archive = Archive::open(File::open(input)?)?;
    // A layer's entries come in the order of their paths.
    let mut order: Vec<_> = archive.entries().iter().cloned().enumerate().collect();
    order.sort_by(|(_, left), (_, right)| left.path.cmp(&right.path));
    let mut writer = LayerWriter::new(File::create(output)?);
    for (index, entry) in order {
        if entry.is_dir() {
            writer.add(&Entry::directory(entry.path))?;
        } else {
            writer.splice(&Entry::file(entry.path, 0o644), &mut archive, index)?;
        }
    }
    let (_, summary) = writer.finish()?;
    println!("{} entries, {} bytes, diff_id {}", summary.entries, summary.uncompressed_size, summary.diff_id);
    Ok(())
}
