//! The layers that every image has: the frame of the virtual environment, and longshore's own Python package.

use std::io::Write;

use longshore_layer::{Entry, EntryPath, LAYOUT_VERSION, LayerSummary, LayerWriter};
use longshore_oci::{Digest, Digester};
use longshore_python::{
    bytecode::{self, Compiler},
    entry_points::Script,
    install::Venv,
    layers::write_venv,
    plan::VenvLayerKey,
    target::PythonVersion,
};
use serde::Serialize;

use crate::{BuildError, parent::PythonFacts};

/// The modules of the package, by path: embedded, so that the program alone can build an image.
static SDK: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Everything that the bytes of these layers depend on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuntimeKey {
    Venv(VenvLayerKey),
    Sdk { layout: u32, minor: u8, sdk: Digest },
    SdkBytecode { layout: u32, bytecode: u32, python: PythonVersion, sdk: Digest },
}

impl RuntimeKey {
    pub(crate) fn venv(python: &PythonFacts, scripts: &[Script]) -> Self {
        Self::Venv(VenvLayerKey::new(&Venv::in_image(python.version), &python.executable, scripts))
    }

    pub(crate) fn sdk(python: &PythonFacts) -> Self {
        Self::Sdk { layout: LAYOUT_VERSION, minor: python.version.minor, sdk: sdk_digest() }
    }

    pub(crate) fn sdk_bytecode(python: &PythonFacts) -> Self {
        let python = python.version;
        Self::SdkBytecode {
            layout: LAYOUT_VERSION,
            bytecode: bytecode::LAYOUT_VERSION,
            python,
            sdk: sdk_digest(),
        }
    }
}

fn sdk_digest() -> Digest {
    let mut digester = Digester::new();
    for (path, content) in SDK {
        digester.update(path.as_bytes());
        digester.update(Digest::of(content).as_bytes());
    }
    digester.finish()
}

/// Writes the frame of the virtual environment, with the scripts of packages that the parent has.
pub(crate) fn venv<W: Write>(
    python: &PythonFacts,
    scripts: &[Script],
    out: LayerWriter<W>,
) -> Result<(W, LayerSummary), BuildError> {
    Ok(write_venv(&Venv::in_image(python.version), &python.executable, scripts, out)?)
}

/// The package's files, by path in the image, in the order of a layer.
fn files(python: PythonVersion) -> Result<Vec<(EntryPath, &'static [u8])>, BuildError> {
    let venv = Venv::in_image(python);
    let root = venv.prefix().join(&venv.site_packages())?;
    let mut files = SDK
        .iter()
        .map(|(path, content)| Ok((root.join(path)?, *content)))
        .collect::<Result<Vec<_>, BuildError>>()?;
    files.sort();
    Ok(files)
}

/// Writes the package.
pub(crate) fn sdk<W: Write>(
    python: &PythonFacts,
    mut layer: LayerWriter<W>,
) -> Result<(W, LayerSummary), BuildError> {
    for (path, content) in files(python.version)? {
        layer.file(&Entry::file(path, 0o644), content)?;
    }
    Ok(layer.finish()?)
}

/// Writes the package's bytecode.
pub(crate) fn sdk_bytecode<W: Write>(
    compiler: &Compiler,
    out: LayerWriter<W>,
) -> Result<(W, LayerSummary), BuildError> {
    let mut sources = files(compiler.python())?;
    sources.retain(|(path, _)| bytecode::is_source(path));
    let (out, summary) = bytecode::write_layer(compiler, sources, |content| Ok(content.to_vec()), out)?;
    Ok((out, summary.layer))
}
