//! One registry, looked at the way a build will use it.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use jiff::{Timestamp, tz::TimeZone};
use longshore_auth::{Credential, Lease, Renewal, Target};
use longshore_client::{Client, ClientConfig, ClientError};
use longshore_endpoint::Stage;
use longshore_oci::{Reference, Repository};

use crate::{
    Check, Finding, Level, clock,
    remedy::{self, Permission},
};

/// What a build wants of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To read this image.
    Pull(Reference),
    /// To write images into this repository.
    Push {
        /// The repository.
        repository: Repository,
        /// What becomes of it if it does not exist.
        missing: MissingRepository,
    },
    /// Only that it answers and knows who we are.
    Answer(String),
}

/// What becomes of a repository that does not exist when something is pushed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRepository {
    /// The registry makes it, as most do, or the push fails.
    LeftToRegistry,
    /// longshore makes it (Amazon ECR).
    MadeByUs,
}

/// What checks work with.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// What will be used for pushing and pulling.
    pub client: &'a Client,
    /// How long credentials should stay good.
    pub expected: Duration,
}

impl Need {
    /// The registry's host.
    pub fn host(&self) -> &str {
        match self {
            Self::Pull(image) => image.repository.host(),
            Self::Push { repository, .. } => repository.host(),
            Self::Answer(host) => host,
        }
    }

    fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Pull(image) => Some(&image.repository),
            Self::Push { repository, .. } => Some(repository),
            Self::Answer(_) => None,
        }
    }
}

