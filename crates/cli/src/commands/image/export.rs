//! `longshore image export`: an image as one file.

use std::{
    fs::Permissions,
    io::{self, BufWriter, IsTerminal},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use longshore_oci::Reference;
use longshore_store::{ArchiveFormat, Registry};

use super::Found;
use crate::{args, failure::Failure};

/// Writes the archive whole or not at all.
pub(crate) fn export(
    registry: &Registry,
    found: &Found,
    image: &Reference,
    format: args::ArchiveFormat,
    file: &Path,
) -> Result<(), Failure> {
    let format = match format {
        args::ArchiveFormat::Oci => ArchiveFormat::Oci,
        args::ArchiveFormat::Docker => ArchiveFormat::Docker,
    };
    if file == Path::new("-") {
        let out = io::stdout().lock();
        if out.is_terminal() {
            return Err(Failure::Usage(
                "an archive is not for a terminal; name a file with --file".to_owned(),
            ));
        }
        return Ok(registry.export(&found.repository, image, &found.stored, format, BufWriter::new(out))?);
    }
    let cannot =
        |source: io::Error| Failure::Failed(format!("cannot write {}: {source}", file.display()).into());
    // Written beside its final name, so that an interrupted export leaves no half archive.
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".longshore-export-")
        .permissions(Permissions::from_mode(0o666)) // as the umask allows
        .tempfile_in(folder)
        .map_err(cannot)?;
    registry.export(&found.repository, image, &found.stored, format, BufWriter::new(temporary.as_file()))?;
    temporary.persist(file).map_err(|error| cannot(error.error))?;
    Ok(())
}
