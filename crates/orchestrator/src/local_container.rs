//! Each step in a container of its image, on this machine.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use longshore_oci::{self as oci, Reference};
use longshore_sandbox::{
    Access, Container, Exit, Process, Running, Sandbox, Stream as Pipe, Streams, engine::Engine,
};
use longshore_stack::{RunStatus, State};

use crate::{
    Capacity, ENTRYPOINT, FAILURE, Interrupt, JOB, Observer, RunError, RunPlan, StepPlan, dispatch::Dispatch,
    interrupt, plan::ARTIFACTS, printed::Log,
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

/// Runs the steps, side by side where they do not wait for each other and `capacity` has room. After a failure no further
/// one begins. What had succeeded stays in the artifact store.
pub fn run(
    plan: &RunPlan,
    images: &BTreeMap<Reference, StepImage>,
    capacity: &Capacity,
    state: &State,
    interrupt: &Interrupt,
    observer: Observer<'_>,
) -> Result<RunStatus, RunError> {
    let of_steps = plan.steps.iter().map(|step| {
        let image = step.image.as_ref().and_then(|image| images.get(image));
        let image = image.ok_or_else(|| RunError::NoImage(step.job.name.clone()))?;
        Ok((step.job.name.as_str(), image))
    });
    let of_steps = of_steps.collect::<Result<BTreeMap<_, _>, RunError>>()?;
    make_folders(plan, of_steps.values().copied())?;
    let run_one =
        |step: &StepPlan| run_step(plan, step, of_steps[step.job.name.as_str()], interrupt, observer);
    Dispatch { plan, capacity, state, interrupt, observer }.run(&run_one)
}

/// Makes the folder of the run, and that of what is remembered, before any step begins: steps of other users share them.
fn make_folders<'a>(plan: &RunPlan, mut images: impl Iterator<Item = &'a StepImage>) -> Result<(), RunError> {
    let is_root = |image: &StepImage| {
        let user = image.process.user.as_deref().and_then(|user| user.split(':').next());
        matches!(user, None | Some("" | "0" | "root"))
    };
    let mode = if images.all(is_root) { 0o755 } else { 0o777 };
    let is_cached = plan.steps.iter().any(|step| step.job.is_cached());
    let memory = plan.artifacts.parent().filter(|_| is_cached).map(|store| store.join(MEMORY));
    for folder in [Some(plan.artifacts.clone()), memory].into_iter().flatten() {
        open_up(&folder, mode).map_err(|source| RunError::Write { path: folder, source })?;
    }
    Ok(())
}

/// Makes a folder, and gives it at least these rights: what is remembered is shared with runs of other users' images.
fn open_up(folder: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let rights = fs::metadata(folder)?.permissions().mode() & 0o777;
    fs::set_permissions(folder, fs::Permissions::from_mode(rights | mode))
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
    let log = Log::create(&plan.artifacts, name)?;
    let mut running = image.runner.spawn(container)?;
    let _named = interrupt.while_running(interrupt::Running::Container(running.signals()));
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    Ok(log.pass_on(stdout, stderr, observer, || running.wait())?)
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
