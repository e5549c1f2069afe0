//! What the maintainer scripts of a parent's packages would have made, and programs need.
//!
//! No script is run: an image for another architecture is made like one for this one, nothing of it depends on the machine,
//! and no root is needed. What each script does for a fresh installation was read from it; the functions below name theirs.

use super::{lines, tree::Tree};
use crate::{Error, deb::Spool};

/// The packages whose scripts are done here, or need not be done in an image.
const SCRIPTS_DONE: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "debconf",
    "debianutils",
    "dpkg",
    "gawk",
    "grep",
    "gzip",
    "libc-bin",
    "libc6",
    "libgssapi-krb5-2",
    "libselinux1",
    "mawk",
    "media-types",
    "netbase",
    "openssl",
    "perl-base",
    "python3",
    "readline-common",
    "tar",
    "tzdata",
];

/// Whether a package's script is done here. Those of OpenSSL's libraries restart services when they are upgraded; those of
/// Python's packages compile bytecode, which is a layer of its own.
pub(super) fn script_is_done(package: &str) -> bool {
    let of_python =
        package.strip_prefix("lib").unwrap_or(package).strip_prefix("python3").is_some_and(|rest| {
            let rest = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            matches!(rest, "" | "-minimal" | "-stdlib")
        });
    of_python || package.starts_with("libssl") || SCRIPTS_DONE.contains(&package)
}

/// Makes everything.
pub(super) fn add(tree: &mut Tree, spools: &[Spool]) -> Result<(), Error> {
    base_files(tree, spools)?;
    accounts(tree, spools)?;
    names(tree, spools)?;
    shells(tree, spools)?;
    time_zone(tree)?;
    python(tree)?;
    tree.file("etc/dpkg/dpkg.cfg.d/longshore", 0o644, super::excludes::dpkg_configuration())
}

/// Copies a template that a package brings.
fn copy(tree: &mut Tree, spools: &[Spool], from: &str, to: &str) -> Result<(), Error> {
    match tree.read(from, spools)? {
        Some(content) if !tree.has(to) => tree.file(to, 0o644, content),
        _ => Ok(()),
    }
}

/// `base-files`: first-time configuration.
fn base_files(tree: &mut Tree, spools: &[Spool]) -> Result<(), Error> {
    const MAIL: u32 = 8;
    const UTMP: u32 = 43;
    for (template, path) in [
        ("dot.profile", "root/.profile"),
        ("dot.bashrc", "root/.bashrc"),
        ("profile", "etc/profile"),
        ("motd", "etc/motd"),
    ] {
        copy(tree, spools, &format!("usr/share/base-files/{template}"), path)?;
    }
    for vendor in ["ubuntu", "debian"] {
        if tree.has(&format!("etc/dpkg/origins/{vendor}")) && !tree.has("etc/dpkg/origins/default") {
            tree.link("etc/dpkg/origins/default", vendor)?;
        }
    }
    for directory in ["dev", "etc/opt", "media", "mnt", "opt", "proc", "srv", "sys", "var/opt"] {
        tree.directory(directory, 0o755, 0)?;
    }
    for directory in ["bin", "etc", "games", "include", "lib", "sbin", "share", "share/man", "src"] {
        tree.directory(&format!("usr/local/{directory}"), 0o755, 0)?;
    }
    tree.link("usr/local/man", "share/man")?;
    tree.directory("root", 0o700, 0)?;
    tree.directory("run", 0o755, 0)?;
    tree.directory("run/lock", 0o1777, 0)?;
    tree.directory("tmp", 0o1777, 0)?;
    tree.directory("var/tmp", 0o1777, 0)?;
    tree.directory("var/mail", 0o2775, MAIL)?;
    tree.link("var/spool/mail", "../mail")?;
    for (log, mode) in [("btmp", 0o660), ("lastlog", 0o664), ("wtmp", 0o664)] {
        let path = super::tree::generated_path(&format!("var/log/{log}"))?;
        tree.make(
            super::tree::Owner::System,
            longshore_layer::Entry::file(path, mode).owned_by(0, UTMP),
            Vec::new(),
        );
    }
    Ok(())
}

