//! How long the credentials that a run is given are good, and what that means for it.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use longshore_auth::{AuthError, storage::Lifetime};
use longshore_stack::StoreGrant;

use crate::Workflow;

/// How long some credentials of a run are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What they are for: the URI of an artifact store, the host of a registry.
    pub object: String,
    /// Where they are from: `service connector minio`.
    pub origin: String,
    /// How long they are good.
    pub lifetime: Lifetime,
    /// What they are used for.
    pub purpose: Purpose,
}

/// What credentials of a run are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Steps read and write artifacts with them.
    Artifacts,
    /// Images are pulled with them.
    Images,
}

/// Where the credentials come from that steps reach their artifact store with: again, when those that they have expire.
pub trait GrantSource: fmt::Debug + Send + Sync {
    /// New ones.
    fn grant(&self) -> BoxFuture<'_, Result<StoreGrant, AuthError>>;
}

impl Term {
    /// The term of what steps reach their artifact store with.
    pub fn of_store(store: impl fmt::Display, grant: &StoreGrant) -> Self {
        Self {
            object: store.to_string(),
            origin: grant.origin.clone(),
            lifetime: grant.lifetime,
            purpose: Purpose::Artifacts,
        }
    }

    /// Whether runs find them good that begin by themselves, at any time to come.
    pub const fn is_lasting(&self) -> bool {
        match (self.lifetime, self.purpose) {
            (Lifetime::Unlimited, _) => true,
            (Lifetime::Until(_), _) => false,
            // Docker's configuration does not say how long its passwords are good, and mostly they stay so.
            (Lifetime::Unknown, purpose) => matches!(purpose, Purpose::Images),
        }
    }

    /// What whoever submits the workflow now should know of them, if anything.
    pub fn notice(&self, workflow: &Workflow, now: Timestamp) -> Option<String> {
        let Self { object, origin, lifetime, purpose } = self;
        match (lifetime, purpose) {
            (Lifetime::Unlimited, Purpose::Artifacts) => {
                let end = match workflow.schedule {
                    Some(_) => "the schedule is deleted",
                    None => "the run has ended",
                };
                Some(format!(
                    "steps get the key of {origin} for {object}: it does not expire, and is kept where they run until {end}"
                ))
            }
            (Lifetime::Unknown, Purpose::Artifacts) => {
                Some(format!("it is not known until when the credentials for {object} ({origin}) are good"))
            }
            (Lifetime::Until(until), _) => self.until(*until, workflow.longest(), now),
            (Lifetime::Unlimited | Lifetime::Unknown, Purpose::Images) => None,
        }
    }

    /// The same of credentials that expire.
    fn until(&self, until: Timestamp, longest: Option<Duration>, now: Timestamp) -> Option<String> {
        let Self { object, origin, purpose, .. } = self;
        let good = format!("the credentials for {object} ({origin}) are good until {until:.0}");
        let latest = longest.and_then(|longest| now.checked_add(longest).ok());
        let renewed = match (latest, purpose) {
            (Some(latest), Purpose::Artifacts) if latest <= until => {
                return Some(format!("{good}, and the time limits of the steps end the run before"));
            }
            (Some(latest), Purpose::Images) if latest <= until => return None,
            (Some(latest), _) => format!(
                "the time limits of the steps allow the run to go on until {latest:.0}; as long as somebody watches it, they are \
                 renewed"
            ),
            (None, _) => "as long as somebody watches the run, they are renewed".to_owned(),
        };
        let otherwise = match purpose {
            Purpose::Artifacts => {
                "for the steps that begin then; a step cannot save its outputs with what has expired since it began"
            }
            Purpose::Images => "and otherwise later steps run only where their image is already",
        };
        let joint = if *purpose == Purpose::Artifacts { "" } else { "," };
        Some(format!("{good}; {renewed}{joint} {otherwise}"))
    }
}

impl Workflow {
    /// How long a run may take by the time limits of its steps, all attempts counted: none if a step has no limit.
    pub fn longest(&self) -> Option<Duration> {
        let mut ends: BTreeMap<&str, Duration> = BTreeMap::new();
        for step in &self.steps {
            let begins = step.upstream.iter().filter_map(|name| ends.get(name.as_str())).max();
            let takes = step.timeout?.saturating_mul(step.retries.saturating_add(1));
            ends.insert(&step.name, begins.copied().unwrap_or_default().saturating_add(takes));
        }
        ends.into_values().max()
    }
}

