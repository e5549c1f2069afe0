//! Which of several wheels suits a target best (platform compatibility tags).

use std::collections::HashMap;

use crate::{filename::WheelFilename, target::Target};

/// The tags that a target accepts, each with its rank; the order is uv's and pip's.
#[derive(Debug)]
pub struct Tags(HashMap<(String, &'static str, String), usize>);

impl Tags {
    /// The tags that `target` accepts. Empty when its C library is older than every `manylinux`.
    pub fn of(target: &Target) -> Self {
        let machine = target.arch.machine();
        // No manylinux before 2.17 was ever defined for Arm (PEP 599 and before).
        let oldest = if machine == "x86_64" { 5 } else { 17 };
        let mut platforms = Vec::new();
        for minor in (oldest..=target.manylinux().unwrap_or(0)).rev() {
            platforms.push(format!("manylinux_2_{minor}_{machine}"));
            match minor {
                17 => platforms.push(format!("manylinux2014_{machine}")),
                12 => platforms.push(format!("manylinux2010_{machine}")),
                5 => platforms.push(format!("manylinux1_{machine}")),
                _ => {}
            }
        }
        platforms.push(format!("linux_{machine}"));

        let minor = target.python.minor;
        let cp = |minor: u8| format!("cp3{minor}");
        // uv puts `py3` right after the exact version and before the older ones.
        let generic: Vec<String> = std::iter::once(format!("py3{minor}"))
            .chain(["py3".to_owned()])
            .chain((0..minor).rev().map(|older| format!("py3{older}")))
            .collect();

        let mut table = HashMap::new();
        let mut accept = |python: &str, abi: &'static str, platforms: &[String]| {
            for platform in platforms {
                let rank = table.len();
                table.entry((python.to_owned(), abi, platform.clone())).or_insert(rank);
            }
        };
        // The ABI `cp311` belongs to the Python tag `cp311`; it is written `=` here, and in `rank`.
        accept(&cp(minor), "=", &platforms);
        for older in (2..=minor).rev() {
            accept(&cp(older), "abi3", &platforms);
            if older == minor {
                accept(&cp(minor), "none", &platforms);
            }
        }
        for python in &generic {
            accept(python, "none", &platforms);
        }
        let any = ["any".to_owned()];
        accept(&cp(minor), "none", &any);
        for python in &generic {
            accept(python, "none", &any);
        }
        Self(table)
    }

    /// How well a wheel suits the target: 0 is best, `None` is not at all.
    pub fn rank(&self, wheel: &WheelFilename) -> Option<usize> {
        let mut best: Option<usize> = None;
        for python in wheel.python_tags() {
            for abi in wheel.abi_tags() {
                let abi = match abi {
                    "none" => "none",
                    "abi3" => "abi3",
                    abi if abi == python => "=",
                    _ => continue,
                };
                for platform in wheel.platform_tags() {
                    let rank = self.0.get(&(python.to_owned(), abi, platform.to_owned()));
                    best = best.into_iter().chain(rank.copied()).min();
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Glibc, PythonVersion};
    use longshore_oci::Arch;

    fn rank(target: Target, filename: &str) -> Option<usize> {
        Tags::of(&target).rank(&filename.parse().unwrap())
    }

    const TARGET: Target = Target {
        python: PythonVersion::new(3, 11, 2),
        arch: Arch::Amd64,
        glibc: Glibc { major: 2, minor: 36 },
    };

    #[test]
    fn the_order_is_exact_then_stable_abi_then_pure() {
        let wheels = [
            "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            "a-1-cp311-cp311-manylinux1_x86_64.whl",
            "a-1-cp311-cp311-linux_x86_64.whl",
            "a-1-cp311-abi3-manylinux_2_28_x86_64.whl",
            "a-1-cp311-none-manylinux_2_28_x86_64.whl",
            "a-1-cp39-abi3-manylinux_2_28_x86_64.whl",
            "a-1-py311-none-manylinux_2_28_x86_64.whl",
            "a-1-py3-none-manylinux_2_28_x86_64.whl",
            "a-1-py310-none-manylinux_2_28_x86_64.whl",
            "a-1-cp311-none-any.whl",
            "a-1-py3-none-any.whl",
            "a-1-py30-none-any.whl",
        ];
        let ranks: Vec<_> = wheels.iter().map(|wheel| rank(TARGET, wheel).expect(wheel)).collect();
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
    }

    #[test]
    fn what_does_not_run_there_has_no_rank() {
        for wheel in [
            "a-1-cp312-cp312-manylinux_2_28_x86_64.whl",
            "a-1-cp312-abi3-manylinux_2_28_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_39_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_28_aarch64.whl",
            "a-1-cp311-cp311t-manylinux_2_28_x86_64.whl",
            "a-1-cp310-cp310-manylinux_2_28_x86_64.whl",
            "a-1-cp311-cp311-musllinux_1_2_x86_64.whl",
            "a-1-cp311-cp311-win_amd64.whl",
            "a-1-py2-none-any.whl",
        ] {
            assert_eq!(rank(TARGET, wheel), None, "{wheel}");
        }
        let arm = Target { arch: Arch::Arm64, ..TARGET };
        assert!(rank(arm, "a-1-cp311-cp311-manylinux2014_aarch64.whl").is_some());
        assert_eq!(rank(arm, "a-1-cp311-cp311-manylinux1_aarch64.whl"), None);
    }
}
