//! What each step is given: pure values, made before anything runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use longshore_oci::Reference;
use longshore_pipeline::{Caching, PipelineSpec, SourceRef, StepSpec};
use longshore_stack::{RunId, StoreUri};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Dag, Demand};

/// Where the artifact store is in a container.
pub(crate) const ARTIFACTS: &str = "/longshore/artifacts";

/// A run: its steps in order, and where their outputs go.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// The run.
    pub id: RunId,
    /// The folder of the run in the artifact store, on this machine.
    pub artifacts: PathBuf,
    /// The steps, each after those whose outputs it takes.
    pub steps: Vec<StepPlan>,
}

/// One step: its image and its job.
#[derive(Clone, Debug)]
pub struct StepPlan {
    /// The image to run it in, by digest; none for the in-process orchestrator.
    pub image: Option<Reference>,
    /// The steps that have to succeed before it, by name, sorted.
    pub upstream: Vec<String>,
    /// What it takes of the machine while it runs.
    pub demand: Demand,
    /// What the entrypoint is to do.
    pub job: JobStep,
}

/// The step document of `docs/pipeline-spec.md`.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    version: u32,
    run_id: String,
    steps: Vec<JobStep>,
}

/// One step of a [`Job`].
#[derive(Clone, Debug, Serialize)]
pub struct JobStep {
    /// The step's name.
    pub name: String,
    source: SourceRef,
    inputs: BTreeMap<String, Artifact>,
    parameters: BTreeMap<String, Box<RawValue>>,
    outputs: BTreeMap<String, Artifact>,
    /// How often the entrypoint tries again, where the orchestrator does not.
    #[serde(skip_serializing_if = "is_zero")]
    retries: u32,
    /// After how many seconds the entrypoint ends it, where the orchestrator does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    /// What the step does besides its parameters and inputs, if its outputs may be taken from an earlier run that did the same:
    /// the digest of its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Where an artifact is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    uri: String,
}

/// Where a step sees the artifact store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactView {
    /// In a container, at a fixed path.
    Container,
    /// On this machine, where it is.
    Host,
}

impl RunPlan {
    /// Plans a run whose outputs go below `store`, an absolute path. `image` gives the image of a step.
    pub fn new(
        spec: &PipelineSpec,
        id: RunId,
        store: &Path,
        view: ArtifactView,
        image: impl Fn(&StepSpec) -> Option<Reference>,
    ) -> Self {
        let root = StoreUri::of_folder(match view {
            ArtifactView::Container => Path::new(ARTIFACTS),
            ArtifactView::Host => store,
        });
        let run = id.to_string();
        let steps = spec.steps.iter().map(|step| {
            let image = image(step);
            let job = JobStep::new(step, |name, output| root.artifact(&run, name, output));
            StepPlan {
                upstream: step.upstream().into_iter().map(str::to_owned).collect(),
                demand: Demand::from(&step.resources),
                job: job.supervised(step).cached(step.caching, image.as_ref()),
                image,
            }
        });
        Self { id, steps: steps.collect(), artifacts: store.join(id.to_string()) }
    }

    /// The job of some of the steps.
    pub fn job<'a>(&self, steps: impl IntoIterator<Item = &'a StepPlan>) -> Job {
        Job::of(&self.id.to_string(), steps.into_iter().map(|step| step.job.clone()).collect())
    }

    /// The steps by position, and what they wait for.
    pub(crate) fn dag(&self) -> Dag {
        Dag::new(
            self.steps
                .iter()
                .map(|step| (step.job.name.as_str(), step.upstream.iter().map(String::as_str), step.demand)),
        )
    }

    /// The outputs of all steps by step and name, where they are on this machine.
    pub fn outputs(&self) -> BTreeMap<&str, BTreeMap<&str, Artifact>> {
        let run = StoreUri::of_folder(&self.artifacts);
        let on_host =
            |step: &JobStep, output: &str| Artifact { uri: format!("{run}/{}/{output}", step.name) };
        self.steps
            .iter()
            .map(|StepPlan { job, .. }| {
                let outputs = job.outputs.keys().map(|output| (output.as_str(), on_host(job, output)));
                (job.name.as_str(), outputs.collect())
            })
            .collect()
    }
}

