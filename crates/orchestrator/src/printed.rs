//! What a step prints: passed on line by line while it runs, and kept for `longshore run logs`.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{Event, Observer, RunError, Stream};

/// What is longer is passed on in pieces: a step that never ends its line takes no more memory than this.
const LONGEST: u64 = 64 << 10;

/// The file with what a step printed, in the folder of its run.
pub fn log_file(run: &Path, step: &str) -> PathBuf {
    run.join(format!("{step}.log"))
}

/// The log of a step that runs.
pub(crate) struct Log<'a> {
    step: &'a str,
    file: Mutex<fs::File>,
}

impl<'a> Log<'a> {
    /// An empty log in the folder of the run.
    pub(crate) fn create(folder: &Path, step: &'a str) -> Result<Self, RunError> {
        let path = log_file(folder, step);
        let file = fs::File::create(&path).map_err(|source| RunError::Write { path, source })?;
        Ok(Self { step, file: Mutex::new(file) })
    }

    /// Passes on what the step prints while `wait` waits for its end, until both pipes are closed.
    pub(crate) fn pass_on<T>(
        &self,
        stdout: Option<impl Read + Send>,
        stderr: Option<impl Read + Send>,
        observer: Observer<'_>,
        wait: impl FnOnce() -> T,
    ) -> T {
        thread::scope(|scope| {
            if let Some(pipe) = stdout {
                scope.spawn(move || self.read(pipe, Stream::Output, observer));
            }
            if let Some(pipe) = stderr {
                scope.spawn(move || self.read(pipe, Stream::Error, observer));
            }
            wait()
        })
    }

    fn read(&self, pipe: impl Read, stream: Stream, observer: Observer<'_>) {
        // A pipe that breaks has no more lines; how the step ended is known from its exit.
        let _ = each_line(pipe, |line| {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            // The line is on the terminal: a full disk need not end the step.
            let _ = file.write_all(format!("{line}\n").as_bytes());
            drop(file);
            observer(&Event::Line { step: self.step, stream, line });
        });
    }
}

/// Each line, without its end. What a carriage return wrote over is left out, as a terminal would.
fn each_line(pipe: impl Read, mut each: impl FnMut(&str)) -> io::Result<()> {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        each(text.rsplit('\r').next().unwrap_or(text));
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(bytes, |line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn lines_are_passed_on_as_a_terminal_would_show_them() {
        assert_eq!(lines(b"one\r\n10%\r50%\r100%\nlast"), ["one", "100%", "last"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let pieces = lines(&vec![b'x'; 200_000]);
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.iter().map(String::len).sum::<usize>(), 200_000);
    }
}
