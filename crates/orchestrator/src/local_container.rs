//! Each step in a container of its image, on this machine.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use longshore_oci::{self as oci, Reference};
use longshore_sandbox::{
    Access, Container, Exit, Process, Running, Sandbox, Stream as Pipe, Streams, engine::Engine,
};
use longshore_stack::{RunStatus, State};

use crate::{
    ENTRYPOINT, Event, FAILURE, Interrupt, JOB, Observer, RunError, RunPlan, StepPlan, Stream,
    plan::ARTIFACTS,
};

/// The interpreter in an image (DESIGN §5, "Image layout").
const PYTHON: &str = "/opt/venv/bin/python";
/// The folder of an artifact store that has what is remembered of steps (`docs/pipeline-spec.md`).
const MEMORY: &str = ".steps";
/// Where a container finds its job.
const JOB_FILE: &str = "/longshore/step.json";

/// An image that can be run here.
#[derive(Clone, Debug)]
pub struct StepImage {
    /// How its containers run.
    pub process: oci::Process,
    /// What runs them.
    pub runner: Runner,
}

/// What runs the containers of an image.
#[derive(Clone, Debug)]
pub enum Runner {
    /// A sandbox of our own.
    Sandbox {
        /// The folders of the image's layers, lowest first.
        layers: Vec<PathBuf>,
        /// Where containers put what they write.
        scratch: PathBuf,
    },
    /// Docker or Podman.
    Engine {
        /// Which.
        engine: Engine,
        /// The image's name there.
        image: String,
    },
}

impl Runner {
    fn spawn(&self, container: Container) -> Result<Running, longshore_sandbox::Error> {
        let streams = Streams { stdin: Pipe::Null, ..Streams::captured() };
        match self {
            Self::Sandbox { layers, scratch } => {
                Sandbox { layers: layers.clone(), scratch: scratch.clone(), container }.spawn(streams)
            }
            Self::Engine { engine, image } => engine.spawn(image, &container, streams),
        }
    }
}

