//! `moto_server`: AWS's APIs, as other people stand in for them.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// The server, on a free port of the loopback interface. Dropping it ends the process.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    url: String,
}

impl Moto {
    /// Starts it; returns when it listens. It is the `moto_server` on `PATH`.
    pub fn start() -> io::Result<Self> {
        Self::run(&mut Command::new("moto_server"))
    }

    /// The same, which after so many requests verifies signatures, and denies what no policy of the key's owner allows.
    pub fn start_judging_after(requests: usize) -> io::Result<Self> {
        Self::run(Command::new("moto_server").env("INITIAL_NO_AUTH_ACTION_COUNT", requests.to_string()))
    }

    fn run(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("moto_server: {error}")))?;
        let log = child.stderr.take().ok_or_else(|| io::Error::other("no log"))?;
        let mut lines = BufReader::new(log).lines();
        let mut read = String::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, url)) = line.split_once("Running on ") {
                let url = url.split_whitespace().next().unwrap_or_default().to_owned();
                // The rest is read and dropped, so that it never waits for it.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, url });
            }
            read.push_str(&line);
        }
        child.wait()?;
        Err(io::Error::other(format!("moto_server did not start: {read}")))
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
