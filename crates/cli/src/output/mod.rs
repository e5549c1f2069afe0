//! What is printed, and how.

pub(crate) mod facts;
pub(crate) mod findings;
pub(crate) mod graph;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod quantity;
pub(crate) mod steps;
pub(crate) mod table;
pub(crate) mod transfer;

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::args::DataFormat;

/// Writes a value for programs.
pub(crate) fn data(format: DataFormat, value: &impl Serialize) -> io::Result<()> {
    match format {
        DataFormat::Json => json(value),
        DataFormat::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
            line(text.trim_end())
        }
    }
}

/// Writes a value as indented JSON on standard output.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    // Standard output is written line by line otherwise, and what an orchestrator is given can have thousands.
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Writes a line on standard output.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
