//! Who runs: users and groups by the image's own files, and the maps of a user namespace.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The identity of a process inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The groups beside `gid`.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl Identity {
    /// Resolves `user[:group]` by the text of `/etc/passwd` and `/etc/group`, as Docker does: a number
    /// needs no entry; a name does; without a group it is the user's own one, and the groups that list
    /// the user come with it.
    pub(crate) fn resolve(spec: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let (user, wanted_group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (spec, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number = user.parse::<u32>().ok();
        let entry = passwd.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let &[name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
            let uid = uid.parse::<u32>().ok()?;
            (name == user || Some(uid) == number).then(|| (name, uid, gid.parse::<u32>().ok(), home))
        });
        let uid = entry
            .map(|(_, uid, _, _)| uid)
            .or(number)
            .ok_or_else(|| format!("the image's /etc/passwd has no user `{user}`"))?;
        let groups_of = |line: &'_ str| -> Option<(String, u32, Vec<String>)> {
            let fields: Vec<_> = line.split(':').collect();
            let &[name, _, gid, members, ..] = fields.as_slice() else { return None };
            Some((name.to_owned(), gid.parse().ok()?, members.split(',').map(str::to_owned).collect()))
        };
        let gid = match wanted_group {
            None => entry.and_then(|(_, _, gid, _)| gid).unwrap_or(0),
            Some(wanted) => match wanted.parse() {
                Ok(gid) => gid,
                Err(_) => group
                    .lines()
                    .filter_map(groups_of)
                    .find_map(|(name, gid, _)| (name == wanted).then_some(gid))
                    .ok_or_else(|| format!("the image's /etc/group has no group `{wanted}`"))?,
            },
        };
        let mut groups: Vec<u32> = match (entry, wanted_group) {
            (Some((name, ..)), None) => group
                .lines()
                .filter_map(groups_of)
                .filter(|(_, other, members)| *other != gid && members.iter().any(|member| member == name))
                .map(|(_, gid, _)| gid)
                .collect(),
            _ => Vec::new(),
        };
        groups.sort_unstable();
        groups.dedup();
        let home = entry.map_or("", |(_, _, _, home)| home);
        let home = if home.is_empty() { "/" } else { home }.to_owned();
        Ok(Self { uid, gid, groups, home })
    }
}

/// Identifiers that an ordinary user may use beside its own: a line of `/etc/subuid` or `/etc/subgid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// The first range of a user in the text of such a file, where a user stands by name or number.
    pub(crate) fn find(text: &str, name: Option<&str>, uid: u32) -> Option<Self> {
        let number = uid.to_string();
        text.lines().find_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let first = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok().filter(|count| *count > 0)?;
            (owner == number || Some(owner) == name).then_some(Self { first, count })
        })
    }

    /// The map in which the caller is root and the range follows, as arguments of `newuidmap`.
    pub(crate) fn map_arguments(self, caller: u32) -> [String; 6] {
        [
            "0".into(),
            caller.to_string(),
            "1".into(),
            "1".into(),
            self.first.to_string(),
            self.count.to_string(),
        ]
    }
}

/// The one-line map in which `inside` is the caller.
pub(crate) fn single_map(inside: u32, caller: u32) -> String {
    let mut line = String::new();
    let _ = writeln!(line, "{inside} {caller} 1");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app,other\napp:x:1001:\nwheel:x:10:root\n";

    fn resolve(spec: &str) -> Result<Identity, String> {
        Identity::resolve(spec, PASSWD, GROUP)
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn users_are_resolved_as_docker_does() {
        assert_eq!(resolve("").unwrap(), identity(0, 0, &[10], "/root"));
        assert_eq!(resolve("app").unwrap(), identity(1000, 1001, &[50], "/home/app"));
        assert_eq!(resolve("1000").unwrap(), identity(1000, 1001, &[50], "/home/app"));
        assert_eq!(resolve("app:staff").unwrap(), identity(1000, 50, &[], "/home/app"));
        assert_eq!(resolve("app:7").unwrap(), identity(1000, 7, &[], "/home/app"));
        assert_eq!(resolve("65534:65534").unwrap(), identity(65534, 65534, &[], "/"));
        assert_eq!(resolve("2000").unwrap(), identity(2000, 0, &[], "/"));
        assert!(resolve("nobody").unwrap_err().contains("`nobody`"));
        assert!(resolve("app:nogroup").unwrap_err().contains("`nogroup`"));
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "# comment\nother:1:2\nme:100000:65536\n12345:5:0\n12345:300000:10\n";
        assert_eq!(IdRange::find(text, Some("me"), 1), Some(IdRange { first: 100_000, count: 65536 }));
        assert_eq!(IdRange::find(text, None, 12345), Some(IdRange { first: 300_000, count: 10 }));
        assert_eq!(IdRange::find(text, Some("you"), 2), None);
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(spec: String, passwd: String, group: String) {
            let _ = Identity::resolve(&spec, &passwd, &group);
            let _ = IdRange::find(&passwd, Some("a"), 1);
        }
    }
}
