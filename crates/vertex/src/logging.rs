//! What steps print, in Cloud Logging (`entries.list`).

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The most entries of an answer.
const PAGE: u32 = 1000;
/// How late an entry may come after ones with later times.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// The lines of a step so far.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    seen: BTreeSet<String>,
    latest: Option<Timestamp>,
    count: usize,
}

impl Lines {
    /// The request for what came since, or for a further page of it.
    pub(crate) fn request(&self, project: &str, custom_jobs: &[String], page: Option<&str>) -> Value {
        let jobs: Vec<String> =
            custom_jobs.iter().map(|job| format!("resource.labels.job_id=\"{job}\"")).collect();
        let mut filter = format!("resource.type=\"ml_job\" AND ({})", jobs.join(" OR "));
        // Without a time, Cloud Logging reads the whole of its retention.
        if let Some(since) = self.latest.and_then(|latest| latest.checked_sub(LATE).ok()) {
            filter.extend([" AND timestamp>=\"", &since.to_string(), "\""]);
        }
        let mut request = json!({
            "resourceNames": [format!("projects/{project}")], "filter": filter, "orderBy": "timestamp asc", "pageSize": PAGE,
        });
        if let Some(page) = page {
            request["pageToken"] = json!(page);
        }
        request
    }

    /// Takes an answer: `line` is called for each new line from the line of that number on. The next page, if there is one.
    pub(crate) fn take(
        &mut self,
        answer: &Value,
        from: usize,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Option<String> {
        for entry in answer.get("entries").and_then(Value::as_array).into_iter().flatten() {
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
            let time = text("/timestamp").unwrap_or_default();
            if !self.seen.insert(format!("{time} {}", text("/insertId").unwrap_or_default())) {
                continue;
            }
            self.latest = self.latest.max(time.parse().ok());
            let message = text("/textPayload").or_else(|| text("/jsonPayload/message")).unwrap_or_default();
            for text in message.lines() {
                if self.count >= from {
                    line(text);
                }
                self.count += 1;
            }
        }
        let next = answer.get("nextPageToken").and_then(Value::as_str);
        next.filter(|next| !next.is_empty()).map(str::to_owned)
    }

    /// How many lines there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }
}
