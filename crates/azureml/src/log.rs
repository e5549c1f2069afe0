//! What steps print: files that the history of runs has the addresses of (`RunDetails.logFiles`), in the workspace's storage. The
//! addresses are signed: they need no token, and are secrets themselves.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use longshore_auth::Secret;
use longshore_endpoint::{Hosts, Pauses, Web};
use longshore_kubeflow::exchange::{Api, NoAnswer, Request};
use serde_json::Value;
use url::Url;

/// How much of a file is read at once.
const CHUNK: usize = 1 << 20;

/// The file of what a container printed: of several, that of the first process.
pub(crate) fn address(details: &Value) -> Option<Secret> {
    let files: BTreeMap<String, Secret> = serde_json::from_value(details["logFiles"].clone()).ok()?;
    let is_log = |name: &str| name.starts_with("user_logs/std_log") && name.strip_suffix(".txt").is_some();
    files.into_iter().find(|(name, _)| is_log(name)).map(|(_, address)| address)
}

/// The lines of a file so far.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// How many bytes of the file have been read.
    read: usize,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    count: usize,
}

/// Why there is nothing more of a file.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is not at an address that can be asked.
    Address,
    /// There was no answer.
    NoAnswer(NoAnswer),
    /// It was refused.
    Refused(StatusCode),
}

impl Lines {
    /// Reads what came since: `line` is called for each whole line from the line of that number on.
    pub(crate) async fn read(
        &mut self,
        (web, hosts, pauses): (&Web, &Hosts, Pauses),
        address: &Secret,
        from: usize,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), Unread> {
        let url = Url::parse(address.expose()).map_err(|_| Unread::Address)?;
        let host = url.host_str().filter(|_| url.scheme() == "https" && url.port().is_none());
        let api =
            Api::new(web.clone(), hosts.registry(host.ok_or(Unread::Address)?).server).with_pauses(pauses);
        let path = url.path().trim_start_matches('/');
        let path = url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        loop {
            let range = format!("bytes={}-{}", self.read, self.read + CHUNK - 1);
            let range = HeaderValue::from_str(&range).map_err(|_| Unread::Address)?;
            let headers = HeaderMap::from_iter([(header::RANGE, range)]);
            let answer = api.fetch(&Request::get(path.clone()).with_headers(headers)).await;
            let answer = answer.map_err(Unread::NoAnswer)?;
            match answer.status {
                StatusCode::PARTIAL_CONTENT => {}
                // There is nothing behind what was read, or nothing has been printed yet.
                StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_FOUND => return Ok(()),
                status => return Err(Unread::Refused(status)),
            }
            self.take(&answer.bytes, from, line);
            if answer.bytes.len() < CHUNK {
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: &[u8], from: usize, line: &(dyn Fn(&str) + Send + Sync)) {
        self.read += bytes.len();
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            self.tell(&whole, from, line);
        }
    }

    /// The last line, if the file does not end with the end of a line.
    pub(crate) fn finish(&mut self, from: usize, line: &(dyn Fn(&str) + Send + Sync)) {
        if !self.rest.is_empty() {
            let last = std::mem::take(&mut self.rest);
            self.tell(&last, from, line);
        }
    }

    fn tell(&mut self, whole: &[u8], from: usize, line: &(dyn Fn(&str) + Send + Sync)) {
        if self.count >= from {
            line(String::from_utf8_lossy(whole).trim_end_matches(['\r', '\n']));
        }
        self.count += 1;
    }

    /// How many lines there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }
}
