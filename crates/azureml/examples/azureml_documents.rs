//! Prints what would be submitted to Azure Machine Learning for the pipeline specification on standard input: JSON, for the
//! checks by programs of others in `python/tests/services`.
#![allow(clippy::print_stdout, reason = "a program")]

use std::{collections::BTreeMap, error::Error, io};

use longshore_azureml::{Asset, Config, Plan};
use longshore_oci::Reference;
use longshore_orchestrator::{Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let input: Value = serde_json::from_reader(io::stdin())?;
    let spec = PipelineSpec::from_json(input["spec"].to_string().as_bytes())?;
    let config: BTreeMap<String, String> = serde_json::from_value(input["config"].clone())?;
    let target = Target {
        flavor: "azureml",
        store: "az://runs/longshore".parse()?,
        environment: BTreeMap::from([("AZURE_STORAGE_ACCOUNT".to_owned(), "account".to_owned())]),
        secrets: BTreeMap::new(),
        supervision: Supervision::Entrypoint,
    };
    let image: Reference = input["image"].as_str().unwrap_or_default().parse()?;
    let plan = Plan::new(&Workflow::new(&spec, &target, |_| image.clone()), &Config::new(&config)?)?;
    let assets = |assets: &[Asset]| {
        assets.iter().map(|asset| json!({ "id": asset.id, "body": asset.body })).collect::<Vec<_>>()
    };
    let (environments, components) = (assets(&plan.environments), assets(&plan.components));
    let schedule = plan.schedule.map(|schedule| json!({ "name": schedule.name, "body": schedule.body }));
    let made = json!({
        "environments": environments, "components": components, "job": plan.job, "schedule": schedule,
    });
    println!("{made}");
    Ok(())
}
