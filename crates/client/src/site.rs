//! A place where a registry's API is served, and what a client knows of it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use longshore_endpoint::Endpoint;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::{
    ClientError, Quota, Result,
    authorize::Login,
    location::{Destination, follow},
    pace::Metronome,
};

/// Whether a place is a registry's own or a mirror of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Server,
    Mirror,
}

/// A place, as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    /// The name that its credentials are looked up by: the registry's as references spell it, or the mirror's own.
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// What a client knows of a place.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) place: Place,
    /// Locked while a token is fetched, so that requests that need the same one fetch it once.
    pub(crate) login: AsyncMutex<Login>,
    pub(crate) metronome: Metronome,
    quota: Mutex<Option<Quota>>,
    is_down: AtomicBool,
}

impl Site {
    pub(crate) fn new(place: Place, metronome: Metronome) -> Self {
        Self {
            place,
            login: AsyncMutex::default(),
            metronome,
            quota: Mutex::default(),
            is_down: AtomicBool::new(false),
        }
    }

    /// As messages name it: the registry's name, and where it is served if that is elsewhere.
    pub(crate) fn shown(&self) -> String {
        let (name, served) = (&self.place.name, self.place.endpoint.name());
        let is_hub = name == "docker.io" && served == "registry-1.docker.io";
        if *name == served || is_hub { name.clone() } else { format!("{name} (served by {served})") }
    }

    /// The URL of a path of its API.
    pub(crate) fn api(&self, what: &str, path: &str) -> Result<Destination> {
        let url = self.place.endpoint.at(path);
        let url =
            url.map_err(|error| ClientError::Usage { what: what.to_owned(), reason: error.to_string() })?;
        Ok(Destination { url, is_registry: true })
    }

    /// Where a `Location` of an answer from `from` leads.
    pub(crate) fn destination(&self, what: &str, from: &Url, location: &str) -> Result<Destination> {
        follow(&self.place.endpoint.url, from, location).map_err(|(url, reason)| ClientError::Elsewhere {
            what: what.to_owned(),
            host: self.shown(),
            url,
            reason: reason.to_owned(),
        })
    }

    /// Whether it could not be reached: a mirror that is down is not asked again.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    pub(crate) fn note_down(&self) {
        self.is_down.store(true, Ordering::Relaxed);
    }

    /// What the last answer that had something to say of it said.
    pub(crate) fn quota(&self) -> Option<Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_quota(&self, quota: Quota) {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
    }
}
