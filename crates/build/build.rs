//! Embeds the Python package: its modules are what a step imports in the container.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

fn modules(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            modules(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "py") || path.ends_with("py.typed") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    // Asked for when this runs: a compiled script may have come from another checkout with the target folder.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("cargo sets CARGO_MANIFEST_DIR"))?;
    let root = Path::new(&package).join("../../python").canonicalize()?;
    println!("cargo::rerun-if-changed={}", root.join("longshore").display());
    let mut found = Vec::new();
    modules(&root.join("longshore"), &mut found)?;
    found.sort();
    let mut list = String::from("&[\n");
    for path in found {
        let name = path.strip_prefix(&root).map_err(io::Error::other)?;
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("a path that is not UTF-8"))
        };
        let (name, path) = (text(name)?, text(&path)?);
        writeln!(list, "    ({name:?}, include_bytes!({path:?})),").map_err(io::Error::other)?;
    }
    list.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("sdk.rs"), list)
}
