//! The controller's image: this very program, on the parent that longshore makes from Debian packages.
//!
//! The program is linked with the C library dynamically, so it needs a parent with one at least as new as that of the machine it was
//! built on. In the builder's words it is an image like any other: a folder of code that holds one file.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// What the controller's container runs; where the code of an image is, is the image's layout.
pub const COMMAND: [&str; 3] = ["/app/longshore", "cluster", "run"];
/// The repository of the image below a registry's URI.
pub const REPOSITORY: &str = "longshore-controller";

/// Makes the folder of code of the controller's image in `folder`, which has to exist: the program, as `longshore`.
///
/// It is a copy: a link would change the program's own status, which another build that reads it takes for a change of the program.
pub fn source(program: &Path, folder: &Path) -> io::Result<PathBuf> {
    let file = folder.join("longshore");
    fs::copy(program, &file)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_folder_holds_the_program_and_nothing_else() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = from.path().join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let file = source(&program, to.path()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"#!/bin/sh\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o111, 0o111);
        assert_eq!(fs::metadata(&program).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    }
}
