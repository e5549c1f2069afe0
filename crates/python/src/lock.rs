//! The lock: one wheel for every package, with its digest (PEP 751).

use std::path::PathBuf;

use longshore_oci::Digest;
use pep508_rs::{PackageName, pep440_rs::Version};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{distribution::Distribution, entry_points::Script, filename::WheelFilename};

/// The packages of an environment, by name, each pinned to one wheel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The packages that are installed, in order of their names.
    pub packages: Vec<LockedPackage>,
    /// Those that the parent has already: nothing of them is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<PresentPackage>,
}

/// A package that the image has without its being installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentPackage {
    /// What would be installed.
    pub selected: Selected,
    /// What there is in its place.
    pub installed: Distribution,
}

/// A package at a version, as one wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    /// The name, normalised.
    pub name: PackageName,
    /// The version.
    pub version: Version,
    /// The wheel for the target that was asked for.
    pub wheel: PinnedWheel,
    /// What the wheel was built of, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// One file, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PinnedWheel {
    /// Its name.
    pub filename: WheelFilename,
    /// Where it is to be had: `https:`, `http:`, or `file:` for one on this machine; of one that was built, where its
    /// source is. Without credentials.
    pub url: Url,
    /// Its length in bytes, where the index says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its digest.
    pub digest: Digest,
    /// How it was asked for.
    pub origin: Origin,
}

/// Where a file comes from. It decides about `direct_url.json` (PEP 610).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An index was asked for the package.
    Index,
    /// The requirement named the file.
    Direct,
}

/// What a resolution gives: for every package a wheel, or the source that one is to be built of.
///
/// It is what is kept between builds: while the [key](crate::uv::LockKey) of a request is the same, the
/// selection that was stored under it is the answer, and uv is neither started nor needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The packages, in order of their names.
    pub packages: Vec<Selected>,
}

/// A package of a [`Selection`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// The name, normalised.
    pub name: PackageName,
    /// The version, unless only building tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What there is of it.
    pub artifact: Artifact,
}

/// What there is of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Artifact {
    /// A wheel.
    Wheel(PinnedWheel),
    /// The source of one.
    Source(Source),
}

/// What a wheel is built of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub form: SourceForm,
    /// The folder in it that has the project, if it is not the uppermost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
    /// The wheel that a lock of longshore's says was built of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<BuiltWheel>,
}

/// The forms of source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceForm {
    /// A source distribution.
    Archive {
        /// Where it is. Without credentials.
        url: Url,
        /// Its name.
        filename: String,
        /// Its digest.
        digest: Digest,
        /// Its length in bytes, where the index says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// How it was asked for.
        origin: Origin,
    },
    /// A commit of a git repository.
    Git {
        /// The repository.
        url: String,
        /// The commit's hash.
        commit: String,
    },
    /// A folder of this machine.
    Folder {
        /// Which, absolute.
        path: PathBuf,
    },
}

/// A wheel that was built.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuiltWheel {
    /// Its name.
    pub filename: WheelFilename,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Lock {
    /// The package of this name, if it is installed.
    pub fn get(&self, name: &PackageName) -> Option<&LockedPackage> {
        self.packages
            .binary_search_by(|package| package.name.cmp(name))
            .ok()
            .map(|index| &self.packages[index])
    }

    /// The scripts of the packages that the parent has, by name. Its own are run by its interpreter, which does not see what is in
    /// the environment.
    pub fn present_scripts(&self) -> Vec<Script> {
        let scripts = self.present.iter().flat_map(|package| &package.installed.scripts);
        let mut scripts: Vec<Script> = scripts.cloned().collect();
        scripts.sort();
        // Of two of one name, it is the one whose package comes first by its module.
        scripts.dedup_by(|later, earlier| later.name == earlier.name);
        scripts
    }
}

impl From<&Lock> for Selection {
    /// The selection that a lock was made from, with the wheels that were built in the place of their sources.
    fn from(lock: &Lock) -> Self {
        let selected = |package: &LockedPackage| Selected {
            name: package.name.clone(),
            version: Some(package.version.clone()),
            artifact: Artifact::Wheel(package.wheel.clone()),
        };
        let present = lock.present.iter().map(|package| package.selected.clone());
        let mut packages: Vec<Selected> = lock.packages.iter().map(selected).chain(present).collect();
        packages.sort_by(|one, other| one.name.cmp(&other.name));
        Self { packages }
    }
}

impl Selection {
    /// The package of this name.
    pub fn get(&self, name: &PackageName) -> Option<&Selected> {
        self.packages
            .binary_search_by(|package| package.name.cmp(name))
            .ok()
            .map(|index| &self.packages[index])
    }

    /// The lock, if every package is a wheel.
    pub fn of_wheels(&self) -> Option<Lock> {
        let packages = self.packages.iter().map(|package| match (&package.version, &package.artifact) {
            (Some(version), Artifact::Wheel(wheel)) => Some(LockedPackage {
                name: package.name.clone(),
                version: version.clone(),
                wheel: wheel.clone(),
                source: None,
            }),
            _ => None,
        });
        Some(Lock { packages: packages.collect::<Option<_>>()?, present: Vec::new() })
    }

