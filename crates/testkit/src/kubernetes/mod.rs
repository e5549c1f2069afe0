//! An API server of Kubernetes, as far as Jobs need one.
//!
//! Objects are checked by their published types and stored with resource versions; watches resume, are sent bookmarks, break, and are
//! told `410 Gone` when a test says so. A Job gets pods as its controller would make them, and each pod goes through phases by the
//! test's script.

mod jobs;
mod log;
mod rest;
mod store;
mod watch;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{Router, routing::any};
use serde_json::{Value, json};
use tokio::sync::watch as channel;

pub use self::jobs::Attempt;
use self::{jobs::Script, store::Store};
use crate::Serving;

/// An API server that lives as long as this.
#[derive(Debug)]
pub struct FakeKubernetes {
    serving: Serving,
    shared: Arc<Shared>,
}

/// A request, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `patch` or `delete`.
    pub verb: &'static str,
    /// The resource, with its subresource: `pods/log`.
    pub resource: String,
    /// The object, if one is meant.
    pub name: String,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The newest resource version, or a wish to look again.
    changed: channel::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    scripts: Vec<Script>,
    /// What may not be done: verb and resource.
    denied: Vec<(String, String)>,
    refusals: VecDeque<Refusal>,
    asked: Vec<Asked>,
    /// Raised when all watches are to break.
    disconnects: u64,
    /// After how many lines the next connections that read a log break.
    log_breaks: VecDeque<usize>,
}

#[derive(Debug)]
struct Refusal {
    verb: String,
    resource: String,
    status: u16,
    message: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes whoever waits for that.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let version = state.store.version();
        drop(state);
        self.changed.send_replace(version);
        changed
    }
}

impl FakeKubernetes {
    /// Starts one with the namespaces `default` and `ml`.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: channel::Sender::new(0) });
        let served = Arc::clone(&shared);
        let serving = Serving::start(|listener| async move {
            let jobs = jobs::carry_out(Arc::clone(&served));
            let router = Router::new().fallback(any(rest::answer)).with_state(served);
            tokio::select! {
                // It ends only with its runtime; an error of a single connection does not end it.
                _ = async { axum::serve(listener, router).await } => {}
                () = jobs => {}
            }
        })?;
        Ok(Self { serving, shared })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url()}}],
            "users": [{"name": "fake", "user": {"token": "t"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "ml"}}],
        })
        .to_string()
    }

    /// How the pods of Jobs with a label go, attempt by attempt; the last one stands for all further ones. Without a script each
    /// pod succeeds.
    pub fn script(&self, label: &str, value: &str, attempts: impl IntoIterator<Item = Attempt>) {
        let script = Script::new(label, value, attempts);
        self.shared.change(|state| state.scripts.insert(0, script));
    }

    /// Ends the running pods of Jobs with a label, with an exit code.
    pub fn end_pods(&self, label: &str, value: &str, code: i32) {
        self.shared.change(|state| jobs::end_pods(&mut state.store, label, value, code));
    }

    /// Adds lines to the logs of the pods of Jobs with a label.
    pub fn print(&self, label: &str, value: &str, lines: &[&str]) {
        self.shared.change(|state| state.store.print(label, value, lines));
    }

    /// Forbids something from now on.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.shared.change(|state| state.denied.push((verb.to_owned(), resource.to_owned())));
    }

    /// Refuses the next such request.
    pub fn refuse(&self, verb: &str, resource: &str, status: u16, message: &str) {
        let refusal = Refusal {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            status,
            message: message.to_owned(),
        };
        self.shared.change(|state| state.refusals.push_back(refusal));
    }

    /// Breaks all watches.
    pub fn disconnect(&self) {
        self.shared.change(|state| state.disconnects += 1);
    }

    /// Forgets what changed: watches from before are gone (410).
    pub fn compact(&self) {
        self.shared.change(|state| state.store.compact());
    }

    /// Breaks the next connections that read a log, the first after so many lines, and so on.
    pub fn break_logs_after(&self, lines: impl IntoIterator<Item = usize>) {
        self.shared.change(|state| state.log_breaks.extend(lines));
    }

    /// The objects of a resource, `jobs` say, by name.
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        self.shared.lock().store.of(resource).cloned().collect()
    }

    /// Adds an object, or changes one: an event, a pod's status.
    pub fn put(&self, resource: &str, object: Value) {
        self.shared.change(|state| state.store.put(resource, object));
    }

    /// Deletes an object with all that it owns.
    pub fn remove(&self, resource: &str, name: &str) {
        self.shared.change(|state| state.store.delete(resource, name));
    }

    /// What was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }
}
