//! Interpreters at work: processes that are fed sources and give bytecode.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write},
    num::NonZeroUsize,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread::JoinHandle,
};

use longshore_layer::EntryPath;

use super::marshal::{CodeLayout, STACK, normalise};
use crate::{error::Error, target::PythonVersion};

const WORKER: &str = include_str!("worker.py");
/// Alone: no environment variables, no site-packages, no user folder; `-B`, so that nothing is written.
const ARGUMENTS: [&str; 5] = ["-I", "-S", "-B", "-c", WORKER];
/// Sources on their way, per worker and in bytes: enough that no worker waits, few enough to hold in memory.
const JOBS_PER_WORKER: usize = 12;
const BYTES_ON_THEIR_WAY: usize = 8 << 20;
/// The header of a `.pyc`: magic number, flags, hash of the source (PEP 552).
const HEADER: usize = 16;
/// Bytecode beyond this is no bytecode.
const PYC_LIMIT: usize = 1 << 30;

/// Starts the interpreter of an image.
pub trait Interpreter: Send + Sync {
    /// Starts `python` with these arguments, its standard input and output piped. Its standard error is not read.
    fn start(&self, arguments: &[&str]) -> io::Result<Process>;
}

/// A started interpreter.
pub struct Process {
    /// Its standard input.
    pub input: Box<dyn Write + Send>,
    /// Its standard output.
    pub output: Box<dyn Read + Send>,
    /// Waits for its end and says how it ended, e.g. `exit status: 1`. Called after the input was closed; if it is
    /// dropped instead, the process should be ended.
    pub end: Ending,
}

/// See [`Process::end`].
pub type Ending = Box<dyn FnOnce() -> io::Result<String> + Send>;

/// An interpreter that can be run as it is: for an image that is this machine, and in tests.
#[derive(Clone, Debug)]
pub struct Program(pub PathBuf);

impl Interpreter for Program {
    fn start(&self, arguments: &[&str]) -> io::Result<Process> {
        let mut child = Command::new(&self.0)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        Ok(Process {
            input: Box::new(input),
            output: Box::new(output),
            end: Box::new(move || child.wait().map(|status| status.to_string())),
        })
    }
}

/// Interpreters that wait for sources. They are started when the first source comes, and are shared: several layers may
/// be compiled at the same time, from several threads.
pub struct Compiler {
    queue: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    python: PythonVersion,
}

/// Bytecode of a source; `None` for one that does not compile.
type Answer = Result<Option<Vec<u8>>, Error>;

struct Job {
    path: String,
    source: Vec<u8>,
    answer: SyncSender<Answer>,
}

/// What is left of a job while the interpreter works on it.
struct Waiting {
    path: String,
    answer: SyncSender<Answer>,
}

impl Compiler {
    /// As many interpreters as `workers`, for sources of this Python. The version is compared with what each says of itself.
    pub fn new(
        interpreter: &Arc<dyn Interpreter>,
        workers: NonZeroUsize,
        python: PythonVersion,
    ) -> Result<Self, Error> {
        let layout = CodeLayout::of(python.minor).filter(|_| python.major == 3).ok_or_else(|| {
            failed(format!(
                "Python {python} is not one of 3.9 to 3.14; turn it off with compile_bytecode=False"
            ))
        })?;
        let (queue, jobs) = mpsc::channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = (0..workers.get())
            .map(|_| {
                let worker =
                    Worker { interpreter: Arc::clone(interpreter), jobs: Arc::clone(&jobs), python, layout };
                std::thread::Builder::new().name("bytecode".to_owned()).spawn(move || worker.work())
            })
            .collect::<Result<_, _>>()
            .map_err(|source| Error::Io { doing: "starting a thread".to_owned(), source })?;
        Ok(Self { queue: Some(queue), workers, python })
    }

    /// The Python that it compiles for.
    pub const fn python(&self) -> PythonVersion {
        self.python
    }

