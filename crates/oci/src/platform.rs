//! Platforms: the operating system and processor an image is for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A processor architecture that longshore can build for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Arch {
    /// The architecture this program runs on; `None` on one that longshore builds nothing for.
    pub const fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::Amd64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm64)
        } else {
            None
        }
    }

    /// The name that OCI, Go and Debian share: `amd64`, `arm64`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's name, which wheel tags use: `x86_64`, `aarch64`.
    pub const fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A platform as image indexes and configurations state it, e.g. `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, in Go's spelling.
    pub architecture: String,
    /// The operating system, in Go's spelling.
    pub os: String,
    /// The version of the operating system, where it matters (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The variant of the processor, e.g. `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a string is not a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("platform `{0}` is not of the form os/architecture[/variant], e.g. linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// Linux on `arch`.
    pub fn linux(arch: Arch) -> Self {
        Self {
            architecture: arch.as_str().to_owned(),
            os: "linux".to_owned(),
            os_version: None,
            variant: None,
        }
    }

    /// The architecture, if it is Linux on one that longshore builds for.
    pub fn linux_arch(&self) -> Option<Arch> {
        match (self.os.as_str(), self.architecture.as_str()) {
            ("linux", "amd64") => Some(Arch::Amd64),
            ("linux", "arm64") => Some(Arch::Arm64),
            _ => None,
        }
    }

    /// Whether an image of this platform serves where `wanted` is asked for. arm64 without a variant is v8
    /// (image specification, "Platform Variants").
    pub fn serves(&self, wanted: &Self) -> bool {
        let variant = |platform: &Self| match (&platform.variant, platform.architecture.as_str()) {
            (None, "arm64") => Some("v8".to_owned()),
            (variant, _) => variant.clone(),
        };
        self.os == wanted.os && self.architecture == wanted.architecture && variant(self) == variant(wanted)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let well_formed = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(well_formed) {
            return Err(PlatformError(text.to_owned()));
        }
        Ok(Self {
            os: parts[0].to_owned(),
            architecture: parts[1].to_owned(),
            os_version: None,
            variant: parts.get(2).map(|&variant| variant.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arm64_without_a_variant_is_v8() {
        let plain: Platform = "linux/arm64".parse().unwrap();
        assert!(plain.serves(&"linux/arm64/v8".parse().unwrap()));
        assert!(!plain.serves(&"linux/amd64".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(text in "[a-z]{1,8}/[a-z0-9]{1,8}(/v[0-9])?") {
            prop_assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<Platform>();
        }
    }
}