    /// Takes the packages out that an interpreter has already. What was asked for by a URL, a path or a repository stays: a version
    /// does not tell whether that is it.
    pub fn without(self, there: &[Distribution]) -> (Self, Vec<PresentPackage>) {
        let (mut packages, mut present) = (Vec::new(), Vec::new());
        for selected in self.packages {
            let installed = there.iter().find(|it| {
                it.name == selected.name
                    && selected.artifact.is_of_index()
                    && selected.version.as_ref().is_some_and(|version| it.is_version(version))
            });
            match installed {
                Some(installed) => present.push(PresentPackage { selected, installed: installed.clone() }),
                None => packages.push(selected),
            }
        }
        (Self { packages }, present)
    }
}

impl Artifact {
    /// Whether an index was asked for it.
    fn is_of_index(&self) -> bool {
        match self {
            Self::Wheel(wheel) => wheel.origin == Origin::Index,
            Self::Source(source) => {
                matches!(source.form, SourceForm::Archive { origin: Origin::Index, .. })
            }
        }
    }
}

impl std::fmt::Display for PresentPackage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.installed.fmt(f)
    }
}

impl Source {
    /// What it is, for people.
    pub fn describe(&self) -> String {
        match &self.form {
            SourceForm::Archive { filename, .. } => filename.clone(),
            SourceForm::Git { url, commit } => format!("{url} at {}", commit.get(..12).unwrap_or(commit)),
            SourceForm::Folder { path } => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(name: &str, version: &str, origin: Origin) -> Selected {
        let wheel = PinnedWheel {
            filename: format!("{name}-{version}-py3-none-any.whl").parse().unwrap(),
            url: format!("https://wheels.test/{name}-{version}-py3-none-any.whl").parse().unwrap(),
            size: None,
            digest: Digest::of(format!("{name} {version}")),
            origin,
        };
        Selected {
            name: name.parse().unwrap(),
            version: Some(version.parse().unwrap()),
            artifact: Artifact::Wheel(wheel),
        }
    }

    fn there(name: &str, version: &str, scripts: &[(&str, &str)]) -> Distribution {
        let script = |(name, module): &(&str, &str)| Script {
            name: (*name).to_owned(),
            module: (*module).to_owned(),
            function: "main".to_owned(),
        };
        Distribution {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            folder: "usr/lib/python3/dist-packages".to_owned(),
            scripts: scripts.iter().map(script).collect(),
        }
    }

    #[test]
    fn what_is_there_in_the_same_version_is_taken_out() {
        let git = Artifact::Source(Source {
            form: SourceForm::Git { url: "https://h/x.git".into(), commit: "0".into() },
            subdirectory: None,
            built: None,
        });
        let sdist = Artifact::Source(Source {
            form: SourceForm::Archive {
                url: "https://h/s-1.tar.gz".parse().unwrap(),
                filename: "s-1.tar.gz".into(),
                digest: Digest::of("s"),
                size: None,
                origin: Origin::Index,
            },
            subdirectory: None,
            built: None,
        });
        let all = Selection {
            packages: vec![
                selected("a", "1.0", Origin::Index),
                selected("b", "1.0", Origin::Index),
                selected("c", "1.0", Origin::Direct),
                Selected { artifact: git, ..selected("g", "1.0", Origin::Index) },
                Selected { artifact: sdist, ..selected("s", "1.0", Origin::Index) },
                selected("z", "1.0", Origin::Index),
            ],
        };
        let has: Vec<_> = ["a", "c", "g", "s"].map(|name| there(name, "1.0", &[])).into();
        let has = [has, vec![there("b", "1.1", &[])]].concat();
        let (rest, present) = all.clone().without(&has);
        let names = |packages: &[Selected]| packages.iter().map(|it| it.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&rest.packages), ["b", "c", "g", "z"]);
        assert_eq!(present.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a 1.0", "s 1.0"]);
        assert_eq!(all.clone().without(&[]), (all, Vec::new()));
    }

    #[test]
    fn a_lock_has_all_packages_wherever_they_are() {
        let all = Selection {
            packages: vec![selected("a", "1.0", Origin::Index), selected("b", "2.0", Origin::Index)],
        };
        let scripts = [("tool", "a.cli"), ("tool", "a.other"), ("aid", "a")];
        let (rest, present) = all.clone().without(&[there("a", "1.0+mine", &scripts)]);
        let lock = Lock { present, ..rest.of_wheels().unwrap() };
        assert_eq!(Selection::from(&lock), all);
        assert_eq!(lock.get(&"a".parse().unwrap()), None);
        let scripts: Vec<_> = lock.present_scripts().into_iter().map(|it| (it.name, it.module)).collect();
        assert_eq!(scripts, [("aid".to_owned(), "a".to_owned()), ("tool".to_owned(), "a.cli".to_owned())]);
        let text = serde_json::to_string(&lock).unwrap();
        assert_eq!(serde_json::from_str::<Lock>(&text).unwrap(), lock);
    }
}
