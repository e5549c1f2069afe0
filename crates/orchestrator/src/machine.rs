//! What this machine has for steps that run at the same time.

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    thread,
};

use longshore_pipeline::{Cpu, Memory};

use crate::Capacity;

/// Where control groups are (cgroups(7)).
const CGROUPS: &str = "/sys/fs/cgroup";

/// The capacity of this machine, or of the part of it that this process may use. At most `most` steps; as many as there
/// are processors if nothing is said.
pub fn capacity(most: Option<NonZeroU32>) -> Capacity {
    let processors = thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok());
    let processors = processors.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    Capacity {
        steps: most.unwrap_or(processors),
        cpu: Some(Cpu::from_millis(u64::from(processors.get()) * 1000)),
        memory: memory(),
    }
}

/// The machine's memory, or what the control groups that this process is in leave of it.
fn memory() -> Option<Memory> {
    let system = rustix::system::sysinfo();
    let total = system.totalram.checked_mul(system.mem_unit.into())?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    // A group without a limit says `max`, or, in the first version, a number beyond all memory.
    let least = limits.filter_map(|text| text.trim().parse().ok()).fold(total, u64::min);
    (least > 0).then(|| Memory::from_bytes(least))
}

/// The files with the limits of memory of the groups in `/proc/self/cgroup`, and of those around them.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => (Path::new(CGROUPS).to_owned(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| root.join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_all_groups_around_count() {
        let files = |text: &str| -> Vec<String> {
            limit_files(text).iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/user.slice/run.scope\n"),
            [
                "/sys/fs/cgroup/user.slice/run.scope/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/\n1:name=systemd:/b\n0::/\n"),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"]
        );
    }

    #[test]
    fn what_is_said_is_the_most() {
        let said = capacity(NonZeroU32::new(7));
        assert_eq!(said.steps.get(), 7);
        let own = capacity(None);
        assert_eq!(own.cpu.map(Cpu::millis), Some(u64::from(own.steps.get()) * 1000));
        assert!(own.memory.is_some_and(|memory| memory.bytes() > 1 << 20));
    }
}