#[cfg(test)]
mod tests {
    use longshore_oci::Reference;
    use longshore_pipeline::{PipelineSpec, Schedule};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Supervision, Target};

    /// A workflow of two steps, one after the other, with these limits in seconds.
    fn workflow(limits: [Option<u64>; 2]) -> Workflow {
        let step = |name: &str, after: &[&str], timeout: Option<u64>| {
            json!({"name": name, "source": {"module": "m", "attribute": name}, "outputs": [], "after": after,
                "timeout": timeout, "retries": 1})
        };
        let steps: Vec<Value> = vec![step("load", &[], limits[0]), step("train", &["load"], limits[1])];
        let spec = json!({"version": 2, "pipeline": {"name": "p"}, "source_root": "/src", "sdk_version": "0.1.0",
            "python": {"executable": "/usr/bin/python3", "version": "3.11.2"}, "steps": steps});
        let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
        let target = Target {
            flavor: "kubernetes",
            store: "s3://bucket/runs".parse().unwrap(),
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            supervision: Supervision::Orchestrator,
        };
        let image = format!("gcr.io/p/i@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap();
        Workflow::new(&spec, &target, |_| image.clone())
    }

    fn term(lifetime: Lifetime, purpose: Purpose) -> Term {
        let object = match purpose {
            Purpose::Artifacts => "s3://bucket/runs",
            Purpose::Images => "gcr.io",
        };
        Term { object: object.to_owned(), origin: "service connector c".to_owned(), lifetime, purpose }
    }

    const NOW: &str = "2030-01-01T00:00:00Z";

    fn notice(limits: [Option<u64>; 2], until: &str, purpose: Purpose) -> Option<String> {
        let term = term(Lifetime::Until(until.parse().unwrap()), purpose);
        term.notice(&workflow(limits), NOW.parse().unwrap())
    }

    #[test]
    fn limits_add_up_along_the_order_of_the_steps() {
        assert_eq!(workflow([Some(60), Some(600)]).longest(), Some(Duration::from_mins(22)));
        assert_eq!(workflow([Some(60), None]).longest(), None);
    }

    #[test]
    fn it_is_told_until_when_artifacts_can_be_reached() {
        let hour = "2030-01-01T01:00:00Z";
        let told = |limits| notice(limits, hour, Purpose::Artifacts).unwrap();
        let good =
            "the credentials for s3://bucket/runs (service connector c) are good until 2030-01-01T01:00:00Z";
        assert_eq!(
            told([Some(60), Some(60)]),
            format!("{good}, and the time limits of the steps end the run before")
        );
        assert_eq!(
            told([Some(60), Some(3600)]),
            format!(
                "{good}; the time limits of the steps allow the run to go on until 2030-01-01T02:02:00Z; as long as somebody \
                 watches it, they are renewed for the steps that begin then; a step cannot save its outputs with what has \
                 expired since it began"
            )
        );
        assert!(told([Some(60), None]).starts_with(&format!("{good}; as long as somebody watches the run")));
        let key = term(Lifetime::Unlimited, Purpose::Artifacts);
        let now = NOW.parse().unwrap();
        assert_eq!(
            key.notice(&workflow([None, None]), now).unwrap(),
            "steps get the key of service connector c for s3://bucket/runs: it does not expire, and is kept where they run \
             until the run has ended"
        );
        let schedule = Some(Schedule { cron: "0 3 * * *".to_owned(), timezone: "UTC".to_owned() });
        let scheduled = Workflow { schedule, ..workflow([None, None]) };
        assert!(key.notice(&scheduled, now).unwrap().ends_with("until the schedule is deleted"));
    }

    #[test]
    fn it_is_told_of_pulling_what_may_fail() {
        let hour = "2030-01-01T01:00:00Z";
        assert_eq!(notice([Some(60), Some(60)], hour, Purpose::Images), None);
        assert_eq!(
            notice([None, None], hour, Purpose::Images).unwrap(),
            "the credentials for gcr.io (service connector c) are good until 2030-01-01T01:00:00Z; as long as somebody watches \
             the run, they are renewed, and otherwise later steps run only where their image is already"
        );
        let told =
            |lifetime| term(lifetime, Purpose::Images).notice(&workflow([None, None]), NOW.parse().unwrap());
        assert_eq!((told(Lifetime::Unlimited), told(Lifetime::Unknown)), (None, None));
    }

    #[test]
    fn schedules_want_what_lasts() {
        let lasting = |lifetime, purpose| term(lifetime, purpose).is_lasting();
        let then = Lifetime::Until(NOW.parse().unwrap());
        for purpose in [Purpose::Artifacts, Purpose::Images] {
            assert!(lasting(Lifetime::Unlimited, purpose));
            assert!(!lasting(then, purpose));
        }
        assert!(lasting(Lifetime::Unknown, Purpose::Images));
        assert!(!lasting(Lifetime::Unknown, Purpose::Artifacts), "what a session's end is");
    }
}
