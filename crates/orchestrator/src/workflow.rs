//! A run on an orchestrator elsewhere, before any orchestrator's own words for it.
//!
//! A [`Workflow`] is a pure value. An orchestrator's `plan` makes its documents from it, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use longshore_auth::Secret;
use longshore_oci::Reference;
use longshore_pipeline::{PipelineSpec, Resources, Schedule, StepSpec};
use longshore_stack::StoreUri;
use serde_json::{Map, Value};

use crate::{
    ENTRYPOINT, Term,
    plan::{Job, JobStep},
    wire,
};

/// The interpreter in an image (DESIGN §5, "Image layout").
pub const PYTHON: &str = "/opt/venv/bin/python";
/// What stands for the run in the URIs of a step's document, until the step knows it.
pub(crate) const RUN: &str = "{run}";

/// A run of a pipeline, or, with a schedule, all of its runs.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The pipeline's name.
    pub pipeline: String,
    /// When it runs by itself; otherwise it runs now.
    pub schedule: Option<Schedule>,
    /// Where outputs are kept: the folder of each run is below.
    pub store: StoreUri,
    /// The steps, each after those that it waits for.
    pub steps: Vec<WorkflowStep>,
    /// How long it is good what is among the steps' secrets to reach the store with, if anything is.
    pub term: Option<Term>,
}

/// A step: a container that runs to its end.
#[derive(Clone, Debug)]
pub struct WorkflowStep {
    /// Its name, as in the pipeline. Orchestrators with other rules for names make theirs from it.
    pub name: String,
    /// Its image, by digest.
    pub image: Reference,
    /// The user that its processes run as, where the settings of the image say it; otherwise it is the parent image's.
    pub user: Option<String>,
    /// The steps that have to succeed before it, by name, sorted.
    pub upstream: Vec<String>,
    /// What the entrypoint is to do, in pieces of at most 256 characters that any service takes as arguments.
    pub document: Vec<String>,
    /// Environment variables of the container, besides the image's own.
    pub environment: BTreeMap<String, String>,
    /// Environment variables that must not be seen: for orchestrators that have a safe place for them.
    pub secrets: BTreeMap<String, Secret>,
    /// What the container is given of a machine.
    pub resources: Resources,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// How long it may take, each time.
    pub timeout: Option<Duration>,
    /// The settings that the orchestrator in question knows the meaning of: its own key of the step's settings.
    pub settings: Map<String, Value>,
}

/// What a workflow is made for.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The orchestrator's flavor: the key of its settings.
    pub flavor: &'a str,
    /// Where outputs are kept.
    pub store: StoreUri,
    /// Environment variables that reading and writing there needs.
    pub environment: BTreeMap<String, String>,
    /// Those that must not be seen.
    pub secrets: BTreeMap<String, Secret>,
    /// Who sees to retries and time limits.
    pub supervision: Supervision,
}

/// Who sees to a step's retries and to its time limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Supervision {
    /// The orchestrator, in words of its own.
    #[default]
    Orchestrator,
    /// The entrypoint in the container: the orchestrator has no words for it.
    Entrypoint,
}

impl Workflow {
    /// The workflow of a pipeline. `image` gives the image of a step, by digest.
    pub fn new(spec: &PipelineSpec, target: &Target<'_>, image: impl Fn(&StepSpec) -> Reference) -> Self {
        let step = |step: &StepSpec| {
            let image = image(step);
            let job = JobStep::new(step, |name, output| target.store.artifact(RUN, name, output))
                .cached(step.caching, Some(&image));
            let job = match target.supervision {
                Supervision::Orchestrator => job,
                Supervision::Entrypoint => job.supervised(step),
            };
            WorkflowStep {
                name: step.name.clone(),
                upstream: step.upstream().into_iter().map(str::to_owned).collect(),
                document: wire::pieces(&Job::of(RUN, vec![job])),
                environment: target.environment.clone(),
                secrets: target.secrets.clone(),
                resources: step.resources.clone(),
                retries: step.retries,
                timeout: step.timeout,
                settings: step.orchestrators.get(target.flavor).cloned().unwrap_or_default(),
                user: step.docker.user.clone(),
                image,
            }
        };
        Self {
            pipeline: spec.name.clone(),
            schedule: spec.schedule.clone(),
            store: target.store.clone(),
            steps: spec.steps.iter().map(step).collect(),
            term: None,
        }
    }
}

