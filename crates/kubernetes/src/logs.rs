//! What a step prints, line by line.
//!
//! A connection may break at any time. The lines come with their times, and are asked for again from the second of the last one
//! on: `sinceTime` knows no less. As many as were passed on from that second are left out, so no line is lost or doubled.

use std::time::Duration;

use futures::AsyncBufReadExt as _;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    ResourceExt as _,
    api::{ListParams, LogParams},
};
use longshore_endpoint::{Pauses, Stage, Tries};
use longshore_orchestrator::Follow;

use crate::{Cluster, Error, diagnosis::Observed, plan::CONTAINER};

/// How long to wait until it is asked again whether there is something new.
const PAUSE: Duration = Duration::from_secs(1);

/// Passes on lines.
pub(crate) struct Lines<'a> {
    /// How many are left out.
    pub(crate) from: usize,
    /// How many there were, those left out included.
    pub(crate) count: usize,
    pub(crate) line: &'a (dyn Fn(&str) + Send + Sync),
}

impl Lines<'_> {
    fn pass(&mut self, line: &str) {
        if self.count >= self.from {
            (self.line)(line);
        }
        self.count += 1;
    }
}

/// How far the lines of a pod have come.
#[derive(Default)]
struct Position {
    /// The second of the last line.
    second: Option<i64>,
    /// How many lines of that second were passed on.
    in_second: usize,
}

impl Position {
    /// Whether the text after a line's time is new; `left_out` counts those that are known.
    fn advance<'l>(&mut self, line: &'l str, left_out: &mut usize) -> Option<&'l str> {
        let (time, text) = line.split_once(' ').unwrap_or((line, ""));
        let second = match time.parse::<Timestamp>() {
            Ok(time) => time.as_second(),
            // What has no time is an answer of the kubelet's own.
            Err(_) => return Some(line),
        };
        if self.second == Some(second) && *left_out > 0 {
            *left_out -= 1;
            return None;
        }
        if self.second.is_none_or(|last| second > last) {
            (self.second, self.in_second) = (Some(second), 0);
            *left_out = 0;
        }
        self.in_second += 1;
        Some(text)
    }
}

/// Passes on what the pods of a step's Job print, attempt after attempt.
pub(crate) async fn pass(
    cluster: &Cluster,
    job: &str,
    follow: Follow,
    lines: &mut Lines<'_>,
) -> Result<(), Error> {
    let mut done: Vec<String> = Vec::new();
    loop {
        // Whether it is over is asked first: a pod that comes after that is not overlooked.
        let is_over = is_over(cluster, job).await?;
        let pods = pods(cluster, job).await?;
        for pod in pods {
            let name = pod.name_any();
            if done.contains(&name) {
                continue;
            }
            if !has_begun(&pod) {
                break;
            }
            of_pod(cluster, &name, follow, lines).await?;
            done.push(name);
        }
        if is_over || follow == Follow::No {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn is_over(cluster: &Cluster, job: &str) -> Result<bool, Error> {
    let job: Option<Job> = cluster.get(job).await?;
    Ok(job.is_none_or(|job| {
        Observed { job: Some(&job), ..Observed::default() }.finding(CONTAINER).phase.is_final()
    }))
}

async fn pods(cluster: &Cluster, job: &str) -> Result<Vec<Pod>, Error> {
    let api = cluster.api::<Pod>();
    let parameters = ListParams::default().labels(&format!("job-name={job}"));
    let what = format!("list the pods of Job {job}");
    let mut pods = cluster.ask(&what, || api.list(&parameters)).await?.items;
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.name_any()));
    Ok(pods)
}

/// Whether the step's container has printed, or may have.
fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    let mut of_step = statuses.filter(|status| status.name == CONTAINER);
    of_step.any(|status| {
        status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    })
}

async fn is_running(cluster: &Cluster, name: &str) -> Result<bool, Error> {
    let pod: Option<Pod> = cluster.get(name).await?;
    let statuses = pod.and_then(|pod| pod.status?.container_statuses).unwrap_or_default();
    let mut of_step = statuses.iter().filter(|status| status.name == CONTAINER);
    Ok(of_step.any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some())))
}

/// Passes on what a pod prints; with [`Follow::Yes`], until its container ends.
async fn of_pod(cluster: &Cluster, name: &str, follow: Follow, lines: &mut Lines<'_>) -> Result<(), Error> {
    let mut position = Position::default();
    let mut tries = Tries::new(Pauses::default());
    loop {
        // Asked before reading: what is printed after the answer is read then, or in the next round.
        let was_running = follow == Follow::Yes && is_running(cluster, name).await?;
        let before = lines.count;
        match read(cluster, name, was_running, &mut position, lines).await {
            // A stream that ends while the container runs was cut off.
            Ok(()) if was_running => {
                if lines.count > before {
                    tries.made_headway();
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(()) => return Ok(()),
            Err(error) => {
                if lines.count > before {
                    tries.made_headway();
                }
                let explained = cluster.explain(&format!("read the logs of pod {name}"), &error);
                if !explained.is_retryable() {
                    return Err(explained);
                }
                let Some(pause) = tries.failed(Stage::Connected, None) else { return Err(explained) };
                tracing::debug!(error = %explained, ?pause, "taking up the logs again");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn read(
    cluster: &Cluster,
    name: &str,
    follow: bool,
    position: &mut Position,
    lines: &mut Lines<'_>,
) -> Result<(), kube::Error> {
    let parameters = LogParams {
        container: Some(CONTAINER.to_owned()),
        follow,
        timestamps: true,
        since_time: position.second.and_then(|second| Timestamp::from_second(second).ok()),
        ..LogParams::default()
    };
    let stream = cluster.api::<Pod>().log_stream(name, &parameters).await;
    let stream = match stream {
        Ok(stream) => stream,
        // It has not begun, or is gone: there is nothing to read.
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut stream = std::pin::pin!(stream);
    let mut left_out = position.in_second;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        stream.read_until(b'\n', &mut bytes).await.map_err(kube::Error::ReadEvents)?;
        // A line without an end is the container's last, or one that was cut off and comes again.
        if bytes.is_empty() || (follow && bytes.last() != Some(&b'\n')) {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&bytes);
        if let Some(text) = position.advance(line.trim_end_matches(['\n', '\r']), &mut left_out) {
            lines.pass(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is passed on of lines whose connection breaks after so many, again and again.
    fn passed(lines: &[(i64, String)], breaks: &[usize]) -> Vec<String> {
        let mut position = Position::default();
        let mut passed = Vec::new();
        for length in breaks.iter().copied().chain([usize::MAX]) {
            let since = position.second.unwrap_or(i64::MIN);
            let mut left_out = position.in_second;
            for (second, text) in lines.iter().filter(|(second, _)| *second >= since).take(length) {
                let time = Timestamp::from_second(*second).unwrap();
                let line = format!("{time} {text}");
                passed.extend(position.advance(&line, &mut left_out).map(str::to_owned));
            }
        }
        passed
    }

    proptest! {
        #[test]
        fn no_line_is_lost_or_doubled(
            steps in proptest::collection::vec(0_i64..3, 0..40),
            breaks in proptest::collection::vec(0_usize..20, 0..6),
        ) {
            let mut second = 1_700_000_000;
            let lines: Vec<_> = steps.iter().enumerate().map(|(index, step)| {
                second += step;
                (second, format!("line {index}"))
            }).collect();
            let expected: Vec<_> = lines.iter().map(|(_, text)| text.clone()).collect();
            prop_assert_eq!(passed(&lines, &breaks), expected);
        }
    }
}
