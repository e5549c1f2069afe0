//! Making a plan: from signed releases over indexes to a set of packages; and fetching what it names.

use std::io::BufReader;

use futures::future::{join_all, try_join_all};
use longshore_fetch::{Download, Fetcher};
use longshore_oci::{Arch, Digest};
use longshore_store::{Blob, BlobStore, Table};
use url::Url;

use crate::{
    Distribution, Error, Event, Group, LAYOUT_VERSION, LockedPackage, LockedSuite, ParentPlan, ParentRequest,
    Progress, Python,
    deb::decoder,
    index::{Candidate, Index, Universe},
    release::IndexFile,
    resolve::resolve,
    suite::{self, Memory, Suite},
};

/// The number rises when other packages are chosen from the same indexes.
const TABLE: &str = "debian-plan-1";

/// Plans a parent image: checks the release files of all suites, reads their indexes, and chooses the packages.
///
/// Costs one request per suite, or none within the request's freshness; if the release files have not changed since the last
/// time, the plan is remembered and no index is read.
pub async fn plan(
    request: &ParentRequest,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    progress: &Progress<'_>,
) -> Result<ParentPlan, Error> {
    let suites = suites_for(request, fetcher, blobs, table, progress).await?;
    let remembered = suites.iter().any(|suite| suite.remembered);
    match plan_from(request, suites, fetcher, blobs, table, progress).await {
        // The mirror may have moved on since its release file was remembered, and dropped the indexes that this names.
        Err(Error::Fetch(_)) if remembered => {
            let suites = suites_now(request, fetcher, blobs, table, progress).await?;
            plan_from(request, suites, fetcher, blobs, table, progress).await
        }
        other => other,
    }
}

/// The suites of a request, as remembered if that is fresh enough.
pub(crate) async fn suites_for(
    request: &ParentRequest,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    progress: &Progress<'_>,
) -> Result<Vec<Suite>, Error> {
    suites(request, fetcher, blobs, table, progress, Memory::Fresh).await
}

async fn suites_now(
    request: &ParentRequest,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    progress: &Progress<'_>,
) -> Result<Vec<Suite>, Error> {
    suites(request, fetcher, blobs, table, progress, Memory::Ask).await
}

/// The suites that packages are taken from: of the distribution itself, of one release, and for the architecture.
async fn suites(
    request: &ParentRequest,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    progress: &Progress<'_>,
    memory: Memory,
) -> Result<Vec<Suite>, Error> {
    let sources = &request.sources;
    if sources.archives.is_empty() {
        return Err(Error::NoApt);
    }
    let mut looked = Vec::new();
    let (meant, others): (Vec<_>, Vec<_>) =
        sources.archives.iter().partition(|archive| archive.serves(request.arch));
    looked.extend(
        others
            .iter()
            .map(|it| format!("{}: its entry is for {} only", it.title(), it.architectures.join(", "))),
    );
    let loading = meant.into_iter().map(|archive| async move {
        let suite = suite::load(archive, request, fetcher, blobs, table, memory).await?;
        progress(Event::Suite { suite: suite.archive.title(), remembered: suite.remembered });
        Ok::<_, Error>(suite)
    });
    let mut suites = try_join_all(loading).await?;
    let origins = &sources.origins;
    suites.retain(|suite| {
        let ours = origins.is_empty() || origins.contains(&suite.release.origin);
        if !ours {
            looked.push(format!(
                "{}: it is published by `{}`, not by {}",
                suite.archive.title(),
                suite.release.origin,
                origins.join(" or ")
            ));
        }
        ours && !suite.release.not_automatic
    });
    let wanted =
        sources.codename.clone().filter(|name| suites.iter().any(|it| it.release.base_codename() == name));
    let codename = wanted.or_else(|| suites.first().map(|it| it.release.base_codename().to_owned()));
    suites.retain(|suite| Some(suite.release.base_codename()) == codename.as_deref());
    suites.retain(|suite| {
        let serves =
            suite.archive.components.iter().any(|it| !suite.release.index_files(it, request.arch).is_empty());
        if !serves {
            let has = suite.release.architectures.join(", ");
            looked.push(format!("{}: it has {has}", suite.archive.title()));
        }
        serves
    });
    if suites.is_empty() {
        return Err(Error::NoArch { arch: request.arch, looked: looked.join("; ") });
    }
    Ok(suites)
}