/// `base-passwd`, and `passwd`'s `shadowconfig on`: accounts without passwords that open anything.
fn accounts(tree: &mut Tree, spools: &[Spool]) -> Result<(), Error> {
    const SHADOW: u32 = 42;
    for (master, public, secret, rest) in
        [("passwd.master", "passwd", "shadow", "::0:99999:7:::"), ("group.master", "group", "gshadow", "::")]
    {
        let source = format!("usr/share/base-passwd/{master}");
        let text = tree.read(&source, spools)?.ok_or_else(|| Error::Missing {
            package: "base-passwd".to_owned(),
            path: source.clone(),
            wanted: format!("/etc/{public}"),
        })?;
        let (mut visible, mut hidden) = (Vec::new(), Vec::new());
        for line in String::from_utf8_lossy(&text).lines() {
            let mut fields: Vec<&str> = line.split(':').collect();
            if fields.len() < 4 {
                continue;
            }
            hidden.push(format!("{}:*{rest}", fields[0]));
            fields[1] = "x";
            visible.push(fields.join(":"));
        }
        tree.file(&format!("etc/{public}"), 0o644, lines(&visible))?;
        let path = super::tree::generated_path(&format!("etc/{secret}"))?;
        let entry = longshore_layer::Entry::file(path, 0o640).owned_by(0, SHADOW);
        tree.make(super::tree::Owner::System, entry, lines(&hidden).into_bytes());
    }
    Ok(())
}

/// `libc-bin` (`base-files` in older releases) and `netbase`: how names are looked up. `/etc/hosts` and
/// `/etc/resolv.conf` are the runtime's.
fn names(tree: &mut Tree, spools: &[Spool]) -> Result<(), Error> {
    for package in ["libc-bin", "base-files"] {
        copy(tree, spools, &format!("usr/share/{package}/nsswitch.conf"), "etc/nsswitch.conf")?;
    }
    if tree.has("etc/protocols") && !tree.has("etc/networks") {
        tree.file(
            "etc/networks",
            0o644,
            "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n",
        )?;
    }
    Ok(())
}

/// `debianutils`: `update-shells`. Each shell is listed by both its names of the merged `/usr`.
fn shells(tree: &mut Tree, spools: &[Spool]) -> Result<(), Error> {
    let folder = "usr/share/debianutils";
    let Some(own) = tree.read(&format!("{folder}/shells"), spools)? else { return Ok(()) };
    let own = String::from_utf8_lossy(&own).into_owned();
    let mut listed: Vec<String> = Vec::new();
    let fragments: Vec<String> =
        tree.below(&format!("{folder}/shells.d")).map(|node| node.entry.path.to_string()).collect();
    let mut texts = vec![own];
    for fragment in fragments {
        texts.push(String::from_utf8_lossy(&tree.read(&fragment, spools)?.unwrap_or_default()).into_owned());
    }
    for line in texts.iter().flat_map(|text| text.lines()) {
        for name in [line.to_owned(), format!("/usr{line}")] {
            if (name.starts_with('#') || name.starts_with("/bin/") || name.starts_with("/usr/bin/"))
                && !listed.contains(&name)
            {
                listed.push(name);
            }
        }
    }
    tree.file("etc/shells", 0o644, lines(&listed))
}

/// `tzdata`: UTC, as for an installation that asks no questions.
fn time_zone(tree: &mut Tree) -> Result<(), Error> {
    if tree.has("usr/share/zoneinfo/Etc/UTC") {
        tree.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
        tree.file("etc/timezone", 0o644, "Etc/UTC\n")?;
    }
    Ok(())
}

/// `python3`, `python3.N-minimal`: where modules of the administrator go, and how bytecode is made.
fn python(tree: &mut Tree) -> Result<(), Error> {
    if tree.has("usr/share/python3/debian_defaults") {
        let text = "[DEFAULT]\n# how to byte-compile (comma separated: standard, optimize)\nbyte-compile = standard\n";
        tree.file("etc/python3/debian_config", 0o644, text)?;
    }
    let versions: Vec<String> = tree
        .below("usr/bin")
        .filter_map(|node| node.entry.path.name().strip_prefix("python3."))
        .filter(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
        .map(ToOwned::to_owned)
        .collect();
    for minor in versions {
        tree.directory(&format!("usr/local/lib/python3.{minor}/dist-packages"), 0o755, 0)?;
    }
    Ok(())
}
