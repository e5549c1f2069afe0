//! The directories of an image by size.

use std::collections::BTreeMap;

use serde::Serialize;

use super::anatomy::Anatomy;

/// How deep directories are shown, chains of single ones counted as one.
const DEEPEST: usize = 4;

/// A directory with what is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// Its path, with the first slash.
    pub path: String,
    /// The bytes of the files in it and below it that show.
    pub size: u64,
    /// How many directories that are shown are above it.
    pub depth: usize,
}

impl Anatomy {
    /// The directories that have at least one in `share` of the image's bytes, as a tree in the order of their paths. Of
    /// directories in each other with the same files, only the innermost is shown.
    pub fn directories(&self, share: u64) -> Vec<Directory> {
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        for (path, file) in &self.files {
            for (at, _) in path.match_indices('/') {
                *sizes.entry(&path[..at]).or_default() += file.size;
            }
        }
        let least = (self.size() / share.max(1)).max(1);
        sizes.retain(|_, size| *size >= least);
        let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for path in sizes.keys() {
            children.entry(path.rsplit_once('/').map_or("", |(above, _)| above)).or_default().push(path);
        }
        let mut shown = Vec::new();
        let mut open: Vec<(&str, usize)> =
            children.get("").into_iter().flatten().rev().map(|path| (*path, 0)).collect();
        while let Some((mut path, depth)) = open.pop() {
            let size = sizes[path];
            while let Some([only]) = children.get(path).map(Vec::as_slice)
                && sizes[only] == size
            {
                path = only;
            }
            shown.push(Directory { path: format!("/{path}"), size, depth });
            if depth + 1 < DEEPEST {
                open.extend(children.get(path).into_iter().flatten().rev().map(|path| (*path, depth + 1)));
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::super::anatomy::tests::{file, layer};
    use super::*;

    #[test]
    fn small_directories_and_empty_steps_are_left_out() {
        let layer = layer(
            vec![
                file("opt/venv/lib/a/x", 600),
                file("opt/venv/lib/b/y", 300),
                file("usr/bin/z", 99),
                file("etc/w", 1),
            ],
            vec![],
        );
        let shown = Anatomy::of([&layer]).directories(100);
        let shown: Vec<_> = shown.iter().map(|it| (it.path.as_str(), it.size, it.depth)).collect();
        assert_eq!(
            shown,
            [
                ("/opt/venv/lib", 900, 0),
                ("/opt/venv/lib/a", 600, 1),
                ("/opt/venv/lib/b", 300, 1),
                ("/usr/bin", 99, 0)
            ]
            .into_iter()
            .collect::<Vec<_>>()
        );
    }
}
