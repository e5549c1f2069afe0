//! What can go wrong.

use std::path::{Path, PathBuf};

use longshore_oci::Arch;

use crate::{resolve::ResolveError, signature::SignatureError};

/// Why there is no parent image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine has no apt.
    #[error(
        "this machine has no apt configuration (/etc/apt/sources.list, /etc/apt/sources.list.d) to take Debian packages \
         from; give the archive in the settings: its `url`, a `suite` (e.g. bookworm), `components` (e.g. main) and the \
         file of its keys (`trust`), or name a parent image instead"
    )]
    NoApt,
    /// apt knows third-party archives only.
    #[error(
        "none of the archives that apt is configured with ({places}) is of {codename} itself; add the distribution's own \
         archive there, give one in the settings, or name a parent image instead"
    )]
    NoDistribution {
        /// The release that was looked for.
        codename: String,
        /// The entries that were found.
        places: String,
    },
    /// A file of apt's configuration cannot be read as one.
    #[error("{place}: {why}")]
    AptConfiguration {
        /// File and line.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// An address that is none.
    #[error("`{path}` does not lie below the archive {base}: {why}")]
    Address {
        /// The archive.
        base: String,
        /// The path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A keyring cannot be used.
    #[error(
        "the signature of {suite} cannot be checked: {why}; install the distribution's keyring package, or name its keyring"
    )]
    Keyring {
        /// The suite whose signature it should check.
        suite: String,
        /// What is wrong.
        why: String,
    },
    /// A suite's signature is not good.
    #[error("the signature of {suite} is not accepted: {source}")]
    Signature {
        /// Address and suite.
        suite: String,
        /// Why.
        source: SignatureError,
    },
    /// A suite is too old or from the future.
    #[error("{suite}: {why}")]
    Currency {
        /// Address and suite.
        suite: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// An index is not what it should be.
    #[error("{what}: {why}")]
    Index {
        /// Which.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// No suite serves the architecture.
    #[error(
        "no configured archive of the distribution serves {arch} ({looked}); give one that does in the settings (Ubuntu keeps arm64 on another \
         mirror, `ports`, than amd64), or build for another architecture"
    )]
    NoArch {
        /// The architecture.
        arch: Arch,
        /// The suites that were asked, each with why not.
        looked: String,
    },
    /// The image is of another kind.
    #[error(
        "it is {0}; Debian packages can be added to images that are based on Debian or Ubuntu: choose such a parent, \
         or install what is needed in the parent itself and leave apt_packages out"
    )]
    NotDebian(String),
    /// The image does not say what is installed.
    #[error(
        "it is {0}, and has no list of its packages (/var/lib/dpkg/status); choose a parent that was not stripped of it, or leave \
         apt_packages out"
    )]
    NoStatus(String),
    /// It is not known where packages for the image come from.
    #[error(
        "it is {0} and names no signed archive of its distribution in /etc/apt, and this machine's apt is not configured for \
         that release either; choose a parent that has its apt sources, or leave apt_packages out"
    )]
    NoSources(String),
    /// A suite that the image names is no longer there.
    #[error(
        "{source}: the archive no longer has this suite of {distribution}; releases that are out of support move to an archive \
         of old releases: choose a newer parent, or one whose /etc/apt names that archive"
    )]
    SuiteGone {
        /// The image's distribution.
        distribution: String,
        /// What was not found.
        source: Box<longshore_fetch::FetchError>,
    },
    /// The image cannot run the packages' scripts.
    #[error(
        "it is {system} and has no dpkg, which these packages need to be installed with: {reasons}; choose a parent that has dpkg, or \
         leave those packages out"
    )]
    NoDpkg {
        /// The image's distribution.
        system: String,
        /// The packages, each with its reason.
        reasons: String,
    },
    /// The packages cannot be had together.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// An index describes a package that cannot be used.
    #[error("package {package} of the index: {why}")]
    Package {
        /// Its name.
        package: String,
        /// What is wrong.
        why: String,
    },
    /// A `.deb` is not what it should be.
    #[error("{deb}: {why}; its archive is broken or hostile, nothing of it was used")]
    Deb {
        /// The package.
        deb: String,
        /// What is wrong.
        why: String,
    },
    /// Two packages have the same path.
    #[error("`{path}` is in {one} and in {other}; {why}")]
    Overlap {
        /// The path.
        path: String,
        /// A package.
        one: String,
        /// Another.
        other: String,
        /// Why this is not allowed.
        why: String,
    },
    /// A file that a package should have.
    #[error("{package} lacks `{path}`, from which {wanted} is made; longshore does not know this release")]
    Missing {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// What cannot be made without it.
        wanted: String,
    },
    /// A download failed.
    #[error(transparent)]
    Fetch(#[from] longshore_fetch::FetchError),
    /// The blob store refuses.
    #[error(transparent)]
    Store(#[from] longshore_store::StoreError),
    /// A layer cannot be written.
    #[error(transparent)]
    Layer(#[from] longshore_layer::Error),
    /// The program is ending.
    #[error("the work was interrupted before it was done")]
    Unfinished,
    /// The operating system refuses.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Gives an I/O error its action and path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
