//! The runtime layer: the virtual environment's frame and longshore's own Python package.

use std::io::Write;

use longshore_layer::{Entry, EntryPath, LAYOUT_VERSION, LayerSummary, LayerWriter};
use longshore_oci::{Digest, Digester};
use longshore_python::{VENV, target::PythonVersion, venv};
use serde::Serialize;

use crate::{BuildError, parent::PythonFacts};

/// The modules of the package, by path: embedded, so that the program alone can build an image.
static SDK: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Everything that the bytes of a runtime layer depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuntimeKey {
    layout: u32,
    venv: u32,
    python: PythonFacts,
    sdk: Digest,
}

impl RuntimeKey {
    pub(crate) fn of(python: &PythonFacts) -> Self {
        let mut sdk = Digester::new();
        for (path, content) in SDK {
            sdk.update(path.as_bytes());
            sdk.update(Digest::of(content).as_bytes());
        }
        Self { layout: LAYOUT_VERSION, venv: venv::LAYOUT_VERSION, python: python.clone(), sdk: sdk.finish() }
    }
}

/// Where the package's modules are in an image.
fn site_packages(python: PythonVersion) -> String {
    format!("{}/lib/python{}/site-packages", VENV.trim_start_matches('/'), python.short())
}

/// The package's Python modules, by path in the image.
pub(crate) fn modules(python: PythonVersion) -> Vec<(EntryPath, &'static [u8])> {
    let root = site_packages(python);
    SDK.iter()
        .filter(|(path, _)| path.ends_with(".py"))
        .filter_map(|(path, content)| Some((EntryPath::new(&format!("{root}/{path}")).ok()?, *content)))
        .collect()
}

/// Writes the layer.
pub(crate) fn write<W: Write>(python: &PythonFacts, out: W) -> Result<(W, LayerSummary), BuildError> {
    let root = site_packages(python.version);
    let mut entries: Vec<(Entry, Vec<u8>)> = venv::frame(python.version, &python.executable)?;
    for (path, content) in SDK {
        let path = EntryPath::new(&format!("{root}/{path}"))?;
        entries.push((Entry::file(path, 0o644), content.to_vec()));
    }
    entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let mut layer = LayerWriter::new(out);
    for (entry, content) in &entries {
        match entry.kind {
            longshore_layer::Kind::File => layer.file(entry, content)?,
            _ => layer.add(entry)?,
        }
    }
    Ok(layer.finish()?)
}