/// Checks each need, side by side; the findings come in the order of the needs. What depends on a check that failed
/// is left out: its finding would only repeat the cause.
pub async fn check(means: Means<'_>, needs: &[Need]) -> Vec<Finding> {
    let checks = needs.iter().map(|need| check_one(means, need));
    let mut findings: Vec<Finding> = Vec::new();
    for finding in join_all(checks).await.into_iter().flatten() {
        // Two needs of one registry find the same of it.
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

async fn check_one(means: Means<'_>, need: &Need) -> Vec<Finding> {
    let host = need.host();
    let mut findings = Vec::new();
    match reach(means, host).await {
        Ok(date) => {
            findings.push(Finding::ok(Check::Reach, host, "answers"));
            findings.extend(clock::compare(host, date.as_deref(), SystemTime::now()));
        }
        // Behind a mirror, the registry itself need not be reachable to pull.
        Err(finding) if is_mirrored(means, need) => findings.push(Finding {
            level: Level::Warning,
            remedy: Some("its mirrors are asked alone".to_owned()),
            ..finding
        }),
        Err(finding) => return vec![finding],
    }
    let target = Target { host, repository: need.repository().map(Repository::path) };
    let lease = match means.client.config().credentials.lease(target).await {
        Ok(lease) => lease,
        Err(error) => {
            findings.push(Finding::error(Check::Authenticate, host, error.to_string(), None));
            return findings;
        }
    };
    findings.extend(expiry(host, &lease, means.expected, Timestamp::now()));
    findings.extend(permission(means.client, need, &lease).await);
    findings
}

/// Whether what is needed can come from a mirror.
fn is_mirrored(means: Means<'_>, need: &Need) -> bool {
    let hosts = &means.client.config().hosts;
    matches!(need, Need::Pull(_)) && !hosts.registry(need.host()).mirrors.is_empty()
}

/// Asks the registry's root; what comes back is its `Date` header.
async fn reach(means: Means<'_>, host: &str) -> Result<Option<String>, Finding> {
    let ClientConfig { hosts, web, .. } = means.client.config();
    let server = hosts.registry(host).server;
    let failed = |message: String| Finding::error(Check::Reach, host, message, None);
    let url = server.at("v2/").map_err(|error| failed(error.to_string()))?;
    let client = web.client_for(&server).map_err(|fault| failed(fault.to_string()))?;
    // What a firewall drops now it drops at the next try too, so one answer is enough; a broken connection is tried twice.
    let mut last = None;
    for _ in 0..2 {
        match client.get(url.clone()).send().await {
            Ok(response) => {
                let date = response.headers().get(http::header::DATE);
                return Ok(date.and_then(|date| date.to_str().ok()).map(str::to_owned));
            }
            Err(error) => {
                let (fault, stage) = web.explain(&url, &error);
                let again = fault.is_retryable() && stage == Stage::Connected;
                last = Some(fault);
                if !again {
                    break;
                }
            }
        }
    }
    Err(failed(last.map_or_else(|| "no answer".to_owned(), |fault| fault.to_string())))
}

/// Whether a credential stays good for as long as it is needed.
fn expiry(host: &str, lease: &Lease, expected: Duration, now: Timestamp) -> Option<Finding> {
    let expires = lease.expires?;
    if lease.renewal == Renewal::Automatic {
        return None;
    }
    let left = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
    let at = expires.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M");
    let origin = &lease.origin;
    if left.is_zero() {
        let message = format!("the credentials of {origin} expired at {at}");
        return Some(Finding::error(Check::Expiry, host, message, Some(remedy::log_in(host, origin))));
    }
    if left < expected {
        let message =
            format!("the credentials of {origin} expire at {at}, which may be before a build is done");
        return Some(Finding::warning(Check::Expiry, host, message, remedy::log_in(host, origin)));
    }
    Some(Finding::ok(Check::Expiry, host, format!("the credentials of {origin} are good until {at}")))
}

/// Who we are to the registry, for messages.
fn who(lease: &Lease) -> String {
    match lease.credential {
        Credential::Anonymous => "without credentials".to_owned(),
        _ => format!("as {}", lease.origin),
    }
}

/// Whether what is wanted is allowed.
async fn permission(client: &Client, need: &Need, lease: &Lease) -> Vec<Finding> {
    let host = need.host();
    let accepted = || Finding::ok(Check::Authenticate, host, format!("accepted {}", who(lease)));
    match need {
        Need::Answer(_) => match client.ping(host).await {
            Ok(_) => vec![accepted()],
            Err(error) => vec![refusal(&error, need, Permission::Pull, Check::Authenticate, lease)],
        },
        Need::Pull(image) => match client.resolve(image).await {
            Ok(resolved) => {
                let found = format!("can be pulled, {}", resolved.digest.short());
                vec![accepted(), Finding::ok(Check::Pull, image.to_string(), found)]
            }
            Err(error) => vec![refusal(&error, need, Permission::Pull, Check::Pull, lease)],
        },
        Need::Push { repository, missing } => match client.probe_push(repository).await {
            Ok(()) => vec![accepted(), Finding::ok(Check::Push, repository.to_string(), "can be pushed to")],
            Err(error) if error.is_not_found() && *missing == MissingRepository::MadeByUs => {
                let message = "does not exist yet; it is made when something is pushed";
                vec![accepted(), Finding::ok(Check::Repository, repository.to_string(), message)]
            }
            Err(error) => vec![refusal(&error, need, Permission::Push, Check::Push, lease)],
        },
    }
}

/// What a refusal means.
fn refusal(error: &ClientError, need: &Need, permission: Permission, check: Check, lease: &Lease) -> Finding {
    let host = need.host();
    let object = match need {
        Need::Pull(image) => image.to_string(),
        Need::Push { repository, .. } => repository.to_string(),
        Need::Answer(host) => host.clone(),
    };
    match error {
        ClientError::Unauthorized { .. } | ClientError::Credentials { .. } => Finding::error(
            Check::Authenticate,
            host,
            reason(error),
            Some(remedy::log_in(host, &lease.origin)),
        ),
        ClientError::Denied { .. } => {
            let remedy = match lease.credential {
                Credential::Anonymous => remedy::log_in(host, &lease.origin),
                _ => remedy::grant(host, permission),
            };
            Finding::error(check, object, reason(error), Some(remedy))
        }
        ClientError::NotFound { .. } if permission == Permission::Push => {
            let path = need.repository().map(Repository::path).unwrap_or_default();
            let remedy = remedy::create(host, path).map_or_else(
                || "check the name of the repository".to_owned(),
                |command| format!("create it: `{command}`"),
            );
            Finding::error(Check::Repository, object, "the repository does not exist", Some(remedy))
        }
        ClientError::NotFound { .. } => {
            let remedy = "check its name and tag".to_owned();
            Finding::error(check, object, "there is no such image", Some(remedy))
        }
        other => Finding::error(check, object, other.to_string(), None),
    }
}

/// What the registry said, without the remedy that the client's own message ends with.
fn reason(error: &ClientError) -> String {
    let said = |reason: &Option<String>| {
        reason.as_deref().map_or_else(String::new, |reason| format!(" (“{reason}”)"))
    };
    match error {
        ClientError::Unauthorized { host, origin, reason, .. } => {
            format!("{host} does not accept {origin}{}", said(reason))
        }
        ClientError::Denied { host, origin, reason, .. } => {
            format!("{host} does not allow it with {origin}{}", said(reason))
        }
        other => other.to_string(),
    }
}
