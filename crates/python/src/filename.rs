//! The name of a wheel file (binary distribution format, "File name convention").

use std::{fmt, str::FromStr};

use pep508_rs::{PackageName, pep440_rs::Version};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a wheel file, taken apart: `{name}-{version}[-{build}]-{python}-{abi}-{platform}.whl`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WheelFilename {
    text: String,
    name: PackageName,
    version: Version,
    build: Option<BuildTag>,
    tags: [String; 3],
}

/// The build tag: orders wheels that agree in everything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildTag {
    number: u64,
    rest: String,
}

/// Why a string is not the name of a wheel file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{filename}` is not the name of a wheel file: {reason}")]
pub struct FilenameError {
    filename: String,
    reason: &'static str,
}

impl WheelFilename {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The distribution, normalised.
    pub const fn name(&self) -> &PackageName {
        &self.name
    }

    /// Its version.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The build tag, if there is one.
    pub const fn build(&self) -> Option<&BuildTag> {
        self.build.as_ref()
    }

    /// The tags as the name has them, e.g. `cp311-abi3-manylinux_2_28_x86_64`.
    pub fn tags(&self) -> String {
        self.tags.join("-")
    }

    /// The Python tags, e.g. `py2` and `py3`.
    pub fn python_tags(&self) -> impl Iterator<Item = &str> {
        self.tags[0].split('.')
    }

    /// The ABI tags, e.g. `abi3`.
    pub fn abi_tags(&self) -> impl Iterator<Item = &str> {
        self.tags[1].split('.')
    }

    /// The platform tags, e.g. `manylinux_2_17_x86_64` and `manylinux2014_x86_64`.
    pub fn platform_tags(&self) -> impl Iterator<Item = &str> {
        self.tags[2].split('.')
    }
}

impl FromStr for WheelFilename {
    type Err = FilenameError;

    fn from_str(text: &str) -> Result<Self, FilenameError> {
        let wrong = |reason| FilenameError { filename: text.to_owned(), reason };
        let stem = text.strip_suffix(".whl").ok_or_else(|| wrong("it does not end in .whl"))?;
        if text.contains(['/', '\\', '\0']) {
            return Err(wrong("it has a path separator"));
        }
        let parts: Vec<&str> = stem.split('-').collect();
        let (name, version, build, tags) = match parts[..] {
            [name, version, python, abi, platform] => (name, version, None, [python, abi, platform]),
            [name, version, build, python, abi, platform] => {
                (name, version, Some(build), [python, abi, platform])
            }
            _ => return Err(wrong("it does not have five or six parts separated by `-`")),
        };
        if name.is_empty() {
            return Err(wrong("the distribution has no name"));
        }
        if tags.iter().any(|tag| tag.split('.').any(str::is_empty)) {
            return Err(wrong("a compatibility tag is empty"));
        }
        let build = build.map(|build| {
            let digits = build.len() - build.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number =
                build[..digits].parse().map_err(|_| wrong("the build tag does not start with a number"))?;
            Ok(BuildTag { number, rest: build[digits..].to_owned() })
        });
        Ok(Self {
            text: text.to_owned(),
            name: name.parse().map_err(|_| wrong("the distribution's name is not valid"))?,
            version: version.parse().map_err(|_| wrong("the version is not valid (PEP 440)"))?,
            build: build.transpose()?,
            tags: tags.map(str::to_owned),
        })
    }
}

impl fmt::Display for WheelFilename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for WheelFilename {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for WheelFilename {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_taken_apart() {
        let name: WheelFilename =
            "scikit_learn-1.5.2-2b-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
                .parse()
                .unwrap();
        assert_eq!(name.name().as_ref(), "scikit-learn");
        assert_eq!(name.version().to_string(), "1.5.2");
        assert_eq!(name.build(), Some(&BuildTag { number: 2, rest: "b".into() }));
        assert_eq!(name.python_tags().collect::<Vec<_>>(), ["cp311"]);
        assert_eq!(
            name.platform_tags().collect::<Vec<_>>(),
            ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
        );
    }

    #[test]
    fn what_is_not_a_wheel_is_refused() {
        for wrong in [
            "requests-2.32.3.tar.gz",
            "requests-2.32.3-py3-none.whl",
            "requests-2.32.3-x1-py3-none-any.whl",
            "requests-two-py3-none-any.whl",
            "-2.32.3-py3-none-any.whl",
            "../requests-2.32.3-py3-none-any.whl",
            "requests-2.32.3-py3-none-.whl",
            ".whl",
        ] {
            assert!(wrong.parse::<WheelFilename>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn names_survive_printing(
            name in "[a-z][a-z0-9_]{0,8}[a-z]", version in "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}",
            build in proptest::option::of("[0-9]{1,3}[a-z]{0,2}"), python in "(cp3[0-9]{1,2}|py3|py2\\.py3)",
        ) {
            let build = build.map(|build| format!("{build}-")).unwrap_or_default();
            let text = format!("{name}-{version}-{build}{python}-none-any.whl");
            let parsed: WheelFilename = text.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), text);
            prop_assert_eq!(parsed.version(), &version.parse::<Version>().unwrap());
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<WheelFilename>();
            let _ = format!("{text}.whl").parse::<WheelFilename>();
        }
    }
}
