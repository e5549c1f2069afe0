//! What jobs print, in `CloudWatch` Logs (`FilterLogEvents`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::execution::Job;

/// How late an event may come after ones with later times, in milliseconds.
const LATE: i64 = 60_000;

/// The lines of a job so far.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Events that may come again: their times and names.
    seen: BTreeSet<(i64, String)>,
    latest: i64,
    count: usize,
}

impl Lines {
    /// The input for what came since, or for a further page of it.
    pub(crate) fn input(&self, job: &Job, page: Option<&str>) -> Value {
        let mut input = json!({
            "logGroupName": job.group, "logStreamNamePrefix": format!("{}/", job.name),
            "startTime": (self.latest - LATE).max(0),
        });
        if let Some(page) = page {
            input["nextToken"] = json!(page);
        }
        input
    }

    /// Takes an answer: `line` is called for each new line from the line of that number on. The next page, if there is one.
    pub(crate) fn take(
        &mut self,
        answer: &Value,
        from: usize,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Option<String> {
        for event in answer.get("events").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
            let time = event.get("timestamp").and_then(Value::as_i64).unwrap_or_default();
            if !self.seen.insert((time, text("eventId").to_owned())) {
                continue;
            }
            self.latest = self.latest.max(time);
            for text in text("message").lines() {
                if self.count >= from {
                    line(text);
                }
                self.count += 1;
            }
        }
        let next = answer.get("nextToken").and_then(Value::as_str);
        next.filter(|next| !next.is_empty()).map(str::to_owned)
    }

    /// Forgets the events that will not come again. For the end of a listing.
    pub(crate) fn forget(&mut self) {
        self.seen = self.seen.split_off(&(self.latest - LATE, String::new()));
    }

    /// How many lines there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }
}
