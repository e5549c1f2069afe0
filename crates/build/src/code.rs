//! The code layer: the source tree at `/app`.

use std::io::Write;

use longshore_layer::{Entry, EntryPath, LAYOUT_VERSION, LayerSummary, LayerWriter};
use longshore_oci::Digest;
use serde::Serialize;

use crate::{
    BuildError,
    image::APP,
    source::{SourceKind, SourceTree},
};

/// Everything that the bytes of a code layer depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CodeKey {
    layout: u32,
    tree: Digest,
}

impl CodeKey {
    pub(crate) fn of(tree: &SourceTree) -> Self {
        Self { layout: LAYOUT_VERSION, tree: tree.digest() }
    }
}

/// Writes the layer. Files are root's and readable by all: a step may run as any user.
pub(crate) fn write<W: Write>(
    tree: &SourceTree,
    mut layer: LayerWriter<W>,
) -> Result<(W, LayerSummary), BuildError> {
    let app = EntryPath::new(APP.trim_start_matches('/'))?;
    layer.add(&Entry::directory(app.clone()))?;
    for entry in &tree.entries {
        let path = app.join(&entry.path)?;
        match &entry.kind {
            SourceKind::Directory => layer.add(&Entry::directory(path))?,
            SourceKind::Symlink { target } => layer.add(&Entry::symlink(path, target))?,
            SourceKind::File { executable, size, .. } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let mut content = tree.open(entry)?;
                let written = layer.file_from(&Entry::file(path, mode), *size, &mut content);
                // That the file changed is why it could not be written, if it did.
                content.check()?;
                written?;
            }
        }
    }
    Ok(layer.finish()?)
}
