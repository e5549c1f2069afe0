//! A layer of what the image's own program changed when it installed packages.

use std::io::{Read, Write};

use longshore_layer::{
    Entry, EntryPath, Kind, LayerSummary, LayerWriter,
    read::{Change, Compression, LayerReader},
};

use super::system::System;
use crate::Error;

/// Whose files are in what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Those that they had.
    Kept,
    /// An ordinary user ran the container, to whom all files of the image belonged: what the container did not give to
    /// somebody belongs to whom it belonged in the image.
    Lost,
}

/// What belongs to the machine on which an image runs, or is mounted over it.
const OF_THE_MACHINE: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "var/tmp"];
/// Folders whose files are nobody's loss: caches, logs, lists. New directories in them stay, for programs count on them.
const SCRATCH: [&str; 4] = ["var/backups", "var/cache", "var/lib/apt", "var/log"];
/// Files that say when or where they were made, that are locks, or that must not be the same in two containers.
const LEFT_OUT: [&str; 17] = [
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/ssl/certs/ssl-cert-snakeoil.pem",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/subgid-",
    "etc/subuid-",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/systemd/random-seed",
];

/// Writes the layer of `changes`, a layer as a sandbox recorded it, to `writer`: sorted, without what is left out, and without
/// times from `started` (in seconds since 1970) on, so that another recording of the same gives the same bytes. `placed` are
/// paths that the sandbox made for what was mounted there.
pub fn write_recorded<W: Write>(
    changes: impl Read,
    system: &System,
    owners: Owners,
    started: u64,
    placed: &[&str],
    writer: LayerWriter<W>,
) -> Result<(W, LayerSummary), Error> {
    let mut recording = Recording { system, owners, started, pending: Vec::new(), writer };
    let mut reader = LayerReader::new(changes, Compression::Gzip)?;
    while let Some(mut entry) = reader.next_entry()? {
        match entry.change().clone() {
            Change::Put(file) => {
                let added = placed.contains(&file.path.as_str()) && !system.has(file.path.as_str());
                if !added && !is_left_out(&file.path, &file.kind) {
                    let size = entry.size();
                    recording.put(file, size, &mut entry)?;
                }
            }
            Change::Whiteout(path) => {
                if system.get(&path).is_some() && !is_left_out(&path, &Kind::File) {
                    recording.flush(&path)?;
                    recording.writer.whiteout(&path)?;
                }
            }
            Change::Opaque(Some(path)) => {
                let inside = path.join("x").unwrap_or_else(|_| path.clone());
                if !is_left_out(&inside, &Kind::File) {
                    recording.flush(&inside)?;
                    recording.writer.opaque(Some(&path))?;
                }
            }
            Change::Opaque(None) => {}
        }
    }
    reader.finish()?;
    Ok(recording.writer.finish()?)
}

struct Recording<'a, W: Write> {
    system: &'a System,
    owners: Owners,
    started: u64,
    /// Directories that the image has: written if something in them is.
    pending: Vec<Entry>,
    writer: LayerWriter<W>,
}

impl<W: Write> Recording<'_, W> {
    fn put(&mut self, mut entry: Entry, size: u64, content: impl Read) -> Result<(), Error> {
        let there = self.system.get(&entry.path);
        if entry.mtime >= self.started {
            entry.mtime = 0;
        }
        if let (Some(there), Owners::Lost) = (there, self.owners) {
            // As the layer was unpacked for an ordinary user; anything else the container did.
            if (entry.uid, entry.gid) == (0, 0) && entry.mode == there.mode & 0o1777 {
                (entry.uid, entry.gid, entry.mode) = (there.uid, there.gid, there.mode);
            }
        }
        if let (Kind::Directory, Some(there)) = (&entry.kind, there.filter(|it| it.kind == Kind::Directory)) {
            let same = (entry.mode, entry.uid, entry.gid) == (there.mode, there.uid, there.gid);
            entry.mtime = there.mtime;
            self.leave(&entry.path);
            self.pending.push(entry);
            if !same {
                self.flush_all()?;
            }
            return Ok(());
        }
        self.flush(&entry.path)?;
        match &entry.kind {
            Kind::File => self.writer.file_from(&entry, size, content)?,
            _ => self.writer.add(&entry)?,
        }
        Ok(())
    }

    /// Forgets the directories that do not lead to `path`.
    fn leave(&mut self, path: &EntryPath) {
        self.pending.retain(|directory| path.is_below(&directory.path));
    }

    /// Writes the directories that lead to `path`.
    fn flush(&mut self, path: &EntryPath) -> Result<(), Error> {
        self.leave(path);
        self.flush_all()
    }

    fn flush_all(&mut self) -> Result<(), Error> {
        for directory in self.pending.drain(..) {
            self.writer.add(&directory)?;
        }
        Ok(())
    }
}

