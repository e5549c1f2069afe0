//! Symbolic links: kept where they mean the same in the image.

use std::{
    fs,
    path::{Component, Path},
};

use super::{LinkProblem, SourceError};

/// The target of a link, as written, if it stays in the tree on every step of its way.
pub(super) fn inner_target(root: &Path, link: &Path) -> Result<String, SourceError> {
    let target = fs::read_link(link).map_err(|source| SourceError::of_reading(link, source))?;
    let problem = if target.is_absolute() {
        LinkProblem::Absolute
    } else if !stays_inside(root, link, &target) {
        LinkProblem::Outside
    } else if let Some(text) = target.to_str() {
        return Ok(text.to_owned());
    } else {
        LinkProblem::NotText
    };
    Err(SourceError::Link { path: link.to_owned(), target, problem })
}

/// Whether a target is below the root, step by step: a way out and in again by the root's name is another in the image.
/// A target that does not exist is judged by its parts.
fn stays_inside(root: &Path, link: &Path, target: &Path) -> bool {
    let mut path = link.parent().unwrap_or(root).to_owned();
    for part in target.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
        if let Ok(real) = fs::canonicalize(&path) {
            path = real;
        }
        if !path.starts_with(root) {
            return false;
        }
    }
    true
}
