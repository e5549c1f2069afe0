//! This machine: what every build needs of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Check, Finding};

/// Below so many free bytes a build of ordinary size runs out of space.
const LITTLE_SPACE: u64 = 2 << 30;

/// Whether a folder that longshore keeps things in can be written, and has room.
pub fn folder(what: &str, path: &Path) -> Finding {
    let shown = path.display().to_string();
    let remedy = || "check its owner and mode, or set LONGSHORE_HOME to a folder of your own".to_owned();
    let tried = fs::create_dir_all(path).and_then(|()| tempfile::tempfile_in(path).map(drop));
    if let Err(error) = tried {
        let message = format!("the {what} folder cannot be written: {error}");
        return Finding::error(Check::Machine, shown, message, Some(remedy()));
    }
    match free_space(path) {
        Ok(free) if free < LITTLE_SPACE => {
            let message = format!("only {:.1} GB are free in the {what} folder", gigabytes(free));
            Finding::warning(Check::Machine, shown, message, "free some space, or set LONGSHORE_HOME")
        }
        Ok(free) => {
            let message = format!("the {what} folder can be written, {:.0} GB are free", gigabytes(free));
            Finding::ok(Check::Machine, shown, message)
        }
        Err(_) => Finding::ok(Check::Machine, shown, format!("the {what} folder can be written")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn free_space(path: &Path) -> io::Result<u64> {
    let figures = rustix::fs::statvfs(path)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Whether a file of secrets can be read by its owner only.
pub fn private_file(what: &str, path: PathBuf) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o777;
    let shown = path.display().to_string();
    Some(if mode & 0o077 == 0 {
        Finding::ok(Check::Machine, shown, format!("{what} can be read by its owner only"))
    } else {
        let message = format!("{what} can be read by others (mode {mode:o})");
        Finding::error(Check::Machine, shown.clone(), message, Some(format!("chmod 600 {shown}")))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::Level;

    #[test]
    fn a_folder_is_tried() {
        let folder_ = tempfile::tempdir().unwrap();
        assert_ne!(folder("data", folder_.path()).level, Level::Error);
        let file = folder_.path().join("file");
        fs::write(&file, "").unwrap();
        let finding = folder("data", &file);
        assert_eq!(finding.level, Level::Error);
        assert!(finding.remedy.unwrap().contains("LONGSHORE_HOME"));
    }

    #[test]
    fn a_key_that_others_can_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        assert_eq!(private_file("the key", key.clone()), None);
        fs::write(&key, "secret").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let finding = private_file("the key", key.clone()).unwrap();
        assert_eq!(
            (finding.level, finding.remedy),
            (Level::Error, Some(format!("chmod 600 {}", key.display())))
        );
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(private_file("the key", key).unwrap().level, Level::Ok);
    }
}