    /// Compiles sources, given as their path in the image (without the leading slash) and their text. `take` gets the
    /// bytecode of each in the order of the sources; `None` for one that does not compile.
    pub fn compile(
        &self,
        sources: impl Iterator<Item = Result<(EntryPath, Vec<u8>), Error>>,
        mut take: impl FnMut(Option<Vec<u8>>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let gone = || failed("every interpreter has ended".to_owned());
        let mut waiting: VecDeque<(usize, Receiver<Answer>)> = VecDeque::new();
        let mut bytes = 0;
        for source in sources {
            let (path, source) = source?;
            while waiting.len() >= JOBS_PER_WORKER * self.workers.len() || bytes > BYTES_ON_THEIR_WAY {
                let Some((length, answer)) = waiting.pop_front() else { break };
                bytes -= length;
                take(answer.recv().map_err(|_| gone())??)?;
            }
            let (answer, receiver) = mpsc::sync_channel(1);
            bytes += source.len();
            waiting.push_back((source.len(), receiver));
            let job = Job { path: format!("/{path}"), source, answer };
            // If no worker is left the job is dropped, and its answer with it.
            let _ = self.queue.as_ref().map(|queue| queue.send(job));
        }
        for (_, answer) in waiting {
            take(answer.recv().map_err(|_| gone())??)?;
        }
        Ok(())
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        self.queue = None;
        for worker in self.workers.drain(..) {
            // A worker that panicked has dropped its answers, which was an error to whoever waited for them.
            let _ = worker.join();
        }
    }
}

fn failed(reason: String) -> Error {
    Error::Bytecode { reason }
}

struct Worker {
    interpreter: Arc<dyn Interpreter>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    python: PythonVersion,
    layout: CodeLayout,
}

impl Worker {
    fn next(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    /// Feeds one interpreter; a second thread reads its answers. There are always two sources with it, so that it need not
    /// wait while its last answer is read.
    fn work(self) {
        let Some(mut job) = self.next() else { return };
        let Process { input, output, end } = match self.interpreter.start(&ARGUMENTS) {
            Ok(process) => process,
            Err(error) => {
                let _ = job.answer.send(Err(failed(format!("the interpreter cannot be started: {error}"))));
                return;
            }
        };
        let (order, waiting) = mpsc::sync_channel::<Waiting>(1);
        let (python, layout) = (self.python, self.layout);
        let answers = Answers { output: BufReader::with_capacity(1 << 18, output), python, layout };
        let reader = std::thread::Builder::new()
            .name("bytecode-answers".to_owned())
            .stack_size(STACK)
            .spawn(move || answers.read(waiting, end));
        let Ok(reader) = reader else { return };
        let mut input = BufWriter::with_capacity(1 << 16, input);
        loop {
            let Job { path, source, answer } = job;
            let fed = order
                .send(Waiting { path: path.clone(), answer })
                .map_err(io::Error::other)
                .and_then(|()| feed(&mut input, &path, &source));
            if fed.is_err() {
                // The reader finds the process ended and says so of this job.
                break;
            }
            match self.next() {
                Some(next) => job = next,
                None => break,
            }
        }
        drop(order);
        // Writes what is left, of which there is nothing, and closes the pipe: the interpreter ends.
        drop(input);
        let _ = reader.join();
    }
}

fn feed(input: &mut impl Write, path: &str, source: &[u8]) -> io::Result<()> {
    for length in [path.len(), source.len()] {
        let length = u32::try_from(length).map_err(io::Error::other)?;
        input.write_all(&length.to_be_bytes())?;
    }
    input.write_all(path.as_bytes())?;
    input.write_all(source)?;
    input.flush()
}

struct Answers {
    output: BufReader<Box<dyn Read + Send>>,
    python: PythonVersion,
    layout: CodeLayout,
}

/// Why there is no answer.
enum Silence {
    /// The process is gone, or as good as gone.
    Ended,
    /// It answers, but not as it should.
    Wrong(Error),
}

impl Answers {
    fn read(mut self, waiting: Receiver<Waiting>, end: Ending) {
        let mut greeted = false;
        while let Ok(Waiting { path, answer }) = waiting.recv() {
            let read = if greeted { Ok(()) } else { self.greeting() }.and_then(|()| self.answer(&path));
            greeted = true;
            let silence = match read {
                Ok(bytecode) => {
                    let _ = answer.send(Ok(bytecode));
                    continue;
                }
                Err(silence) => silence,
            };
            // What comes next cannot be told apart from what is left, so this is the last. The feeder, which may
            // be waiting to hand over more, notices that nobody takes it, and closes the input.
            drop(waiting);
            let _ = answer.send(Err(match silence {
                Silence::Wrong(error) => error,
                Silence::Ended => {
                    let how = end().unwrap_or_else(|error| error.to_string());
                    failed(format!("the interpreter ended while it compiled {path} ({how})"))
                }
            }));
            return;
        }
        // The feeder has closed the input.
        let _ = end();
    }

    fn greeting(&mut self) -> Result<(), Silence> {
        let mut line = Vec::new();
        let read = (&mut self.output).take(256).read_until(b'\n', &mut line);
        let text = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        let [major, minor, patch, tag] = words[..] else {
            let why = read.err().map_or_else(|| "it ended at once".to_owned(), |error| error.to_string());
            return Err(Silence::wrong(format!(
                "the interpreter does not answer ({why}): is it a CPython 3.9 to 3.14 that runs on this processor?"
            )));
        };
        let found = format!("{major}.{minor}.{patch}").parse::<PythonVersion>();
        let found = found.map_err(|error| Silence::wrong(error.to_string()))?;
        if found != self.python {
            return Err(Silence::Wrong(Error::InterpreterVersion { found, wanted: self.python }));
        }
        if tag != format!("cpython-3{}", self.python.minor) {
            return Err(Silence::wrong(format!("the interpreter is {tag}, not a CPython")));
        }
        Ok(())
    }

    fn answer(&mut self, path: &str) -> Result<Option<Vec<u8>>, Silence> {
        let mut head = [0; 5];
        self.output.read_exact(&mut head).map_err(|_| Silence::Ended)?;
        let [outcome, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        match (outcome, length) {
            (0, 0) => return Ok(None),
            (1, HEADER..=PYC_LIMIT) => {}
            _ => return Err(Silence::wrong(format!("the interpreter gave no proper answer for {path}"))),
        }
        // As it comes: the length is only the interpreter's word.
        let mut bytes = Vec::new();
        let read = (&mut self.output).take(length as u64).read_to_end(&mut bytes);
        if read.map_err(|_| Silence::Ended)? < length {
            return Err(Silence::Ended);
        }
        let (header, code) = bytes.split_at(HEADER);
        let code =
            normalise(code, self.layout).map_err(|error| Silence::wrong(format!("{path}: {error}")))?;
        Ok(Some([header, &code].concat()))
    }
}

impl Silence {
    fn wrong(reason: String) -> Self {
        Self::Wrong(failed(reason))
    }
}
