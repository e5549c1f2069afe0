//! Steps with the user's own Python on this machine: no image, no container.
//!
//! One at a time they all run in one process, where a debugger works. Several at a time run in processes of their own.

use std::{
    fs,
    io::{self, Write},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use jiff::Timestamp;
use longshore_pipeline::ClientPython;
use longshore_sandbox::{Exit, Signal};
use longshore_stack::{RunStatus, State};
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::{
    Capacity, ENTRYPOINT, Event, FAILURE, Interrupt, JOB, Observer, PROGRESS, RunError, RunPlan, StepPlan,
    dispatch::Dispatch, interrupt::Running, printed::Log, progress,
};

/// The Python that called the pipeline, and its code.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The interpreter.
    pub python: &'a ClientPython,
    /// The folder that the steps are imported from.
    pub root: &'a Path,
}

/// Runs the steps. With room for one at a time, what they print goes where this process prints.
pub fn run(
    plan: &RunPlan,
    source: Source<'_>,
    capacity: &Capacity,
    state: &State,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<RunStatus, RunError> {
    fs::create_dir_all(&plan.artifacts).map_err(write(&plan.artifacts))?;
    if capacity.steps.get() == 1 {
        return in_one_process(plan, source, state, interrupt, observer);
    }
    let run_one = |step: &StepPlan| run_step(plan, step, source, interrupt, observer);
    Dispatch { plan, capacity, state, interrupt, observer }.run(&run_one)
}

fn in_one_process(
    plan: &RunPlan,
    source: Source<'_>,
    state: &State,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<RunStatus, RunError> {
    let job = job_file(plan, &plan.steps)?;
    let progress = tempfile::NamedTempFile::new().map_err(write(&plan.artifacts))?;
    let exit = command(source, job.path(), &plan.artifacts.join("failure.json"))
        .env(PROGRESS, progress.path())
        .status()
        .map_err(start(source))?;
    let status = status_of(exit, interrupt);
    let told = fs::read_to_string(progress.path()).map_err(write(progress.path()))?;
    let begun = progress::read(&told, status, Timestamp::now());
    for step in &begun {
        state.record_step(plan.id, step)?;
        let took = step.finished.and_then(|end| end.duration_since(step.started).try_into().ok());
        let took = took.unwrap_or_default();
        observer(&Event::StepDone { step: &step.name, status: step.status, took });
    }
    for StepPlan { job, .. } in plan.steps.iter().skip(begun.len()) {
        observer(&Event::StepSkipped { step: &job.name });
    }
    Ok(status)
}

/// Runs one step in a process of its own. It leads a process group: the keyboard's signals come to this process alone, which
/// passes them on.
fn run_step(
    plan: &RunPlan,
    step: &StepPlan,
    source: Source<'_>,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<Exit, RunError> {
    let name = &step.job.name;
    let job = job_file(plan, [step])?;
    let log = Log::create(&plan.artifacts, name)?;
    let mut child = command(source, job.path(), &plan.artifacts.join(format!("{name}.failure.json")))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start(source))?;
    let leader = Pid::from_child(&child);
    let named = interrupt.while_running(Running::Group(leader));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    log.pass_on(stdout, stderr, observer, || {
        // Until it is waited for below, no other process can get its number, so signals go to the right one.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(leader), options));
        // What the step left running ends with it, as in a container; and with it the pipes.
        let _ = kill_process_group(leader, rustix::process::Signal::KILL);
    });
    drop(named);
    Ok(exit_of(child.wait().map_err(start(source))?))
}

/// The steps' process.
fn command(source: Source<'_>, job: &Path, failure: &Path) -> Command {
    let mut command = Command::new(&source.python.executable);
    command.args(["-m", ENTRYPOINT]).current_dir(source.root);
    command.env(JOB, job).env(FAILURE, failure).env("PYTHONUNBUFFERED", "1");
    command
}

fn job_file<'a>(
    plan: &RunPlan,
    steps: impl IntoIterator<Item = &'a StepPlan>,
) -> Result<tempfile::NamedTempFile, RunError> {
    let mut job = tempfile::NamedTempFile::new().map_err(write(&plan.artifacts))?;
    serde_json::to_writer(&mut job, &plan.job(steps)).map_err(|error| write(job.path())(error.into()))?;
    job.flush().map_err(write(job.path()))?;
    Ok(job)
}

fn write(path: &Path) -> impl FnOnce(io::Error) -> RunError + use<> {
    let path = path.to_owned();
    move |source| RunError::Write { path, source }
}

fn start(source: Source<'_>) -> impl FnOnce(io::Error) -> RunError + use<> {
    let program = source.python.executable.clone();
    move |source| RunError::Start { program, source }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code().and_then(|code| u8::try_from(code).ok()), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(Signal::KILL.number())),
    }
}

fn status_of(exit: ExitStatus, interrupt: &Interrupt) -> RunStatus {
    // The keyboard's signal reaches the steps' process too; Python ends with 130 or by the signal itself.
    let interrupted = interrupt.is_stopping() || exit.code() == Some(130) || exit.signal() == Some(2);
    match (exit.success(), interrupted) {
        (true, _) => RunStatus::Succeeded,
        (false, true) => RunStatus::Interrupted,
        (false, false) => RunStatus::Failed,
    }
}
