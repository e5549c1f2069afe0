//! Which of a lock's packages are for a target: environment markers (PEP 508), and the extras and dependency groups
//! that were chosen (PEP 751).

use std::fmt::Write as _;

use pep508_rs::{ExtraName, MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree};

use crate::{error::Error, target::Target};

/// What stands before a dependency group's name when its marker is read as one about extras: pep508_rs knows only these.
const GROUP: &str = "longshore-dependency-group-";

/// What markers are evaluated with.
#[derive(Clone, Debug)]
pub struct Markers {
    environment: MarkerEnvironment,
    chosen: Vec<ExtraName>,
}

impl Markers {
    /// The markers of a Linux target, with these extras and dependency groups.
    pub fn new(target: &Target, extras: &[String], groups: &[String]) -> Result<Self, Error> {
        let (full, short) = (target.python.to_string(), target.python.short());
        let environment = MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
            implementation_name: "cpython",
            implementation_version: &full,
            os_name: "posix",
            platform_machine: target.arch.machine(),
            platform_python_implementation: "CPython",
            // What they are in a container is the host's business, so a lock cannot depend on them.
            platform_release: "",
            platform_system: "Linux",
            platform_version: "",
            python_full_version: &full,
            python_version: &short,
            sys_platform: "linux",
        });
        let environment = environment.map_err(|error| Error::Lock { reason: error.to_string() })?;
        let groups = groups.iter().map(|group| format!("{GROUP}{group}"));
        let chosen = extras.iter().cloned().chain(groups).map(|name| {
            ExtraName::new(name.clone()).map_err(|_| Error::ExtraName { name: name.replace(GROUP, "") })
        });
        Ok(Self { environment, chosen: chosen.collect::<Result<_, _>>()? })
    }

    /// Whether a marker holds.
    pub fn hold(&self, marker: &str) -> Result<bool, Error> {
        let wrong = |reason: String| Error::Lock {
            reason: format!("its marker `{marker}` cannot be read: {reason}"),
        };
        let tree: MarkerTree = as_extras(marker)
            .parse()
            .map_err(|error: pep508_rs::Pep508Error| wrong(error.message.to_string()))?;
        Ok(tree.evaluate(&self.environment, &self.chosen))
    }
}

/// `'x' in extras` and `'x' in dependency_groups` as `extra == '…'`, and with `not in` as `extra != '…'`.
fn as_extras(marker: &str) -> String {
    let mut text = String::with_capacity(marker.len());
    let mut rest = marker;
    while let Some(start) = rest.find(['\'', '"']) {
        let quote = &rest[start..=start];
        let Some(length) = rest[start + 1..].find(quote) else { break };
        let (value, after) = (&rest[start + 1..start + 1 + length], &rest[start + 2 + length..]);
        text.push_str(&rest[..start]);
        if let Some((operator, prefix, after)) = membership(after) {
            // Writing to a text cannot fail.
            let _ = write!(text, "extra {operator} {quote}{prefix}{value}{quote}");
            rest = after;
        } else {
            text.push_str(&rest[start..start + 2 + length]);
            rest = after;
        }
    }
    text + rest
}

/// What follows a value that is asked for in a set, and the rest.
fn membership(after: &str) -> Option<(&'static str, &'static str, &str)> {
    let rest = after.trim_start();
    let (operator, rest) = match rest.strip_prefix("not") {
        Some(rest) => ("!=", rest.trim_start()),
        None => ("==", rest),
    };
    let rest = rest.strip_prefix("in")?.strip_prefix(char::is_whitespace)?.trim_start();
    match rest.strip_prefix("dependency_groups") {
        Some(rest) => Some((operator, GROUP, rest)),
        None => Some((operator, "", rest.strip_prefix("extras")?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Glibc, PythonVersion};
    use longshore_oci::Arch;
    use proptest::prelude::*;

    fn markers(extras: &[&str], groups: &[&str]) -> Markers {
        let target = Target {
            python: PythonVersion::new(3, 11, 2),
            arch: Arch::Arm64,
            glibc: Glibc { major: 2, minor: 36 },
        };
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        Markers::new(&target, &owned(extras), &owned(groups)).unwrap()
    }

    #[test]
    fn the_target_decides_not_this_machine() {
        let markers = markers(&[], &[]);
        for (marker, holds) in [
            ("sys_platform == 'win32'", false),
            ("platform_machine == 'aarch64' and python_full_version >= '3.11.2'", true),
            ("platform_machine == 'x86_64' or python_version < '3.10'", false),
            ("implementation_name == 'cpython' and os_name != 'nt'", true),
        ] {
            assert_eq!(markers.hold(marker).unwrap(), holds, "{marker}");
        }
        assert!(markers.hold("sys_platform =").is_err());
    }

    #[test]
    fn extras_and_groups_are_chosen_apart() {
        let markers = markers(&["web"], &["dev"]);
        for (marker, holds) in [
            ("'web' in extras", true),
            ("\"dev\" in dependency_groups and sys_platform == 'linux'", true),
            ("'web' in dependency_groups", false),
            ("'dev' in extras", false),
            ("'docs' not in dependency_groups", true),
            ("'dev' not   in dependency_groups or 'web' not in extras", false),
        ] {
            assert_eq!(markers.hold(marker).unwrap(), holds, "{marker}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(marker in "('[a-z]{0,3}'|\"x\"| in | not |extras|dependency_groups|sys_platform|==|and|\\(|\\)|'| ){0,12}") {
            let _ = markers(&[], &[]).hold(&marker);
        }
    }
}
