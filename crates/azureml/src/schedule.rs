//! The schedule of a pipeline: a trigger that creates the pipeline job (`Schedule` of the REST API).

use longshore_orchestrator::{Phase, RunState, Workflow};
use longshore_pipeline::{Cron, Schedule as When};
use serde_json::{Value, json};

use crate::{Error, name::version, timezone::windows};

/// What the name of a schedule begins with, to tell it from that of a run.
pub(crate) const SCHEDULE: &str = "schedules/";

/// The schedule of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its name: each pipeline has one.
    pub name: String,
    /// What it is made of.
    pub body: Value,
}

impl Schedule {
    /// The schedule of a workflow, if it has one. `name` is what names of runs begin with.
    pub(crate) fn of(workflow: &Workflow, name: &str, job: &Value) -> Result<Option<Self>, Error> {
        let Some(when) = &workflow.schedule else { return Ok(None) };
        let trigger = trigger(&workflow.pipeline, when)?;
        let mut digest = version(&workflow.pipeline);
        digest.truncate(8);
        let body = json!({ "properties": {
            "displayName": workflow.pipeline,
            "isEnabled": true,
            "trigger": trigger,
            "action": { "actionType": "CreateJob", "jobDefinition": job["properties"] },
        } });
        Ok(Some(Self { name: format!("{name}-{digest}"), body }))
    }
}

/// When it runs, as the service says it: by cron's fields, of which it looks at minutes, hours and days of the week only, or on
/// days of every month.
fn trigger(pipeline: &str, when: &When) -> Result<Value, Error> {
    let named = |source| Error::Cron { pipeline: pipeline.to_owned(), source };
    let cron = when.cron.parse::<Cron>().map_err(named)?;
    let zone = windows(&when.timezone)
        .ok_or_else(|| Error::TimeZone { pipeline: pipeline.to_owned(), zone: when.timezone.clone() })?;
    let Cron { minutes, hours, days, months, weekdays } = &cron;
    match (days.is_every(), months.is_every(), weekdays.is_every()) {
        (true, true, _) => Ok(json!({
            "triggerType": "Cron", "timeZone": zone, "expression": format!("{minutes} {hours} * * {weekdays}"),
        })),
        (false, true, true) => Ok(json!({
            "triggerType": "Recurrence", "timeZone": zone, "frequency": "Month", "interval": 1,
            "schedule": { "minutes": minutes.values(), "hours": hours.values(), "monthDays": days.values() },
        })),
        _ => Err(Error::Days { pipeline: pipeline.to_owned(), cron: when.cron.clone() }),
    }
}

/// How far a schedule is, as the service tells of it.
pub(crate) fn state(answer: &Value) -> RunState {
    let properties = &answer["properties"];
    let trigger = &properties["trigger"];
    let zone = trigger["timeZone"].as_str().unwrap_or_default();
    let (phase, reason) = if properties["isEnabled"] == false {
        (Phase::Cancelled, "the schedule is switched off".to_owned())
    } else if let Some(expression) = trigger["expression"].as_str() {
        (Phase::Running, format!("runs begin at {expression}, {zone}"))
    } else {
        let schedule = &trigger["schedule"];
        let reason = format!(
            "runs begin on the days {} of every month, hours {}, minutes {}, {zone}",
            schedule["monthDays"], schedule["hours"], schedule["minutes"]
        );
        (Phase::Running, reason)
    };
    RunState { phase, reason: Some(reason), steps: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(cron: &str, timezone: &str) -> Result<Value, String> {
        let when = When { cron: cron.to_owned(), timezone: timezone.to_owned() };
        trigger("p", &when).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_said_as_cron_or_as_days_of_the_month() {
        assert_eq!(
            made("*/30 3 * * MON-FRI", "Europe/Zurich").unwrap(),
            json!({ "triggerType": "Cron", "timeZone": "W. Europe Standard Time", "expression": "0,30 3 * * 1-5" })
        );
        let monthly = made("0 3 1,15 * *", "UTC").unwrap();
        assert_eq!((&monthly["triggerType"], &monthly["frequency"]), (&json!("Recurrence"), &json!("Month")));
        assert_eq!(monthly["schedule"], json!({ "minutes": [0], "hours": [3], "monthDays": [1, 15] }));
        for cron in ["0 3 * 6 *", "0 3 1 * MON", "0 3 1 6 *"] {
            assert!(made(cron, "UTC").unwrap_err().contains(cron), "{cron}");
        }
        assert!(made("0 3 * * *", "Mars/Base").unwrap_err().contains("Mars/Base"));
        assert!(made("0 25 * * *", "UTC").unwrap_err().contains("no hour"));
    }
}
