//! Scans a tree of so many small files, first with no memory and then again and again: `cargo run --release --example scan -- 20000`.
#![allow(missing_docs, reason = "a program")]
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{
    env,
    error::Error,
    fs, thread,
    time::{Duration, Instant},
};

use longshore_build::source::SourceTree;
use longshore_store::Table;

const AGAIN: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = env::args().nth(1).map_or(Ok(20_000), |count| count.parse())?;
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("code");
    for number in 0..count {
        // 20 files to a folder, 10 folders to a package.
        let package = root.join(format!("package_{}/part_{}", number / 200, number / 20 % 10));
        fs::create_dir_all(&package)?;
        fs::write(package.join(format!("module_{number}.py")), format!("NUMBER = {number}\n").repeat(100))?;
    }
    let memory = Table::open(folder.path().join("memory"))?;
    for ignore in [".gitignore", ".dockerignore"] {
        fs::write(root.join(ignore), "**/*.csv\ndata/\n**/*.ipynb\n**/checkpoints\n")?;
        // Files that were just written are not trusted.
        thread::sleep(Duration::from_secs(3));
        let scan = || {
            let began = Instant::now();
            let tree = SourceTree::scan(&root, &[], Some(&memory))?;
            Ok::<_, Box<dyn Error>>((tree.files(), began.elapsed()))
        };
        let (files, first) = scan()?;
        let mut again = (0..AGAIN).map(|_| scan().map(|(_, took)| took)).collect::<Result<Vec<_>, _>>()?;
        again.sort();
        println!(
            "{ignore}: {files} files; first {first:.1?}; again {:.1?} (median of {AGAIN}), {:.1?} at best",
            again[AGAIN / 2],
            again[0]
        );
    }
    Ok(())
}
