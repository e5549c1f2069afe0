//! All steps in one Python process on this machine: no image, no container, and a debugger works.

use std::{
    fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus},
    time::Instant,
};

use longshore_pipeline::ClientPython;
use longshore_stack::{RunStatus, State};
use serde::Deserialize;

use crate::{ENTRYPOINT, Event, FAILURE, Interrupt, JOB, Observer, RunError, RunPlan};

/// Runs the steps with the Python that called the pipeline. What they print goes where this process prints.
pub fn run(
    plan: &RunPlan,
    python: &ClientPython,
    source_root: &Path,
    state: &State,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<RunStatus, RunError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Write { path, source }
    };
    fs::create_dir_all(&plan.artifacts).map_err(write(&plan.artifacts))?;
    let mut job = tempfile::NamedTempFile::new().map_err(write(&plan.artifacts))?;
    serde_json::to_writer(&mut job, &plan.job(&plan.steps))
        .map_err(|error| write(job.path())(error.into()))?;
    job.flush().map_err(write(job.path()))?;
    let failure = plan.artifacts.join("failure.json");
    let started = Instant::now();
    let exit = Command::new(&python.executable)
        .args(["-m", ENTRYPOINT])
        .current_dir(source_root)
        .env(JOB, job.path())
        .env(FAILURE, &failure)
        .env("PYTHONUNBUFFERED", "1")
        .status()
        .map_err(|source| RunError::Start { program: python.executable.clone(), source })?;
    let status = status_of(exit, interrupt);
    let failed = failed_step(&failure);
    // One process ran them all: which succeeded is told by the one that did not.
    let mut reached = true;
    for step in &plan.steps {
        let name = &step.job.name;
        let ended = match (&failed, status) {
            (_, RunStatus::Succeeded) => RunStatus::Succeeded,
            (Some(failed), _) if reached && failed != name => RunStatus::Succeeded,
            _ => {
                reached = false;
                status
            }
        };
        state.begin_step(plan.id, name)?;
        state.end_step(plan.id, name, ended)?;
        observer(&Event::StepDone { step: name, status: ended, took: started.elapsed() });
        if !reached {
            break;
        }
    }
    Ok(status)
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

/// The step that says it failed.
fn failed_step(file: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Failure {
        step: Option<String>,
    }
    let failure: Failure = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    failure.step
}
