//! Prints what would be submitted to Vertex AI for the pipeline specification on standard input: JSON, for the checks by
//! programs of others in `python/tests/services`.
#![allow(clippy::print_stdout, reason = "a program")]

use std::{collections::BTreeMap, error::Error, io};

use longshore_oci::Reference;
use longshore_orchestrator::{Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_vertex::{Config, Plan};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let input: Value = serde_json::from_reader(io::stdin())?;
    let spec = PipelineSpec::from_json(input["spec"].to_string().as_bytes())?;
    let config: BTreeMap<String, String> = serde_json::from_value(input["config"].clone())?;
    let target = Target {
        flavor: "vertex",
        store: "gs://bucket/runs".parse()?,
        environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu-central-1".to_owned())]),
        secrets: BTreeMap::new(),
        supervision: Supervision::Orchestrator,
    };
    let image: Reference = input["image"].as_str().unwrap_or_default().parse()?;
    let plan = Plan::new(&Workflow::new(&spec, &target, |_| image.clone()), &Config::new(&config)?)?;
    println!("{}", json!({ "job": plan.job, "schedule": plan.schedule }));
    Ok(())
}