fn is_left_out(path: &EntryPath, kind: &Kind) -> bool {
    let text = path.as_str();
    let inside = |folder: &str| text.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let of_the_machine = OF_THE_MACHINE.iter().any(|folder| text == *folder || inside(folder));
    let scratch = *kind != Kind::Directory && SCRATCH.iter().any(|folder| inside(folder));
    // Keys that every container of the image would share.
    let host_key = inside("etc/ssh") && path.name().starts_with("ssh_host_");
    let old = inside("var/lib/dpkg") && (text.ends_with("-old") || text.ends_with("/Lock"));
    of_the_machine || scratch || host_key || old || LEFT_OUT.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::{
        super::system::tests::{layer, system},
        *,
    };

    fn recorded(entries: &[Entry], owners: Owners, system: &System) -> Vec<String> {
        let mut raw = LayerWriter::new(Vec::new());
        for entry in entries {
            match entry.kind {
                Kind::File => raw.file(entry, b"x").unwrap(),
                _ => raw.add(entry).unwrap(),
            }
        }
        let (raw, _) = raw.finish().unwrap();
        let written = write_recorded(
            &raw[..],
            system,
            owners,
            1000,
            &["usr/sbin/policy-rc.d"],
            LayerWriter::new(Vec::new()),
        );
        let (layer, _) = written.unwrap();
        let mut reader = LayerReader::new(&layer[..], Compression::Gzip).unwrap();
        let mut seen = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let Change::Put(it) = entry.into_change() else { continue };
            seen.push(format!("{} {:o} {}:{} {}", it.path, it.mode, it.uid, it.gid, it.mtime));
        }
        seen
    }

    fn file(path: &str, mtime: u64) -> Entry {
        Entry::file(EntryPath::new(path).unwrap(), 0o644).changed_at(mtime)
    }

    fn directory(path: &str, mode: u32) -> Entry {
        Entry::new(EntryPath::new(path).unwrap(), Kind::Directory, mode).changed_at(5000)
    }

    #[test]
    fn what_differs_each_time_is_left_out_and_new_times_are_none() {
        let system = system(&[&[
            ("var/log/", ""),
            ("etc/ssh/", ""),
            ("etc/x", ""),
            ("usr/bin/sh", ""),
            ("usr/sbin/", ""),
        ]]);
        let entries = [
            directory("etc", 0o755),
            file("etc/hosts", 5000),
            file("etc/passwd-", 5000),
            file("etc/ssh/ssh_host_rsa_key", 5000),
            file("etc/x", 999),
            directory("run", 0o755),
            file("run/x.pid", 5000),
            directory("usr", 0o755),
            file("usr/bin/x", 1000),
            file("usr/sbin/policy-rc.d", 5000),
            directory("var/log", 0o755),
            file("var/log/dpkg.log", 5000),
            directory("var/log/nginx", 0o755),
        ];
        let seen = recorded(&entries, Owners::Kept, &system);
        let expected = [
            "etc 755 0:0 0",
            "etc/ssh 755 0:0 0",
            "etc/x 644 0:0 999",
            "usr 755 0:0 0",
            "usr/bin 755 0:0 0",
            "usr/bin/x 644 0:0 0",
            "usr/sbin 755 0:0 0",
            "var 755 0:0 0",
            "var/log 755 0:0 0",
            "var/log/nginx 755 0:0 0",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn owners_that_an_ordinary_user_could_not_give_come_from_the_image() {
        let mut image = System::default();
        let place = EntryPath::new("var/mail").unwrap();
        let mut writer = LayerWriter::new(Vec::new());
        writer.add(&Entry::new(place, Kind::Directory, 0o2775).owned_by(0, 8)).unwrap();
        image.add_layer(&writer.finish().unwrap().0[..], Compression::Gzip).unwrap();
        let entries = [directory("var/mail", 0o775), file("var/mail/x", 1)];
        assert_eq!(recorded(&entries, Owners::Lost, &image)[1], "var/mail 2775 0:8 0");
        assert_eq!(recorded(&entries, Owners::Kept, &image)[1], "var/mail 775 0:0 0");
        let unchanged = recorded(&entries[..1], Owners::Lost, &image);
        assert!(unchanged.is_empty(), "{unchanged:?}");
    }

    #[test]
    fn what_was_removed_is_removed() {
        let system = system(&[&[("etc/a", "a"), ("etc/hosts", "h")]]);
        let raw = layer(&[("etc/a", "gone"), ("etc/b", "gone"), ("etc/hosts", "gone")]);
        let writer = LayerWriter::new(Vec::new());
        let (layer, _) = write_recorded(&raw[..], &system, Owners::Kept, 0, &[], writer).unwrap();
        let mut reader = LayerReader::new(&layer[..], Compression::Gzip).unwrap();
        let mut gone = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            if let Change::Whiteout(path) = entry.into_change() {
                gone.push(path.to_string());
            }
        }
        assert_eq!(gone, ["etc/a"]);
    }
}
