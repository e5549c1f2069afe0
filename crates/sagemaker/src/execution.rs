//! Executions of pipelines and their steps, as the API tells of them.

use jiff::Timestamp;
use longshore_orchestrator::{Phase, StepState};
use serde::Deserialize;
use serde_json::Value;

/// A step of an execution.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Step {
    #[serde(rename = "StepName")]
    id: String,
    #[serde(rename = "StepDisplayName")]
    display_name: Option<String>,
    #[serde(rename = "StepStatus", default)]
    status: String,
    start_time: Option<f64>,
    end_time: Option<f64>,
    failure_reason: Option<String>,
    #[serde(default)]
    metadata: Value,
}

/// A job of a step, and where what it prints is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The log group.
    pub(crate) group: &'static str,
    /// The job's name, with which the names of its log streams begin.
    pub(crate) name: String,
}

impl Step {
    /// The step's name in the pipeline.
    pub(crate) fn name(&self) -> &str {
        match self.display_name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => &self.id,
        }
    }

    /// What the definition calls it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How far it is.
    pub(crate) fn state(&self) -> StepState {
        StepState {
            name: self.name().to_owned(),
            phase: match self.status.as_str() {
                "Starting" => Phase::Pending,
                "Executing" | "Stopping" => Phase::Running,
                status => ended(status),
            },
            reason: self.failure_reason.as_deref().filter(|reason| !reason.is_empty()).map(explained),
            started: self.start_time.and_then(time),
            finished: self.end_time.and_then(time),
        }
    }

    /// The job that does its work, once there is one.
    pub(crate) fn job(&self) -> Option<Job> {
        let kinds = [
            ("/ProcessingJob/Arn", "/aws/sagemaker/ProcessingJobs"),
            ("/TrainingJob/Arn", "/aws/sagemaker/TrainingJobs"),
        ];
        kinds.into_iter().find_map(|(pointer, group)| {
            let name = self.metadata.pointer(pointer)?.as_str()?.rsplit('/').next()?;
            Some(Job { group, name: name.to_owned() })
        })
    }
}

/// The status of an execution.
pub(crate) fn phase(status: &str) -> Phase {
    match status {
        "Executing" | "Stopping" => Phase::Running,
        status => ended(status),
    }
}

fn ended(status: &str) -> Phase {
    match status {
        "Succeeded" => Phase::Succeeded,
        "Stopped" => Phase::Cancelled,
        "Failed" | "CompletedWithFailures" => Phase::Failed,
        _ => Phase::Pending,
    }
}

/// Seconds since 1970, with a fraction.
fn time(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of any date fit")]
    let millis = (seconds * 1000.0) as i64;
    Timestamp::from_millisecond(millis).ok()
}

/// What `SageMaker` says, and what to do about it.
pub(crate) fn explained(reason: &str) -> String {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason = reason.trim_end_matches('.');
    let lower = reason.to_ascii_lowercase();
    let remedies = [
        (
            &["resourcelimitexceeded", "account-level service limit"][..],
            "ask for more of these instances in Service Quotas, or name another instance_type",
        ),
        (
            &["capacityerror", "insufficientcapacity"],
            "there are no such instances free in the region now: try again later, or name another instance_type",
        ),
        (
            &["ecr", "image uri", "pull"],
            "let the role pull the image (ecr:BatchGetImage, ecr:GetDownloadUrlForLayer, ecr:GetAuthorizationToken), from a \
             repository of the same region",
        ),
        (&["maxruntimeexceeded"], "give the step a longer timeout"),
        (
            &["outofmemory", "out of memory", "exit code: 137", "exit code 137"],
            "give it more memory: ResourceSettings(memory=…)",
        ),
        (&["algorithmerror"], "its log says why"),
        (&["accessdenied", "not authorized"], "allow it in the policies of the role that the step runs as"),
    ];
    let remedy = remedies.iter().find(|(words, _)| words.iter().any(|word| lower.contains(word)));
    remedy.map_or_else(|| reason.to_owned(), |(_, remedy)| format!("{reason}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_read() {
        let step: Step = serde_json::from_value(json!({
            "StepName": "donn_es-1", "StepDisplayName": "données", "StepStatus": "Failed", "StartTime": 1_700_000_000.5,
            "FailureReason": "ClientError: AlgorithmError: , exit code: 1",
            "Metadata": { "ProcessingJob": { "Arn": "arn:aws:sagemaker:eu-central-1:1:processing-job/pipelines-abc-load" } },
        }))
        .unwrap();
        let state = step.state();
        assert_eq!((state.name.as_str(), state.phase), ("données", Phase::Failed));
        assert_eq!(state.reason.unwrap(), "ClientError: AlgorithmError: , exit code: 1; its log says why");
        assert_eq!(state.started.unwrap().to_string(), "2023-11-14T22:13:20.5Z");
        let job = Job { group: "/aws/sagemaker/ProcessingJobs", name: "pipelines-abc-load".to_owned() };
        assert_eq!(step.job(), Some(job));
    }

    #[test]
    fn every_status_is_known() {
        for (status, expected) in [
            ("Executing", Phase::Running),
            ("Stopping", Phase::Running),
            ("Stopped", Phase::Cancelled),
            ("Failed", Phase::Failed),
            ("Succeeded", Phase::Succeeded),
            ("CompletedWithFailures", Phase::Failed),
        ] {
            assert_eq!(phase(status), expected, "{status}");
        }
    }
}
