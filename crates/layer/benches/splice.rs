//! Splices wheels into one layer each and prints what that costs in processor time, against `gzip -6` of the same archive;
//! and how much more time and room the same layer takes as eStargz.
//!
//! `cargo bench -p longshore-layer -- WHEEL…`; real wheels are had with
//! `pip download --no-deps -d DIR pandas==2.2.3 scikit-learn==1.5.2 numpy scipy`.
#![allow(missing_docs, reason = "a program")]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people"
)]

use std::{
    env,
    fs::File,
    io::{self, Cursor, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use longshore_layer::{
    Entry, Format, LayerSummary, LayerWriter,
    read::{self, LayerReader},
    zip::{Archive, ZipEntry},
};
use rustix::time::{ClockId, clock_gettime};

/// Seconds of processor time that this thread has used: what others do on the machine does not count.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// How often each measurement is repeated; the best counts.
const ROUNDS: usize = 5;

/// Counts bytes and forgets them.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn best<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut best: Option<(f64, T)> = None;
    for _ in 0..ROUNDS {
        let start = processor_time();
        let done = work();
        let seconds = processor_time() - start;
        if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
            best = Some((seconds, done));
        }
    }
    best.unwrap()
}

fn splice<W: Write>(wheel: &Path, format: Format, out: W) -> (W, LayerSummary) {
    let mut archive = Archive::open(File::open(wheel).unwrap()).unwrap();
    let mut order: Vec<(usize, ZipEntry)> = archive.entries().iter().cloned().enumerate().collect();
    order.sort_by(|(_, left), (_, right)| left.path.cmp(&right.path));
    let mut writer = LayerWriter::with_format(out, format).unwrap();
    for (index, entry) in order {
        if entry.is_dir() {
            writer.add(&Entry::directory(entry.path)).unwrap();
        } else {
            writer.splice(&Entry::file(entry.path, 0o644), &mut archive, index).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// The same archive without compression, by our reader.
fn plain(layer: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    io::copy(&mut flate2::read::MultiGzDecoder::new(layer), &mut plain).unwrap();
    plain
}

fn main() {
    let wheels: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if wheels.is_empty() {
        println!("give the paths of wheels");
        return;
    }
    println!(
        "{:32} {:>7} {:>9} {:>9} {:>8} {:>10} {:>7} {:>9} {:>10} {:>10}",
        "wheel",
        "entries",
        "tar MB",
        "layer MB",
        "MB/s",
        "gzip -6",
        "ratio",
        "read MB/s",
        "lazy size",
        "lazy time"
    );
    let mut sums = [0.0; 7];
    for wheel in &wheels {
        let wheel = Path::new(wheel);
        let (seconds, (size, summary)) = best(|| {
            let (count, summary) = splice(wheel, Format::Plain, Count(0));
            (count.0, summary)
        });
        let (layer, _) = splice(wheel, Format::Plain, Vec::new());
        let (read_seconds, again) = best(|| {
            LayerReader::new(Cursor::new(&layer), read::Compression::Gzip).unwrap().finish().unwrap()
        });
        assert_eq!(again.diff_id, summary.diff_id);
        let (lazy_seconds, lazy_size) = best(|| splice(wheel, Format::Estargz, Count(0)).0.0 as f64);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
        gzip.write_all(&plain(&layer)).unwrap();
        let gzip = gzip.finish().unwrap().len() as f64;
        let (tar, size) = (summary.uncompressed_size as f64, size as f64);
        let row = [tar, size, seconds, gzip, read_seconds, lazy_size, lazy_seconds];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
        let name: String = wheel.file_name().unwrap().to_string_lossy().chars().take(32).collect();
        print(&name, &summary.entries.to_string(), row);
    }
    print("together", "", sums);
}

fn print(name: &str, entries: &str, row: [f64; 7]) {
    let [tar, size, seconds, gzip, read_seconds, lazy_size, lazy_seconds] = row;
    println!(
        "{name:32} {entries:>7} {:>9.1} {:>9.2} {:>8.0} {:>10.2} {:>7.4} {:>9.0} {:>10.4} {:>10.3}",
        tar / 1e6,
        size / 1e6,
        tar / 1e6 / seconds,
        gzip / 1e6,
        size / gzip,
        tar / 1e6 / read_seconds,
        lazy_size / size,
        lazy_seconds / seconds,
    );
}