impl Job {
    /// The job of these steps.
    pub(crate) fn of(run: &str, steps: Vec<JobStep>) -> Self {
        Self { version: 2, run_id: run.to_owned(), steps }
    }
}

impl JobStep {
    /// The job of a step. `uri` says where an output of a step is.
    pub(crate) fn new(step: &StepSpec, uri: impl Fn(&str, &str) -> String) -> Self {
        let input = |(input, from): (&String, &longshore_pipeline::OutputRef)| {
            (input.clone(), Artifact { uri: uri(&from.step, &from.output) })
        };
        let output = |output: &String| (output.clone(), Artifact { uri: uri(&step.name, output) });
        Self {
            name: step.name.clone(),
            source: step.source.clone(),
            inputs: step.inputs.iter().map(input).collect(),
            parameters: step.parameters.clone(),
            outputs: step.outputs.iter().map(output).collect(),
            retries: 0,
            timeout: None,
            cache: None,
        }
    }

    /// The same, with the entrypoint seeing to retries and to the time limit.
    pub(crate) fn supervised(self, step: &StepSpec) -> Self {
        Self { retries: step.retries, timeout: step.timeout.map(|timeout| timeout.as_secs()), ..self }
    }

    /// The same, its outputs taken from an earlier run if that is wanted. What it does depends on its image, which holds the
    /// code and the packages.
    pub(crate) fn cached(mut self, caching: Caching, image: Option<&Reference>) -> Self {
        self.cache = match caching {
            Caching::On => image.and_then(|image| image.digest).map(|digest| digest.to_string()),
            Caching::Off => None,
        };
        self
    }

    /// Whether its outputs may be taken from an earlier run, and are remembered for later ones.
    pub(crate) fn is_cached(&self) -> bool {
        self.cache.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{
        "version": 2, "pipeline": {"name": "p"}, "source_root": "/src", "sdk_version": "0.1.0",
        "python": {"executable": "/usr/bin/python3", "version": "3.11.2"},
        "steps": [
            {"name": "load", "source": {"module": "m", "attribute": "load"}, "outputs": ["output"],
             "parameters": {"n": 123456789012345678901234567890, "x": 0.10}},
            {"name": "train", "source": {"module": "m", "attribute": "train"}, "outputs": [],
             "inputs": {"data": {"step": "load", "output": "output"}}}
        ]}"#;

    fn plan(view: ArtifactView) -> RunPlan {
        let spec = PipelineSpec::from_json(SPEC.as_bytes()).unwrap();
        RunPlan::new(&spec, RunId::new(), Path::new("/home/a b/artifacts"), view, |_| None)
    }

    #[test]
    fn a_step_finds_its_inputs_where_an_earlier_one_put_them() {
        let plan = plan(ArtifactView::Container);
        let (load, train) = (&plan.steps[0].job, &plan.steps[1].job);
        assert_eq!(train.inputs["data"], load.outputs["output"]);
        assert_eq!(train.inputs["data"].uri, format!("file:///longshore/artifacts/{}/load/output", plan.id));
    }

    #[test]
    fn results_are_where_this_machine_sees_them() {
        let plan = plan(ArtifactView::Container);
        let uri = format!("file:///home/a%20b/artifacts/{}/load/output", plan.id);
        assert_eq!(plan.outputs()["load"]["output"].uri, uri);
        assert!(plan.outputs()["train"].is_empty());
    }

    #[test]
    fn numbers_keep_every_digit() {
        let plan = plan(ArtifactView::Host);
        let job = serde_json::to_string(&plan.job(&plan.steps)).unwrap();
        assert!(job.contains(r#""parameters":{"n":123456789012345678901234567890,"x":0.10}"#), "{job}");
    }
}
