//! The place that Airflow reads its DAG files from.

use std::{path::PathBuf, sync::Arc};

use longshore_auth::connector::Connector;
use longshore_endpoint::{Hosts, Pauses, Web};
use longshore_orchestrator::StoreUri;

use crate::{Error, dag::HEADER, folder::Folder, gcs::Gcs, s3::S3};

/// How much of a file is looked at to see whose it is.
pub(crate) const BEGINNING: u64 = 4096;
/// How often a file is put where somebody else puts one at the same time.
const TRIES: u32 = 3;

/// The place that Airflow reads its DAG files from.
#[derive(Debug)]
pub struct Place(Kind);

#[derive(Debug)]
enum Kind {
    Folder(Folder),
    S3(S3),
    Gcs(Box<Gcs>),
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What it begins with.
    pub(crate) beginning: Vec<u8>,
    /// What tells it from a later one of its name, in a bucket.
    pub(crate) version: String,
}

/// What became of a file that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// It is there.
    Done,
    /// Something else was put there, or taken away, in the meantime.
    Changed,
}

impl Found {
    /// Whether longshore has written it.
    fn is_ours(&self) -> bool {
        self.beginning.starts_with(HEADER.as_bytes())
    }
}

impl Place {
    /// A folder of this machine.
    pub fn folder(folder: PathBuf) -> Self {
        Self(Kind::Folder(Folder(folder)))
    }

    /// A folder in a bucket of Amazon S3, with the credentials of a connector of type aws.
    pub fn s3(uri: StoreUri, connector: Arc<Connector>) -> Self {
        Self(Kind::S3(S3::new(uri, connector)))
    }

    /// A folder in a bucket of Google Cloud Storage, with the credentials of a connector of type gcp.
    pub fn gcs(uri: StoreUri, connector: Arc<Connector>, web: Web, hosts: &Hosts) -> Self {
        Self(Kind::Gcs(Box::new(Gcs::new(uri, connector, web, hosts))))
    }

    /// The same with other pauses between tries.
    pub fn with_pauses(self, pauses: Pauses) -> Self {
        match self.0 {
            Kind::Gcs(gcs) => Self(Kind::Gcs(Box::new(gcs.with_pauses(pauses)))),
            kind => Self(kind),
        }
    }

    /// A file of it, as people name it.
    pub(crate) fn named(&self, name: &str) -> String {
        match &self.0 {
            Kind::Folder(Folder(folder)) => folder.join(name).display().to_string(),
            Kind::S3(s3) => s3.uri.run(name),
            Kind::Gcs(gcs) => gcs.uri.run(name),
        }
    }

    async fn read(&self, what: &str, name: &str) -> Result<Option<Found>, Error> {
        match &self.0 {
            Kind::Folder(folder) => folder.read(what, name),
            Kind::S3(s3) => s3.read(what, name).await,
            Kind::Gcs(gcs) => gcs.read(what, name).await,
        }
    }

    /// Whether a file of longshore's is there.
    pub(crate) async fn has(&self, what: &str, name: &str) -> Result<bool, Error> {
        Ok(self.read(what, name).await?.is_some_and(|found| found.is_ours()))
    }

    /// Puts a file there, whole, in the place of an older one of longshore's. That of somebody else is left alone.
    pub(crate) async fn put(&self, what: &str, name: &str, text: &str) -> Result<(), Error> {
        for _ in 0..TRIES {
            let found = self.read(what, name).await?;
            check(what, found.as_ref())?;
            let wrote = match &self.0 {
                Kind::Folder(folder) => folder.write(what, name, text)?,
                Kind::S3(s3) => s3.write(what, name, text, found.as_ref()).await?,
                Kind::Gcs(gcs) => gcs.write(what, name, text, found.as_ref()).await?,
            };
            // An answer that was lost leaves our own file, which is looked at and written again.
            if wrote == Wrote::Done {
                return Ok(());
            }
        }
        Err(Error::Busy { what: what.to_owned() })
    }

    /// Takes a file away that longshore has put there. One that is not there any more is taken away.
    pub(crate) async fn remove(&self, what: &str, name: &str) -> Result<(), Error> {
        let found = self.read(what, name).await?;
        check(what, found.as_ref())?;
        let Some(found) = found else { return Ok(()) };
        match &self.0 {
            Kind::Folder(folder) => folder.remove(what, name),
            Kind::S3(s3) => s3.remove(what, name).await,
            Kind::Gcs(gcs) => gcs.remove(what, name, &found).await,
        }
    }
}

/// Refuses to touch the file of somebody else.
fn check(what: &str, found: Option<&Found>) -> Result<(), Error> {
    match found {
        Some(found) if !found.is_ours() => Err(Error::Foreign { what: what.to_owned() }),
        _ => Ok(()),
    }
}

/// The path of a file in a bucket, below the folder that a URI names: `dags/digits.py`.
pub(crate) fn key(uri: &StoreUri, name: &str) -> String {
    let file = uri.run(name);
    let rest = file.split_once("://").map_or("", |(_, rest)| rest);
    rest.split_once('/').map_or("", |(_, key)| key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_below_the_folder() {
        for (uri, expected) in [("s3://bucket", "d.py"), ("gs://bucket/team/dags/", "team/dags/d.py")] {
            assert_eq!(key(&uri.parse().unwrap(), "d.py"), expected);
        }
    }
}
