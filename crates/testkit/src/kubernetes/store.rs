//! Objects with resource versions, and what changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

/// The objects of one cluster. Names are unique in a resource here: tests use one namespace.
#[derive(Debug, Default)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<(String, String), Value>,
    changes: Vec<Change>,
    /// Changes up to this version are forgotten.
    compacted: u64,
    logs: BTreeMap<String, Vec<(Timestamp, String)>>,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    pub(super) resource: String,
    pub(super) object: Value,
}

impl Store {
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, resource: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(resource.to_owned(), name.to_owned()))
    }

    pub(super) fn of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |((of, _), _)| of == resource).map(|(_, object)| object)
    }

    /// Stores an object; what the server gives it stays.
    pub(super) fn put(&mut self, resource: &str, mut object: Value) -> Value {
        let name = text(&object, "/metadata/name");
        let key = (resource.to_owned(), name);
        let known = self.objects.get(&key);
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        for (field, made) in [
            ("uid", json!(format!("uid-{}", self.version + 1))),
            ("creationTimestamp", json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        ] {
            let kept = known.map(|known| known["metadata"][field].clone());
            object["metadata"][field] = kept.unwrap_or(made);
        }
        let mut same = known.cloned().unwrap_or_default();
        same["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        if known.is_some() && same == object {
            return self.objects[&key].clone();
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.note(kind, resource, &object);
        self.objects.insert(key, object.clone());
        object
    }

    /// Deletes an object and all that it owns.
    pub(super) fn delete(&mut self, resource: &str, name: &str) -> Option<Value> {
        let mut object = self.objects.remove(&(resource.to_owned(), name.to_owned()))?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.note("DELETED", resource, &object);
        let uid = text(&object, "/metadata/uid");
        let owned: Vec<_> = self
            .objects
            .iter()
            .filter(|(_, owned)| {
                let owners = owned["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid.as_str()))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for (resource, name) in owned {
            self.delete(&resource, &name);
        }
        Some(object)
    }

    fn note(&mut self, kind: &'static str, resource: &str, object: &Value) {
        let change =
            Change { version: self.version, kind, resource: resource.to_owned(), object: object.clone() };
        self.changes.push(change);
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.changes.clear();
    }

    /// What changed after a version; none if that is forgotten.
    pub(super) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        (version >= self.compacted)
            .then(|| self.changes.iter().filter(move |change| change.version > version))
    }

    pub(super) fn print(&mut self, label: &str, value: &str, lines: &[&str]) {
        let pods: Vec<_> = self
            .of("pods")
            .filter(|pod| pod["metadata"]["labels"][label] == value)
            .map(|pod| text(pod, "/metadata/name"))
            .collect();
        for pod in pods {
            self.print_to(&pod, lines);
        }
        // Who follows a log looks again.
        self.version += 1;
    }

    pub(super) fn print_to<S: AsRef<str>>(&mut self, pod: &str, lines: &[S]) {
        let log = self.logs.entry(pod.to_owned()).or_default();
        for line in lines {
            log.push((Timestamp::now(), line.as_ref().to_owned()));
        }
    }

    pub(super) fn log(&self, pod: &str) -> &[(Timestamp, String)] {
        self.logs.get(pod).map(Vec::as_slice).unwrap_or_default()
    }
}

pub(super) fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
