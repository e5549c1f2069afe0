//! What this machine allows.

use std::{fs, path::Path};

use rustix::thread::CapabilitySet;
use serde::Serialize;

use crate::{
    Error, Result, RootFs, Stream, Streams,
    run::Start,
    user::IdRange,
    wire::{Maps, Task, ToParent},
};

/// By what right containers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    /// As root.
    Root,
    /// As an ordinary user, who is root in a user namespace.
    UserNamespace,
    /// Not at all.
    None,
}

/// What a container can have here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// By what right.
    pub privilege: Privilege,
    /// How its root file system is made.
    pub rootfs: RootFs,
    /// Why it is a copy, if it is one.
    pub no_overlay: Option<String>,
    /// Why it sees the `/proc` around it and not one of its own, if so.
    pub no_proc: Option<String>,
    /// The identifiers that an ordinary user has beside its own, if `newuidmap` can map them.
    pub ranges: Option<Ranges>,
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
}

/// The user's and group's ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ranges {
    /// Of `/etc/subuid`.
    pub users: IdRange,
    /// Of `/etc/subgid`.
    pub groups: IdRange,
}

/// What stands in the way of user namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Obstacle {
    /// The kernel was built without them.
    NotBuilt,
    /// `user.max_user_namespaces` is 0.
    Limit,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian's and Arch's kernels).
    Clone,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu since 23.10).
    AppArmor,
    /// None of the above: a seccomp filter or the like, as around most containers.
    Filter,
}

impl Obstacle {
    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NotBuilt => "This kernel has no user namespaces: run as root.",
            Self::Limit => {
                "User namespaces are switched off: `sysctl -w user.max_user_namespaces=15000` allows them."
            }
            Self::Clone => {
                "User namespaces are for root only: `sysctl -w kernel.unprivileged_userns_clone=1` allows them to all."
            }
            Self::AppArmor => {
                "AppArmor restricts user namespaces: allow them to longshore by an AppArmor profile with `userns,`, \
                 or to all by `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`."
            }
            Self::Filter => {
                "Something around this process forbids namespaces, as Docker does in its containers: \
                 run outside of it, or give it the capability SYS_ADMIN or an unconfined seccomp profile."
            }
        }
    }

    /// What stands in the way here.
    pub(crate) fn find() -> Vec<Self> {
        let setting = |name: &str| {
            fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
        };
        Self::of(fs::exists("/proc/self/ns/user").unwrap_or(false), setting)
    }

    fn of(built: bool, setting: impl Fn(&str) -> Option<String>) -> Vec<Self> {
        if !built {
            return vec![Self::NotBuilt];
        }
        let known = [
            ("user/max_user_namespaces", "0", Self::Limit),
            ("kernel/unprivileged_userns_clone", "0", Self::Clone),
            ("kernel/apparmor_restrict_unprivileged_userns", "1", Self::AppArmor),
        ];
        let found: Vec<_> = known
            .into_iter()
            .filter(|(name, bad, _)| setting(name).as_deref() == Some(bad))
            .map(|(_, _, obstacle)| obstacle)
            .collect();
        if found.is_empty() { vec![Self::Filter] } else { found }
    }
}

impl Privilege {
    /// What the caller would use; that it works is another question.
    pub fn of_caller() -> Self {
        let needed = CapabilitySet::SYS_ADMIN
            | CapabilitySet::CHOWN
            | CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::FOWNER
            | CapabilitySet::SETUID
            | CapabilitySet::SETGID
            | CapabilitySet::SETPCAP;
        let has = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
        // Root of a user namespace is no more than its owner, and many identifiers may not exist there.
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let everybody = map.split_whitespace().eq(["0", "0", "4294967295"]);
        if rustix::process::geteuid().is_root() && has && everybody {
            Self::Root
        } else {
            Self::UserNamespace
        }
    }
}

impl Capabilities {
    /// Tries it: makes a sandbox in `scratch` (see [`crate::Sandbox`]) that only looks around.
    pub fn probe(scratch: &Path) -> Result<Self> {
        let privilege = Privilege::of_caller();
        let ranges = id_ranges().map(|(users, groups)| Ranges { users, groups });
        let nothing = Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
        let mut start = Start::new(scratch, Task::Probe, Maps::Parent, nothing, None)?;
        match start.converse() {
            Ok(ToParent::Probed { overlay, proc }) => {
                start.finish()?;
                Ok(Self {
                    privilege,
                    rootfs: if overlay.is_ok() { RootFs::Overlay } else { RootFs::Copy },
                    no_overlay: overlay.err().map(|failure| failure.to_string()),
                    no_proc: proc.err().map(|failure| failure.to_string()),
                    ranges,
                    obstacles: Vec::new(),
                })
            }
            Ok(other) => Err(start.unexpected(&other)),
            Err(Error::NoPrivilege { obstacles, source }) => Ok(Self {
                privilege: Privilege::None,
                rootfs: RootFs::Copy,
                no_overlay: Some(source.to_string()),
                no_proc: Some(source.to_string()),
                ranges,
                obstacles,
            }),
            Err(error) => Err(error),
        }
    }
}

/// The caller's ranges of users and groups, where there are ranges and the programs that map them.
pub(crate) fn id_ranges() -> Option<(IdRange, IdRange)> {
    if Privilege::of_caller() == Privilege::Root {
        return None;
    }
    let search = std::env::var_os("PATH")?;
    let found = |program: &str| std::env::split_paths(&search).any(|folder| folder.join(program).is_file());
    if !(found("newuidmap") && found("newgidmap")) {
        return None;
    }
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let range = |file: &str| IdRange::find(&fs::read_to_string(file).ok()?, name, uid);
    Some((range("/etc/subuid")?, range("/etc/subgid")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_an_obstacle_of_its_own() {
        let only = |wanted: &'static str, value: &'static str| {
            Obstacle::of(true, move |name| (name == wanted).then(|| value.to_owned()))
        };
        assert_eq!(only("user/max_user_namespaces", "0"), [Obstacle::Limit]);
        assert_eq!(only("kernel/unprivileged_userns_clone", "0"), [Obstacle::Clone]);
        assert_eq!(only("kernel/apparmor_restrict_unprivileged_userns", "1"), [Obstacle::AppArmor]);
        assert_eq!(only("kernel/apparmor_restrict_unprivileged_userns", "0"), [Obstacle::Filter]);
        assert_eq!(Obstacle::of(false, |_| None), [Obstacle::NotBuilt]);
    }
}
