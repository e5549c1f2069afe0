//! What each step is given: pure values, made before anything runs.

use std::path::{Path, PathBuf};

use longshore_oci::Reference;
use longshore_pipeline::{PipelineSpec, StepSpec};
use longshore_stack::RunId;
use serde_json::{Value, json};

/// Where the artifact store is in a container.
pub(crate) const ARTIFACTS: &str = "/longshore/artifacts";
/// Where a container finds its job.
pub(crate) const JOB: &str = "/longshore/job.json";
/// The interpreter in an image (DESIGN §5).
pub(crate) const PYTHON: &str = "/opt/venv/bin/python";
/// The module that carries out a job.
pub(crate) const ENTRYPOINT: &str = "longshore.entrypoint";
/// The environment variable that names the file of the job. While it is set, calling a pipeline does nothing, so that
/// importing the user's script in a container starts no second run.
pub(crate) const JOB_VARIABLE: &str = "LONGSHORE_STEP";

/// A run: its steps in order, and where their outputs go.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan {
    /// The run.
    pub id: RunId,
    /// The folder of the run in the artifact store, on this machine.
    pub artifacts: PathBuf,
    /// The steps, each after those whose outputs it takes.
    pub steps: Vec<StepPlan>,
}

/// One step: its image and its job.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPlan {
    /// The step's name.
    pub name: String,
    /// The image to run it in, by digest; none for the in-process orchestrator.
    pub image: Option<Reference>,
    /// The job, as `docs/pipeline-spec.md` describes it.
    pub job: Value,
}

/// Where a step sees the artifact store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactView<'a> {
    /// In a container, at a fixed path.
    Container,
    /// On this machine, below this folder.
    Host(&'a Path),
}

impl RunPlan {
    /// Plans a run. `image` gives the image of a step.
    pub fn new(
        spec: &PipelineSpec,
        id: RunId,
        artifacts: &Path,
        view: ArtifactView<'_>,
        image: impl Fn(&StepSpec) -> Option<Reference>,
    ) -> Self {
        let artifacts = artifacts.join(id.to_string());
        let root = match view {
            ArtifactView::Container => Path::new(ARTIFACTS),
            ArtifactView::Host(_) => &artifacts,
        };
        let steps = spec.steps.iter().map(|step| StepPlan {
            name: step.name.clone(),
            image: image(step),
            job: job(id, &[step], root),
        });
        Self { id, steps: steps.collect(), artifacts: artifacts.clone() }
    }

    /// One job of all steps, for the orchestrator that runs them in one process.
    pub fn single_job(&self) -> Value {
        let steps: Vec<&Value> = self.steps.iter().filter_map(|step| step.job["steps"].get(0)).collect();
        json!({"version": 1, "run_id": self.id.to_string(), "steps": steps})
    }

    /// The outputs of all steps by step and name, as URIs on this machine.
    pub fn outputs(&self, spec: &PipelineSpec) -> Value {
        let uri = |step: &StepSpec, output: &String| json!({"uri": uri(&self.artifacts, &step.name, output)});
        spec.steps
            .iter()
            .map(|step| {
                let outputs: Value =
                    step.outputs.iter().map(|output| (output.clone(), uri(step, output))).collect();
                (step.name.clone(), outputs)
            })
            .collect()
    }
}

fn uri(root: &Path, step: &str, output: &str) -> String {
    format!("file://{}", root.join(step).join(output).display())
}

fn job(id: RunId, steps: &[&StepSpec], root: &Path) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| {
            let inputs: Value = step
                .inputs
                .iter()
                .map(|(input, from)| (input.clone(), json!({"uri": uri(root, &from.step, &from.output)})))
                .collect();
            let outputs: Value = step
                .outputs
                .iter()
                .map(|output| (output.clone(), json!({"uri": uri(root, &step.name, output)})))
                .collect();
            json!({
                "name": step.name, "source": step.source, "inputs": inputs, "parameters": step.parameters, "outputs": outputs,
            })
        })
        .collect();
    json!({"version": 1, "run_id": id.to_string(), "steps": steps})
}
