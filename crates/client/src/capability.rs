//! What registries cannot do, remembered so that they are not asked each time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::site::Site;

/// For how long something is remembered: registries are upgraded, and their settings change.
const MEMORY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Something that the protocol has and a registry does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lack {
    /// It answers an error when a blob is to be mounted. (That it starts an upload instead is remembered by nobody:
    /// that is what would have been asked for next, so the question cost nothing.)
    Mounts,
    /// It refuses a blob in one request.
    WholeUploads,
}

/// What is known of registries. Kept in a file if there is one, where the last writer wins: it is a memory, not a truth.
#[derive(Debug)]
pub(crate) struct Capabilities {
    path: Option<PathBuf>,
    known: Mutex<Known>,
}

/// By the place of the API: what it lacks, and when that was found.
type Known = BTreeMap<String, BTreeMap<Lack, Timestamp>>;

impl Capabilities {
    /// Reads the file. One that is damaged is as good as none.
    pub(crate) fn load(path: Option<PathBuf>) -> Self {
        let known = path.as_deref().map_or_else(Known::new, |path| read(path).unwrap_or_default());
        Self { path, known: Mutex::new(known) }
    }

    pub(crate) fn lacks(&self, site: &Site, lack: Lack) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = known.get(site.place.endpoint.url.as_str()).and_then(|lacks| lacks.get(&lack));
        noted.is_some_and(|noted| Timestamp::now().duration_since(*noted) < MEMORY)
    }

    pub(crate) fn note(&self, site: &Site, lack: Lack) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(site.place.endpoint.url.to_string()).or_default().insert(lack, Timestamp::now());
        if let Some(path) = &self.path
            && let Err(error) = write(path, &known)
        {
            tracing::debug!(path = %path.display(), %error, "capabilities not remembered");
        }
    }
}

fn read(path: &Path) -> Option<Known> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, known: &Known) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let staged = PathBuf::from(name);
    fs::write(&staged, serde_json::to_vec_pretty(known)?)?;
    fs::rename(&staged, path)
}

#[cfg(test)]
mod tests {
    use longshore_endpoint::Endpoint;
    use url::Url;

    use super::*;
    use crate::{
        pace::Metronome,
        site::{Place, Role},
    };

    fn site(url: &str) -> Site {
        let endpoint = Endpoint { url: Url::parse(url).unwrap(), authorities: None };
        Site::new(Place { name: endpoint.name(), endpoint, role: Role::Server }, Metronome::new(None))
    }

    #[test]
    fn what_a_registry_lacks_is_remembered_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/capabilities.json");
        let (one, other) = (site("https://r.io/"), site("https://s.io/"));
        Capabilities::load(Some(path.clone())).note(&one, Lack::Mounts);
        let again = Capabilities::load(Some(path.clone()));
        assert!(again.lacks(&one, Lack::Mounts));
        assert!(!again.lacks(&one, Lack::WholeUploads) && !again.lacks(&other, Lack::Mounts));

        let old = fs::read_to_string(&path).unwrap();
        let noted: Timestamp = old.split('"').nth(5).unwrap().parse().unwrap();
        fs::write(&path, old.replace(&noted.to_string(), &(noted - MEMORY).to_string())).unwrap();
        assert!(!Capabilities::load(Some(path.clone())).lacks(&one, Lack::Mounts));

        fs::write(&path, "damaged").unwrap();
        assert!(!Capabilities::load(Some(path)).lacks(&one, Lack::Mounts));
    }
}
