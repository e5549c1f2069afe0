//! Prints the DAG file for the pipeline specification on standard input, within JSON: for the checks by Airflow itself in
//! `python/tests/services`.
#![allow(clippy::print_stdout, reason = "a program")]

use std::{collections::BTreeMap, error::Error, io};

use longshore_airflow::{Config, Plan};
use longshore_oci::Reference;
use longshore_orchestrator::{Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let input: Value = serde_json::from_reader(io::stdin())?;
    let spec = PipelineSpec::from_json(input["spec"].to_string().as_bytes())?;
    let config: BTreeMap<String, String> = serde_json::from_value(input["config"].clone())?;
    let target = Target {
        flavor: "airflow",
        store: "s3://bucket/runs".parse()?,
        environment: BTreeMap::from([
            ("AWS_REGION".to_owned(), "eu-central-1".to_owned()),
            // Airflow's templates must leave these alone.
            ("BRACES".to_owned(), "{{ run_id }} {% raw %} {# \u{1f6a2}\n".to_owned()),
            ("SCRIPT".to_owned(), "/etc/profile.sh".to_owned()),
        ]),
        secrets: BTreeMap::new(),
        supervision: Supervision::Orchestrator,
    };
    let image: Reference = input["image"].as_str().unwrap_or_default().parse()?;
    let plan = Plan::new(&Workflow::new(&spec, &target, |_| image.clone()), &Config::new(&config)?)?;
    println!("{}", json!({ "name": plan.file_name(), "dag": plan.dag, "file": plan.file }));
    Ok(())
}
