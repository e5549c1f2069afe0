//! The image's own interpreter, as what compiles bytecode for it.

use std::{
    io::{self, PipeReader, PipeWriter},
    path::PathBuf,
};

use longshore_python::bytecode::{Interpreter, Process as Started};
use longshore_sandbox::{Container, Process, Sandbox, Stream, Streams};

/// The Python of an image whose layers are unpacked.
#[derive(Clone, Debug)]
pub(crate) struct ImageInterpreter {
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) scratch: PathBuf,
    /// The interpreter in the image.
    pub(crate) executable: String,
}

impl Interpreter for ImageInterpreter {
    fn start(&self, arguments: &[&str]) -> io::Result<Started> {
        let argv = std::iter::once(self.executable.as_str()).chain(arguments.iter().copied());
        let sandbox = Sandbox {
            layers: self.layers.clone(),
            scratch: self.scratch.clone(),
            container: Container::new(Process::new(argv)),
        };
        let streams = Streams { stdin: Stream::Piped, stdout: Stream::Piped, stderr: Stream::Null };
        let mut running = sandbox.spawn(streams).map_err(io::Error::other)?;
        let missing = || io::Error::other("a pipe is missing");
        let input: PipeWriter = running.stdin.take().ok_or_else(missing)?;
        let output: PipeReader = running.stdout.take().ok_or_else(missing)?;
        let end = move || running.wait().map(|exit| format!("{exit:?}")).map_err(io::Error::other);
        Ok(Started { input: Box::new(input), output: Box::new(output), end: Box::new(end) })
    }
}
