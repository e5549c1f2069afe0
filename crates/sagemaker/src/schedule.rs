//! The schedule of a pipeline: one of Amazon `EventBridge` Scheduler, whose target is the pipeline.

use longshore_orchestrator::{Phase, RunState, Workflow};
use longshore_pipeline::Cron;
use serde_json::{Value, json};

use crate::{Config, Error, name};

/// The group that schedules are in: each account has it.
pub(crate) const GROUP: &str = "default";
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The schedule of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its name: each pipeline has one.
    pub name: String,
    /// `CreateSchedule`'s input, without the token of the request. The name is in the path.
    pub request: Value,
}

impl Schedule {
    /// The schedule of a workflow, if it has one. `pipeline` is the name that `SageMaker` knows it by.
    pub(crate) fn of(workflow: &Workflow, pipeline: &str, config: &Config) -> Result<Option<Self>, Error> {
        let Some(schedule) = &workflow.schedule else { return Ok(None) };
        let named = |source| Error::Cron { pipeline: workflow.pipeline.clone(), source };
        let cron = schedule.cron.parse::<Cron>().map_err(named)?;
        let expression = expression(&cron).ok_or_else(|| Error::Days {
            pipeline: workflow.pipeline.clone(),
            cron: schedule.cron.clone(),
        })?;
        let request = json!({
            "GroupName": GROUP,
            "Description": format!("Runs the pipeline {}, which longshore made.", workflow.pipeline),
            "ScheduleExpression": expression,
            "ScheduleExpressionTimezone": schedule.timezone,
            "FlexibleTimeWindow": { "Mode": "OFF" },
            "State": "ENABLED",
            "Target": { "Arn": pipeline_arn(pipeline, config), "RoleArn": config.scheduler_role() },
        });
        Ok(Some(Self { name: name::schedule(pipeline), request }))
    }
}

/// The ARN of a pipeline: it is in the account of its role, and has small letters.
fn pipeline_arn(pipeline: &str, config: &Config) -> String {
    let parts: Vec<&str> = config.role.splitn(6, ':').collect();
    let part = |position: usize| parts.get(position).copied().unwrap_or_default();
    let name = pipeline.to_ascii_lowercase();
    format!("arn:{}:sagemaker:{}:{}:pipeline/{name}", part(1), config.region, part(4))
}

/// Cron's five fields as the six of the scheduler, which has years, too, and a question mark for the days that are not looked at.
/// None where both days of the month and of the week are given: cron runs on either of them, which it cannot say.
fn expression(cron: &Cron) -> Option<String> {
    let Cron { minutes, hours, days, months, weekdays } = cron;
    let (days, weekdays) = match (days.is_every(), weekdays.is_every()) {
        (_, true) => (days.to_string(), "?".to_owned()),
        (true, false) => {
            // Its own numbers begin with 1.
            let names =
                weekdays.values().into_iter().filter_map(|day| WEEKDAYS.get(usize::from(day)).copied());
            ("?".to_owned(), names.collect::<Vec<_>>().join(","))
        }
        (false, false) => return None,
    };
    Some(format!("cron({minutes} {hours} {days} {months} {weekdays} *)"))
}

/// The name of the schedule that an ARN is of: `arn:aws:scheduler:eu-central-1:123456789012:schedule/default/digits-pipeline`.
pub(crate) fn named(run: &str) -> Option<&str> {
    let parts: Vec<&str> = run.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "scheduler", _, _, resource] => {
            resource.strip_prefix("schedule/")?.split_once('/').map(|(_, name)| name)
        }
        _ => None,
    }
}

/// How far a schedule is, by `GetSchedule`'s answer.
pub(crate) fn state(answer: &Value) -> RunState {
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
    let (phase, reason) = if text("State") == "DISABLED" {
        (Phase::Cancelled, "the schedule is switched off".to_owned())
    } else {
        let (expression, zone) = (text("ScheduleExpression"), text("ScheduleExpressionTimezone"));
        (Phase::Running, format!("runs begin at {expression}, {zone}"))
    };
    RunState { phase, reason: Some(reason), steps: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_become_six() {
        for (cron, same) in [
            ("30 3 * * *", "cron(30 3 * * ? *)"),
            ("*/15 8-18 * * MON-FRI", "cron(0,15,30,45 8-18 ? * MON,TUE,WED,THU,FRI *)"),
            ("0 0 1,15 1-6 *", "cron(0 0 1,15 1-6 ? *)"),
            ("0 0 * * 7", "cron(0 0 ? * SUN *)"),
        ] {
            assert_eq!(expression(&cron.parse().unwrap()).as_deref(), Some(same), "{cron}");
        }
        assert_eq!(expression(&"0 0 13 * FRI".parse().unwrap()), None);
    }

    #[test]
    fn schedules_are_told_from_runs() {
        assert_eq!(
            named("arn:aws:scheduler:eu-central-1:123456789012:schedule/default/digits-pipeline"),
            Some("digits-pipeline")
        );
        assert_eq!(named("arn:aws:sagemaker:eu-central-1:1:pipeline/p/execution/e"), None);
    }
}