/// The plan for these suites, remembered or made.
async fn plan_from(
    request: &ParentRequest,
    suites: Vec<Suite>,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    progress: &Progress<'_>,
) -> Result<ParentPlan, Error> {
    let seen: Vec<(String, Digest, &[String])> =
        suites.iter().map(|it| (it.archive.title(), it.digest, it.archive.components.as_slice())).collect();
    let key = serde_json::json!([LAYOUT_VERSION, request.arch, request.roots, seen]);
    if let Some(plan) = table.get::<ParentPlan>(TABLE, &key) {
        return Ok(plan);
    }
    let (indexes, owners) = read_indexes(&suites, request.arch, fetcher, blobs, progress).await?;
    let request_ = request.clone();
    let work = move || choose(&request_, &suites, indexes, &owners);
    let plan = tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Unfinished))?;
    table.put(TABLE, &key, &plan)?;
    progress(Event::Planned { packages: plan.packages.len(), bytes: plan.download_size() });
    Ok(plan)
}

/// The package indexes of all suites, each with the position of its suite.
pub(crate) async fn read_indexes(
    suites: &[Suite],
    arch: Arch,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<(Vec<Index>, Vec<usize>), Error> {
    let mut wanted = Vec::new();
    for (position, suite) in suites.iter().enumerate() {
        for component in &suite.archive.components {
            let files = suite.release.index_files(component, arch);
            wanted.extend(files.into_iter().map(|file| (position, file)));
        }
    }
    let reading = wanted.iter().map(|(position, file)| {
        let suite = &suites[*position];
        async move { read_index(suite, file, arch, fetcher, blobs, progress).await }
    });
    let mut indexes = Vec::new();
    for index in join_all(reading).await {
        indexes.push(index?);
    }
    Ok((indexes, wanted.iter().map(|(position, _)| *position).collect()))
}

/// Fetches an index by its digest and reads it.
async fn read_index(
    suite: &Suite,
    file: &IndexFile,
    arch: Arch,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<Index, Error> {
    let what = format!("the package index of {} for {arch}", suite.archive.title());
    let download = Download {
        url: suite.archive.join(&format!("dists/{}/{}", suite.archive.suite, file.path))?,
        digest: Some(file.digest),
        size: Some(file.size),
        what: what.clone(),
    };
    let index = fetcher.fetch(&download, blobs, &|_| ()).await?;
    progress(Event::Index { suite: suite.archive.title(), bytes: index.size, from: index.from });
    let input = blobs.open_blob(&file.digest)?;
    let name = file.name.clone();
    let work = move || {
        let read = |input: Blob| -> std::io::Result<Index> {
            let plain = decoder(&name, BufReader::with_capacity(256 << 10, input))?;
            Index::read(BufReader::with_capacity(256 << 10, plain), arch)
        };
        read(input).map_err(|error| Error::Index { what, why: error.to_string() })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Unfinished))
}

/// Chooses the packages and writes down what is known of them.
fn choose(
    request: &ParentRequest,
    suites: &[Suite],
    indexes: Vec<Index>,
    owners: &[usize],
) -> Result<ParentPlan, Error> {
    let universe = Universe::new(indexes, request.arch);
    let mut packages = Vec::new();
    for candidate in resolve(&universe, &request.roots)? {
        let Some(index) = candidate.index else { continue };
        let group = group(candidate.package.name, candidate.package.architecture());
        packages.push(lock(&candidate, owners[index], group)?);
    }
    let first = &suites[0].release;
    Ok(ParentPlan {
        layout: LAYOUT_VERSION,
        arch: request.arch,
        distribution: Distribution {
            name: first.origin.clone(),
            codename: first.base_codename().to_owned(),
            version: suites
                .iter()
                .find_map(|it| {
                    (it.release.codename == it.release.base_codename()).then(|| it.release.version.clone())
                })
                .flatten(),
        },
        python: python(&packages),
        suites: suites.iter().map(locked_suite).collect(),
        packages,
    })
}

/// What is written down of a suite.
pub(crate) fn locked_suite(suite: &Suite) -> LockedSuite {
    LockedSuite {
        url: without_credentials(&suite.archive.url),
        suite: suite.archive.suite.clone(),
        release: suite.digest,
        date: suite.release.date,
        signed_by: suite.signed_by.clone(),
    }
}

/// What is written down of a package.
pub(crate) fn lock(candidate: &Candidate<'_>, suite: usize, group: Group) -> Result<LockedPackage, Error> {
    let package = &candidate.package;
    let wrong = |why: &str| Error::Package { package: package.name.to_owned(), why: why.to_owned() };
    let path = package.field("Filename").ok_or_else(|| wrong("it has no Filename"))?;
    // The address is made of this: it must stay below the archive.
    if path.starts_with('/') || path.contains(':') || path.split('/').any(|part| part == "..") {
        return Err(wrong("its Filename does not lie below the archive"));
    }
    Ok(LockedPackage {
        name: package.name.to_owned(),
        version: package
            .version
            .parse()
            .map_err(|error: crate::version::VersionError| wrong(&error.to_string()))?,
        architecture: package.architecture().to_owned(),
        source: package.source().to_owned(),
        suite,
        path: path.to_owned(),
        sha256: package.sha256().ok_or_else(|| wrong("it has no SHA256"))?,
        size: package.size().ok_or_else(|| wrong("it has no Size"))?,
        group,
    })
}

/// A lock is shown and shared: what opens a private mirror stays out of it. `~/.netrc` has it when packages are fetched.
fn without_credentials(url: &Url) -> Url {
    let mut plain = url.clone();
    // Only an address that has no place for them refuses.
    let _ = plain.set_username("").and_then(|()| plain.set_password(None));
    plain
}

/// The layer of a package of the parent itself.
fn group(name: &str, architecture: &str) -> Group {
    let of_python = name.starts_with("python3") || name.starts_with("libpython3");
    match (of_python, architecture) {
        (true, _) => Group::Python,
        (false, "all") => Group::Data,
        (false, _) => Group::Base,
    }
}

/// The interpreter that `python3` is.
fn python(packages: &[LockedPackage]) -> Option<Python> {
    let default = packages.iter().find(|package| package.name == "python3")?;
    let minor = default.version.as_str().splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let minimal = packages.iter().find(|package| package.name == format!("python{minor}-minimal"))?;
    let version = minimal.version.as_str();
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(version.len());
    Some(Python { interpreter: format!("/usr/bin/python{minor}"), version: version[..end].to_owned(), minor })
}

/// Fetches the packages of a plan into `blobs`, several at once; those that are there are not asked for.
pub async fn fetch(
    plan: &ParentPlan,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<(), Error> {
    fetch_packages(&plan.suites, &plan.packages, fetcher, blobs, progress).await
}

/// Fetches packages of those suites.
pub(crate) async fn fetch_packages(
    suites: &[LockedSuite],
    packages: &[LockedPackage],
    fetcher: &Fetcher,
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<(), Error> {
    let total = packages.len();
    let fetching = packages.iter().map(|package| async move {
        let suite = suites.get(package.suite).ok_or_else(|| Error::Package {
            package: package.name.clone(),
            why: "the plan names a suite for it that the plan does not have".to_owned(),
        })?;
        let download = Download {
            url: crate::sources::join(&suite.url, &package.path)?,
            digest: Some(package.sha256),
            size: Some(package.size),
            what: package.file_name(),
        };
        let report =
            |bytes| progress(Event::Fetching { package: package.name.clone(), bytes, size: package.size });
        let arrived = fetcher.fetch(&download, blobs, &report).await?;
        progress(Event::Fetched {
            package: package.name.clone(),
            size: arrived.size,
            from: arrived.from,
            total,
        });
        Ok::<_, Error>(())
    });
    try_join_all(fetching).await.map(drop)
}
