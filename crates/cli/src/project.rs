//! The project's file of settings: found, and read.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use longshore_pipeline::{SETTINGS_FILES, SettingsFile};

use crate::failure::Failure;

/// A file of settings is a page or two; what is larger is something else.
const LARGEST: u64 = 1 << 20;

/// The settings of the file that is named, or else of the one that is found from the folder of code upward.
pub(crate) fn settings(named: Option<&Path>, source_root: &Path) -> Result<Option<SettingsFile>, Failure> {
    let Some(path) = named else { return find(source_root) };
    let path = env::current_dir()?.join(path);
    match read(&path)? {
        Some(file) => Ok(Some(file)),
        None => Err(Failure::Usage(format!("{} has no table tool.longshore", path.display()))),
    }
}

/// Looks in a folder, then in those around it. The search ends with the first file that is found, with the repository (the
/// folder that has `.git`), with the home folder, and before a folder that is another user's or that everyone may write to:
/// whoever could put a file there could choose what is built here.
fn find(source_root: &Path) -> Result<Option<SettingsFile>, Failure> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let root = source_root
        .canonicalize()
        .map_err(|error| Failure::Usage(format!("the folder of code {}: {error}", source_root.display())))?;
    let owner = fs::metadata(&root)?.uid();
    for folder in root.ancestors() {
        let there = fs::metadata(folder)?;
        if folder != root && (there.uid() != owner || there.mode() & 0o002 != 0) {
            break;
        }
        let mut found: Option<SettingsFile> = None;
        for name in SETTINGS_FILES {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let Some(file) = read(&path)? else { continue };
            if let Some(first) = found {
                return Err(Failure::Usage(format!(
                    "{} and {} both have settings; put them into one",
                    first.path.display(),
                    file.path.display(),
                )));
            }
            found = Some(file);
        }
        let last = folder.join(".git").exists() || home.as_deref() == Some(folder);
        if found.is_some() || last {
            return Ok(found);
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<SettingsFile>, Failure> {
    let wrong = |error: io::Error| Failure::Usage(format!("the settings {}: {error}", path.display()));
    if fs::metadata(path).map_err(wrong)?.len() > LARGEST {
        return Err(Failure::Usage(format!(
            "the settings {}: the file is larger than 1 MiB",
            path.display()
        )));
    }
    let text = fs::read_to_string(path).map_err(wrong)?;
    SettingsFile::parse(path, &text).map_err(|error| Failure::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn user(found: Option<SettingsFile>) -> Option<String> {
        found?.docker.user
    }

    fn write(root: &Path, file: &str, user: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("[docker]\nuser = '{user}'\n")).unwrap();
    }

    #[test]
    fn the_nearest_file_is_taken_and_the_repository_is_the_end() {
        let root = tempfile::tempdir().unwrap();
        let (outer, code) = (root.path(), root.path().join("project/src"));
        fs::create_dir_all(&code).unwrap();
        assert_eq!(user(find(&code).unwrap()), None);
        write(outer, "longshore.toml", "outer");
        assert_eq!(user(find(&code).unwrap()).as_deref(), Some("outer"));
        fs::create_dir(outer.join("project/.git")).unwrap();
        assert_eq!(user(find(&code).unwrap()), None);
        write(outer, "project/longshore.toml", "project");
        assert_eq!(user(find(&code).unwrap()).as_deref(), Some("project"));
        // Of a pyproject.toml that says nothing of longshore, nothing is taken.
        fs::write(code.join("pyproject.toml"), "[project]\nname = 'a'\n").unwrap();
        assert_eq!(user(find(&code).unwrap()).as_deref(), Some("project"));
        fs::write(code.join("pyproject.toml"), "[tool.longshore.docker]\nuser = 'code'\n").unwrap();
        assert_eq!(user(find(&code).unwrap()).as_deref(), Some("code"));
        write(&code, "longshore.toml", "twice");
        assert!(matches!(find(&code), Err(Failure::Usage(said)) if said.contains("both have settings")));
        let named = settings(Some(&outer.join("longshore.toml")), &code).unwrap();
        assert_eq!(user(named).as_deref(), Some("outer"));
    }

    #[test]
    fn a_folder_that_everyone_may_write_to_is_not_looked_into() {
        let root = tempfile::tempdir().unwrap();
        let code = root.path().join("code");
        fs::create_dir(&code).unwrap();
        write(root.path(), "longshore.toml", "another");
        assert_eq!(user(find(&code).unwrap()).as_deref(), Some("another"));
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(user(find(&code).unwrap()), None);
    }

    #[test]
    fn a_named_file_must_be_one() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("pyproject.toml");
        assert!(matches!(settings(Some(&file), root.path()), Err(Failure::Usage(_))));
        fs::write(&file, "").unwrap();
        let said = settings(Some(&file), root.path());
        assert!(matches!(said, Err(Failure::Usage(said)) if said.contains("no table tool.longshore")));
    }
}