impl WorkflowStep {
    /// The program that the container runs. The working directory and `PATH` are the image's.
    pub fn command(&self) -> Vec<String> {
        [PYTHON, "-m", ENTRYPOINT].map(str::to_owned).to_vec()
    }

    /// Its arguments. `run` is the run's name, or what the orchestrator puts the run's name in place of: `{{$.pipeline_job_uuid}}`,
    /// say. It becomes the name of a folder.
    pub fn arguments(&self, run: &str) -> Vec<String> {
        let fixed = ["--run".to_owned(), run.to_owned(), "--step".to_owned()];
        fixed.into_iter().chain(self.document.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{
        "version": 2, "pipeline": {"name": "p"}, "source_root": "/src", "sdk_version": "0.1.0",
        "python": {"executable": "/usr/bin/python3", "version": "3.11.2"},
        "settings": {"kubernetes": {"service_account": "trainer"}, "vertex": {"network": "n"}},
        "steps": [
            {"name": "load", "source": {"module": "m", "attribute": "load"}, "outputs": ["output"],
             "parameters": {"text": "TEXT"}},
            {"name": "train", "source": {"module": "m", "attribute": "train"}, "outputs": [], "retries": 2,
             "inputs": {"data": {"step": "load", "output": "output"}}, "cache": true}
        ]}"#;

    fn workflow(spec: &str) -> Workflow {
        supervised(spec, Supervision::Orchestrator)
    }

    fn supervised(spec: &str, supervision: Supervision) -> Workflow {
        let spec = PipelineSpec::from_json(spec.as_bytes()).unwrap();
        let target = Target {
            flavor: "kubernetes",
            store: "s3://bucket/runs".parse().unwrap(),
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            supervision,
        };
        let image = format!("gcr.io/p/i@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap();
        Workflow::new(&spec, &target, |_| image.clone())
    }

    fn document(step: &WorkflowStep) -> Value {
        serde_json::from_slice(&wire::read(&step.document)).unwrap()
    }

    #[test]
    fn a_step_finds_its_inputs_where_an_earlier_one_puts_them() {
        let workflow = workflow(SPEC);
        let [load, train] = &workflow.steps[..] else { panic!("two steps") };
        let output = &document(load)["steps"][0]["outputs"]["output"]["uri"];
        assert_eq!(output, "s3://bucket/runs/{run}/load/output");
        assert_eq!(&document(train)["steps"][0]["inputs"]["data"]["uri"], output);
        assert_eq!(train.upstream, ["load"]);
        assert_eq!(train.retries, 2);
        assert_eq!(train.settings["service_account"], "trainer");
        assert_eq!(train.settings.len(), 1, "only the orchestrator's own");
    }

    #[test]
    fn a_step_that_may_be_skipped_says_what_it_depends_on() {
        let workflow = workflow(SPEC);
        assert_eq!(document(&workflow.steps[0])["steps"][0].get("cache"), None);
        let cache = document(&workflow.steps[1])["steps"][0]["cache"].clone();
        assert!(cache.as_str().unwrap().starts_with("sha256:"));
    }

    #[test]
    fn the_entrypoint_is_told_of_retries_where_it_sees_to_them() {
        let retries = |supervision| {
            document(&supervised(SPEC, supervision).steps[1])["steps"][0].get("retries").cloned()
        };
        assert_eq!(retries(Supervision::Orchestrator), None);
        assert_eq!(retries(Supervision::Entrypoint), Some(2.into()));
    }

    #[test]
    fn large_parameters_come_in_pieces() {
        let random: String = (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        let workflow = workflow(&SPEC.replace("TEXT", &random));
        let step = &workflow.steps[0];
        assert!(step.document.len() > 10 && step.document.iter().all(|piece| piece.len() <= 256));
        assert_eq!(document(step)["steps"][0]["parameters"]["text"], random);
        let arguments = step.arguments("r1");
        assert_eq!(arguments[..3], ["--run", "r1", "--step"]);
    }
}
