//! Removing trees, and merging layers into one where overlay is not to be had.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// The attribute that hides the lower layers' part of a directory (overlayfs with `userxattr`).
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// Makes a directory opaque.
pub(crate) fn set_opaque(directory: impl std::os::fd::AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// Whether a directory is opaque.
pub(crate) fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 2];
    matches!(rustix::fs::getxattr(directory, OPAQUE, &mut value[..]), Ok(1) if value[0] == b'y')
}

/// Whether this is a whiteout of overlayfs: a character device 0/0.
pub(crate) fn is_whiteout(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Removes a file or a tree, if it exists. However deep a tree is, at most two levels of it are
/// open: what lies deeper is first moved up.
pub(crate) fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::symlink_metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return fs::remove_file(root),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let unique = crate::lease::random_name()?;
    let mut moved = 0_u64;
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.last().cloned() {
        make_writable(&directory)?;
        let mut deeper = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                deeper.push(entry.path());
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        if deeper.is_empty() {
            fs::remove_dir(&directory)?;
            pending.pop();
        }
        for child in deeper {
            make_writable(&child)?;
            let up = root.join(format!(".{unique}-{moved}"));
            moved += 1;
            fs::rename(&child, &up)?;
            pending.push(up);
        }
    }
    Ok(())
}

/// Gives the owner of a directory access to it: a tree may hold directories of mode 0, and overlayfs
/// leaves one in its work directory.
fn make_writable(directory: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(directory)?.permissions().mode();
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(mode | 0o700))
}

/// Copies layers, lowest first, into one tree at `target`, an empty directory.
pub(crate) fn merge(layers: &[PathBuf], target: &Path) -> Result<(), (PathBuf, io::Error)> {
    for layer in layers {
        let mut links = HashMap::new();
        let mut directories = vec![PathBuf::new()];
        let mut finished = Vec::new();
        while let Some(directory) = directories.pop() {
            let from = layer.join(&directory);
            merge_directory(
                &from,
                &target.join(&directory),
                &directory,
                target,
                &mut links,
                &mut directories,
            )
            .map_err(|error| (from.clone(), error))?;
            finished.push(directory);
        }
        // A directory's own metadata comes last: filling it changes its time, and it may be read-only.
        for directory in finished.into_iter().rev().filter(|directory| !directory.as_os_str().is_empty()) {
            let from = layer.join(&directory);
            fs::symlink_metadata(&from)
                .and_then(|metadata| copy_metadata(&target.join(&directory), &metadata))
                .map_err(|error| (from, error))?;
        }
    }
    Ok(())
}

fn merge_directory(
    from: &Path,
    to: &Path,
    relative: &Path,
    target: &Path,
    links: &mut HashMap<(u64, u64), PathBuf>,
    directories: &mut Vec<PathBuf>,
) -> io::Result<()> {
    if is_opaque(from) && to != target {
        remove_tree(to)?;
    }
    match fs::symlink_metadata(to) {
        Ok(metadata) if metadata.is_dir() => make_writable(to)?,
        Ok(_) => {
            fs::remove_file(to)?;
            fs::create_dir(to)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(to)?,
        Err(error) => return Err(error),
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let source = entry.path();
        let metadata = fs::symlink_metadata(&source)?;
        let name = relative.join(entry.file_name());
        if metadata.is_dir() {
            directories.push(name);
            continue;
        }
        let place = target.join(&name);
        remove_tree(&place)?;
        if is_whiteout(&metadata) {
            continue;
        }
        if metadata.nlink() > 1 {
            if let Some(first) = links.get(&(metadata.dev(), metadata.ino())) {
                fs::hard_link(first, &place)?;
                continue;
            }
            links.insert((metadata.dev(), metadata.ino()), place.clone());
        }
        if metadata.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &place)?;
        } else if metadata.is_file() {
            fs::copy(&source, &place)?;
        } else if metadata.file_type().is_fifo() {
            rustix::fs::mknodat(CWD, &place, FileType::Fifo, Mode::from(0o600), 0)?;
        } else {
            continue;
        }
        copy_metadata(&place, &metadata)?;
    }
    Ok(())
}

fn copy_metadata(place: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let placed = fs::symlink_metadata(place)?;
    if (placed.uid(), placed.gid()) != (metadata.uid(), metadata.gid()) {
        std::os::unix::fs::lchown(place, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    if !metadata.is_symlink() {
        fs::set_permissions(place, metadata.permissions())?;
    }
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_and_mode_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Deeper than a path may be long.
        let mut lower = tree.clone();
        for round in 0..4 {
            let chain = root.path().join(format!("chain-{round}"));
            let bottom = (0..100).fold(chain.clone(), |path, _| path.join("a-directory-with-a-name"));
            fs::create_dir_all(&bottom).unwrap();
            fs::write(bottom.join("file"), "x").unwrap();
            fs::rename(&lower, bottom.join("below")).unwrap();
            lower = chain;
        }
        let tree = lower;
        let closed = tree.join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_link_is_removed_and_not_what_it_points_to() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("kept/inside")).unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(root.path().join("kept"), tree.join("link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(root.path().join("kept/inside").exists());
    }
}