/// Runs the steps one after the other, up to the first that fails. What had succeeded stays in the artifact store.
pub fn run(
    plan: &RunPlan,
    images: &BTreeMap<Reference, StepImage>,
    state: &State,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<RunStatus, RunError> {
    fs::create_dir_all(&plan.artifacts)
        .map_err(|source| RunError::Write { path: plan.artifacts.clone(), source })?;
    for step in &plan.steps {
        if interrupt.is_stopping() {
            return Ok(RunStatus::Interrupted);
        }
        let name = &step.job.name;
        let image = step.image.as_ref().and_then(|image| images.get(image));
        let image = image.ok_or_else(|| RunError::NoImage(name.clone()))?;
        observer(&Event::StepStarted { step: name });
        state.begin_step(plan.id, name)?;
        let started = Instant::now();
        let ended = run_step(plan, step, image, interrupt, observer);
        let status = match &ended {
            Ok(Exit::Code(0)) => RunStatus::Succeeded,
            _ if interrupt.is_stopping() => RunStatus::Interrupted,
            _ => RunStatus::Failed,
        };
        state.end_step(plan.id, name, status)?;
        ended?;
        observer(&Event::StepDone { step: name, status, took: started.elapsed() });
        if status != RunStatus::Succeeded {
            return Ok(status);
        }
    }
    Ok(RunStatus::Succeeded)
}

fn run_step(
    plan: &RunPlan,
    step: &StepPlan,
    image: &StepImage,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<Exit, RunError> {
    let name = &step.job.name;
    let job = job_file(plan, step)?;
    make_writable(&plan.artifacts, &image.process)?;
    if step.job.is_cached()
        && let Some(store) = plan.artifacts.parent()
    {
        let memory = store.join(MEMORY);
        fs::create_dir_all(&memory).map_err(|source| RunError::Write { path: memory.clone(), source })?;
        make_writable(&memory, &image.process)?;
    }
    let artifacts = format!("{ARTIFACTS}/{}", plan.id);
    let mut process = Process::of_image(&image.process, &[]);
    process.argv = [PYTHON, "-m", ENTRYPOINT].map(str::to_owned).to_vec();
    process.set_env(JOB, JOB_FILE);
    process.set_env(FAILURE, format!("{artifacts}/{name}.failure.json"));
    process.set_env("PYTHONUNBUFFERED", "1");
    // What is remembered of earlier steps, and their outputs, are beside the run's folder.
    let (folder, seen_at) = match (step.job.is_cached(), plan.artifacts.parent()) {
        (true, Some(store)) => (store, ARTIFACTS.to_owned()),
        _ => (plan.artifacts.as_path(), artifacts),
    };
    let container = Container::new(process).mount(folder, seen_at, Access::ReadWrite).mount(
        job.path(),
        JOB_FILE,
        Access::ReadOnly,
    );
    let mut running = image.runner.spawn(container)?;
    interrupt.running(Some(running.signals()));
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    let log = Log::create(&plan.artifacts, name)?;
    let exit = thread::scope(|scope| {
        let log = &log;
        let pass = |pipe: Option<std::io::PipeReader>, stream| {
            pipe.map(|pipe| {
                scope.spawn(move || {
                    pass_on(pipe, name, stream, &|event| {
                        log.write(event);
                        observer(event);
                    });
                })
            })
        };
        let _readers = (pass(stdout, Stream::Output), pass(stderr, Stream::Error));
        running.wait()
    });
    interrupt.running(None);
    Ok(exit?)
}

/// The step's job as a file that every user may read: the container's may be another than ours.
fn job_file(plan: &RunPlan, step: &StepPlan) -> Result<tempfile::NamedTempFile, RunError> {
    let failed = |source| RunError::Write { path: plan.artifacts.join(&step.job.name), source };
    let mut file = tempfile::Builder::new().prefix(".step-").suffix(".json").tempfile().map_err(failed)?;
    serde_json::to_writer(&mut file, &plan.job([step])).map_err(|error| failed(error.into()))?;
    file.flush().map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    Ok(file)
}

/// Lets the image's own user write into the folder of the run, whoever that is.
fn make_writable(folder: &Path, process: &oci::Process) -> Result<(), RunError> {
    let is_root =
        process.user.as_deref().is_none_or(|user| matches!(user.split(':').next(), Some("" | "0" | "root")));
    let mode = if is_root { 0o755 } else { 0o777 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        .map_err(|source| RunError::Write { path: folder.to_owned(), source })
}

/// What a step printed, for `longshore run logs`.
struct Log(Mutex<fs::File>);

impl Log {
    fn create(folder: &Path, step: &str) -> Result<Self, RunError> {
        let path = log_file(folder, step);
        let file = fs::File::create(&path).map_err(|source| RunError::Write { path, source })?;
        Ok(Self(Mutex::new(file)))
    }

    fn write(&self, event: &Event<'_>) {
        if let Event::Line { line, .. } = event {
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // The line is on the terminal: a full disk need not end the step.
            let _ = writeln!(file, "{line}");
        }
    }
}

/// The file with what a step printed, in the folder of its run.
pub fn log_file(run: &Path, step: &str) -> PathBuf {
    run.join(format!("{step}.log"))
}

/// Passes on what a step prints, line by line. What a carriage return wrote over is left out, as a terminal would.
fn pass_on(pipe: impl std::io::Read, step: &str, stream: Stream, observer: Observer<'_>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    // A pipe that breaks has no more lines; how the step ended is known from its exit.
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        let shown = text.rsplit('\r').next().unwrap_or(text);
        observer(&Event::Line { step, stream, line: shown });
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn lines_are_passed_on_as_a_terminal_would_show_them() {
        let lines = Mutex::new(Vec::new());
        let observer = |event: &Event<'_>| {
            if let Event::Line { line, .. } = event {
                lines.lock().unwrap().push((*line).to_owned());
            }
        };
        pass_on(&b"one\r\n10%\r50%\r100%\nlast"[..], "s", Stream::Output, &observer);
        assert_eq!(*lines.lock().unwrap(), ["one", "100%", "last"]);
    }
}
