//! Bytecode layers: every module compiled ahead, by the interpreter of the image, to the same bytes every time.
//!
//! The files are PEP 552 unchecked-hash `.pyc`: they carry the hash of their source, and the interpreter takes them
//! without looking at the source's time or content. Sources reach the interpreter through a pipe, so compiling needs no
//! file of the image but the interpreter's own.

mod compiler;
mod marshal;

use std::io::Write;

use longshore_layer::{Entry, EntryPath, LayerSummary, LayerWriter};

pub use compiler::{Compiler, Ending, Interpreter, Process, Program};

use crate::error::Error;

/// Raised when the same sources are to become another layer.
pub const LAYOUT_VERSION: u32 = 1;

/// What a bytecode layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytecodeSummary {
    /// The layer.
    pub layer: LayerSummary,
    /// How many sources were compiled.
    pub compiled: u64,
    /// How many were not, because they are not valid for this Python (templates, tests of parsers).
    pub skipped: u64,
}

/// Whether a path is that of a Python source.
pub fn is_source(path: &EntryPath) -> bool {
    path.name().strip_suffix(".py").is_some_and(|stem| !stem.is_empty())
}

/// Where the bytecode of a source goes: `a/__pycache__/b.cpython-311.pyc` for `a/b.py` (PEP 3147).
pub fn cached(source: &EntryPath, python_minor: u8) -> Result<EntryPath, Error> {
    let stem = source.name().strip_suffix(".py").unwrap_or(source.name());
    let name = format!("__pycache__/{stem}.cpython-3{python_minor}.pyc");
    Ok(match source.parent() {
        Some(folder) => folder.join(&name)?,
        None => EntryPath::new(&name)?,
    })
}

/// Compiles `sources`, each a path in the image and what `read` finds its text by, and writes the bytecode as a layer.
///
/// Sources are read when it is their turn; a few megabytes of them are on their way at a time.
pub fn write_layer<T, W: Write>(
    compiler: &Compiler,
    sources: impl IntoIterator<Item = (EntryPath, T)>,
    mut read: impl FnMut(&T) -> Result<Vec<u8>, Error>,
    out: impl Into<LayerWriter<W>>,
) -> Result<(W, BytecodeSummary), Error> {
    let mut jobs = Vec::new();
    for (source, what) in sources {
        jobs.push((cached(&source, compiler.python().minor)?, source, what));
    }
    // A layer is in order of its own paths, which is not the order of the sources.
    jobs.sort_by(|a, b| a.0.cmp(&b.0));
    let mut layer = out.into();
    let mut made = 0;
    let mut skipped = 0;
    let texts = jobs.iter().map(|(_, source, what)| Ok((source.clone(), read(what)?)));
    let mut targets = jobs.iter().map(|(target, _, _)| target);
    compiler.compile(texts, |bytecode| {
        let target = targets.next();
        match (bytecode, target) {
            (Some(bytecode), Some(target)) => {
                made += 1;
                layer.file(&Entry::file(target.clone(), 0o644), &bytecode)?;
            }
            _ => skipped += 1,
        }
        Ok(())
    })?;
    let (out, layer) = layer.finish()?;
    Ok((out, BytecodeSummary { layer, compiled: made, skipped }))
}
