//! Prints what would be submitted to `SageMaker` for the pipeline specification on standard input: JSON, for the checks by
//! Amazon's own service model in `python/tests/services`.
#![allow(clippy::print_stdout, reason = "a program")]

use std::{collections::BTreeMap, error::Error, io};

use longshore_oci::Reference;
use longshore_orchestrator::{Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_sagemaker::{Config, INSTANCES, Plan};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let input: Value = serde_json::from_reader(io::stdin())?;
    let spec = PipelineSpec::from_json(input["spec"].to_string().as_bytes())?;
    let config: BTreeMap<String, String> = serde_json::from_value(input["config"].clone())?;
    let target = Target {
        flavor: "sagemaker",
        store: "s3://bucket/runs".parse()?,
        environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu-central-1".to_owned())]),
        secrets: BTreeMap::new(),
        supervision: Supervision::Entrypoint,
    };
    let image: Reference = input["image"].as_str().unwrap_or_default().parse()?;
    let plan = Plan::new(&Workflow::new(&spec, &target, |_| image.clone()), &Config::new(&config)?)?;
    let instances = INSTANCES.map(|(name, ..)| name);
    let schedule =
        plan.schedule.map(|schedule| json!({ "name": schedule.name, "request": schedule.request }));
    let (request, definition) = (plan.request, plan.definition);
    println!(
        "{}",
        json!({ "request": request, "definition": definition, "schedule": schedule, "instances": instances })
    );
    Ok(())
}
