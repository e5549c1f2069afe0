//! Layers unpacked: honest ones as they are meant, hostile ones without harm.

use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use longshore_oci::{Digest, MediaType};
use longshore_sandbox::{Error, RootFs, Snapshots, Streams};
use proptest::prelude::*;
use tar::EntryType;

use crate::{Bench, HIDE, hidden, is_root, list, part, shell, text};

crate::tests!(
    an_honest_layer_is_unpacked_as_it_is,
    every_compression_is_read,
    what_is_there_is_not_read_again,
    nothing_wrong_is_kept,
    marks_hide_what_is_below_in_any_order,
    a_root_can_be_opaque,
    a_later_entry_replaces_an_earlier_one,
    no_entry_leads_out,
    devices_are_left_out,
    no_sequence_of_entries_leads_out,
    many_processes_unpack_one_layer_once,
    a_removed_layer_is_gone,
);

pub(crate) const PARTS: &[crate::Test] = &[("unpacker", unpacker)];

/// A tar archive, written without any of the checks that a library would make.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// Unpacks the archive as a layer.
    fn unpack(self, snapshots: &Snapshots) -> longshore_sandbox::Result<PathBuf> {
        let bytes = self.end();
        snapshots.unpack(&Digest::of(&bytes), &MediaType::LayerTar, &bytes[..])
    }
}

fn snapshots(bench: &Bench) -> Snapshots {
    Snapshots::open(bench.host_folder("snapshots")).unwrap()
}

fn an_honest_layer_is_unpacked_as_it_is() {
    let bench = Bench::new();
    let layer = Archive::default()
        .directory("./", 0o755)
        .directory("./closed/", 0o555)
        .file("./closed/file", "content")
        .file("implied/deep/file", "x")
        .symlink("link", "/closed/file")
        .hard_link("again", "./closed/file")
        .entry(EntryType::Fifo, "pipe", "", 0o600, b"")
        .entry(EntryType::Regular, "program", "", 0o4755, b"#!")
        .entry(EntryType::Directory, "sticky", "", 0o1777, b"")
        .entry(EntryType::Regular, "none", "", 0, b"closed")
        .unpack(&snapshots(&bench))
        .unwrap();
    let metadata = |path: &str| fs::symlink_metadata(layer.join(path)).unwrap();
    let mode = |path: &str| metadata(path).permissions().mode() & 0o7777;
    assert_eq!(list(&layer), ["again", "closed", "implied", "link", "none", "pipe", "program", "sticky"]);
    assert_eq!(fs::read_to_string(layer.join("closed/file")).unwrap(), "content");
    assert_eq!(metadata("again").ino(), metadata("closed/file").ino());
    assert_eq!(fs::read_link(layer.join("link")).unwrap(), Path::new("/closed/file"));
    assert!(metadata("pipe").file_type().is_fifo());
    assert_eq!((mode("closed"), mode("implied"), mode("sticky"), mode("none")), (0o555, 0o755, 0o1777, 0));
    assert_eq!(mode("program"), if is_root() { 0o4755 } else { 0o755 });
    assert_eq!(
        (metadata("closed").mtime(), metadata("link").mtime(), metadata("program").mtime()),
        (1_000_000, 1_000_000, 1_000_000)
    );
    assert_eq!(fs::metadata(layer.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(metadata("program").uid(), rustix::process::geteuid().as_raw());
}

fn every_compression_is_read() {
    let bench = Bench::new();
    let snapshots = snapshots(&bench);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let members = |bytes: &[u8]| bytes.chunks(300).flat_map(gzip).collect::<Vec<_>>();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    type Pack<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let packs: [(MediaType, Pack<'_>); 3] = [
        (MediaType::LayerGzip, &gzip),
        (MediaType::DockerLayerGzip, &members),
        (MediaType::LayerZstd, &zstd),
    ];
    for (number, (media_type, pack)) in packs.into_iter().enumerate() {
        let bytes = Archive::default().file("file", &number.to_string()).end();
        let layer = snapshots.unpack(&Digest::of(&bytes), &media_type, &pack(&bytes)[..]).unwrap();
        assert_eq!(fs::read_to_string(layer.join("file")).unwrap(), number.to_string());
    }
    let error = snapshots.unpack(&Digest::of([]), &MediaType::Config, &b""[..]).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

fn what_is_there_is_not_read_again() {
    struct Untouchable;
    impl Read for Untouchable {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("read again")
        }
    }
    let bench = Bench::new();
    let snapshots = snapshots(&bench);
    let bytes = Archive::default().file("file", "x").end();
    let digest = Digest::of(&bytes);
    assert_eq!(snapshots.get(&digest), None);
    let path = snapshots.unpack(&digest, &MediaType::LayerTar, &bytes[..]).unwrap();
    assert_eq!(snapshots.unpack(&digest, &MediaType::LayerTar, Untouchable).unwrap(), path);
    assert_eq!(snapshots.get(&digest), Some(path));
    assert_eq!(list(&bench.folder("snapshots/partial")), [format!("{digest}.boot").replace("sha256:", "")]);
}

fn nothing_wrong_is_kept() {
    let bench = Bench::new();
    let snapshots = snapshots(&bench);
    let bytes = Archive::default().file("file", &"x".repeat(5000)).end();
    let other = Digest::of([]);
    let error = snapshots.unpack(&other, &MediaType::LayerTar, &bytes[..]).unwrap_err();
    assert!(
        matches!(error, Error::WrongLayer { wanted, found } if wanted == other && found == Digest::of(&bytes))
    );
    let digest = Digest::of(&bytes);
    for cut in [100, 512, 3000, bytes.len() - 1024] {
        let error = snapshots.unpack(&digest, &MediaType::LayerTar, &bytes[..cut]).unwrap_err();
        assert!(matches!(error, Error::Layer { .. }), "{error}");
    }
    assert_eq!(snapshots.get(&digest), None);
    snapshots.unpack(&digest, &MediaType::LayerTar, &bytes[..]).unwrap();
    assert_eq!(list(&bench.folder("snapshots")), {
        let mut names = vec![digest.hex(), "partial".to_owned()];
        names.sort();
        names
    });
}

fn marks_hide_what_is_below_in_any_order() {
    let lower = || {
        ["d/one", "d/two", "o/old", "o/deep/old", "r/file", "both/old", "swap/old"]
            .into_iter()
            .fold(Archive::default(), |archive, path| archive.file(path, "old"))
    };
    let marks: [fn(Archive) -> Archive; 6] = [
        |archive| archive.file("d/.wh.one", ""),
        |archive| archive.file(".wh.r", ""),
        |archive| archive.file("o/.wh..wh..opq", ""),
        |archive| archive.file("o/new", "new"),
        // Both removed and there again: only what is new is seen.
        |archive| archive.file(".wh.both", ""),
        |archive| archive.directory("both", 0o755).file("both/new", "new"),
    ];
    for backwards in [false, true] {
        let mut bench = Bench::new();
        let snapshots = snapshots(&bench);
        bench.layers.push(lower().unpack(&snapshots).unwrap());
        let fold = |archive: Archive, mark: &fn(Archive) -> Archive| mark(archive);
        let archive = if backwards {
            marks.iter().rev().fold(Archive::default(), fold)
        } else {
            marks.iter().fold(Archive::default(), fold)
        };
        bench.layers.push(archive.unpack(&snapshots).unwrap());
        let running = bench.sandbox(shell(&hidden("d o r both swap"))).spawn(Streams::captured()).unwrap();
        assert_eq!(running.rootfs(), Some(RootFs::Overlay));
        assert_eq!(text(&running.output().unwrap()), "both both/new d d/two o o/new swap swap/old ");
    }
}

fn a_root_can_be_opaque() {
    let mut bench = Bench::new();
    let snapshots = snapshots(&bench);
    let all = bench.layers[0].clone();
    let below = Archive::default().file("gone", "x").unpack(&snapshots).unwrap();
    let opaque = Archive::default().file(".wh..wh..opq", "").file("kept", "x").unpack(&snapshots).unwrap();
    bench.layers = vec![below, opaque, all];
    assert_eq!(bench.script(&hidden("gone kept")), "kept ");
}

fn a_later_entry_replaces_an_earlier_one() {
    let bench = Bench::new();
    let layer = Archive::default()
        .file("file", "first")
        .file("file", "second")
        .directory("tree", 0o755)
        .file("tree/deep/file", "x")
        .symlink("tree", "elsewhere")
        .symlink("place", "elsewhere")
        .directory("place", 0o700)
        .file("place/inside", "x")
        .directory("mode", 0o700)
        .directory("mode", 0o711)
        .unpack(&snapshots(&bench))
        .unwrap();
    assert_eq!(list(&layer), ["file", "mode", "place", "tree"]);
    assert_eq!(fs::read_to_string(layer.join("file")).unwrap(), "second");
    assert_eq!(fs::read_link(layer.join("tree")).unwrap(), Path::new("elsewhere"));
    assert_eq!(list(&layer.join("place")), ["inside"]);
    assert_eq!(fs::metadata(layer.join("mode")).unwrap().permissions().mode() & 0o777, 0o711);
}

/// A folder outside, and what must not happen to it.
fn victim(bench: &Bench) -> PathBuf {
    let victim = bench.host_folder("victim");
    fs::create_dir(victim.join("folder")).unwrap();
    fs::write(victim.join("file"), "untouched").unwrap();
    fs::set_permissions(victim.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    victim
}

fn assert_untouched(victim: &Path) {
    assert_eq!(list(victim), ["file", "folder"]);
    assert_eq!(list(&victim.join("folder")), Vec::<String>::new());
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "untouched");
    let metadata = fs::metadata(victim.join("file")).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.nlink()), (0o640, 1));
}

fn no_entry_leads_out() {
    let bench = Bench::new();
    let snapshots = snapshots(&bench);
    let victim = victim(&bench);
    let out = victim.to_str().unwrap();
    let up = "../../../../../../../../../../../../../../../tmp";
    let refused: Vec<(&str, Archive)> = vec![
        ("..", Archive::default().file("../escape", "x")),
        ("inner ..", Archive::default().file("a/../../escape", "x")),
        ("file below a link", Archive::default().symlink("a", out).file("a/new", "x")),
        ("directory below a link", Archive::default().symlink("a", out).directory("a/new", 0o755)),
        ("link below a link", Archive::default().symlink("a", up).symlink("a/new", "x")),
        ("whiteout below a link", Archive::default().symlink("a", out).file("a/.wh.file", "")),
        ("opaque below a link", Archive::default().symlink("a", out).file("a/.wh..wh..opq", "")),
        ("hard link through a link", Archive::default().symlink("a", out).hard_link("b", "a/file")),
        (
            "hard link from below a link",
            Archive::default().file("f", "x").symlink("a", out).hard_link("a/b", "f"),
        ),
        ("hard link to ..", Archive::default().hard_link("b", "../victim/file")),
        ("hard link to nothing", Archive::default().hard_link("b", "etc/passwd")),
        ("hard link to a directory", Archive::default().directory("d", 0o755).hard_link("b", "d")),
        ("hard link to a whiteout", Archive::default().file(".wh.w", "").hard_link("b", "w")),
        ("hard link to itself", Archive::default().file("b", "").hard_link("b", "b")),
        ("below a file", Archive::default().file("a", "x").file("a/b", "x")),
        ("two links deep", Archive::default().symlink("a", "b").symlink("b", out).file("a/new", "x")),
    ];
    for (what, archive) in refused {
        let error = archive.unpack(&snapshots).err().unwrap_or_else(|| panic!("{what} was unpacked"));
        assert!(matches!(error, Error::HostileLayer { .. } | Error::Layer { .. }), "{what}: {error}");
        assert_untouched(&victim);
    }
    let file = format!("{out}/file");
    let unpacked: Vec<Archive> = vec![
        // An absolute path is one below the root of the layer.
        Archive::default().file(&file, "x"),
        Archive::default().symlink("a", &file).file("a", "x"),
        Archive::default().symlink("a", &file).entry(EntryType::Regular, "a", "", 0o777, b"x"),
        Archive::default().symlink("a", out).directory("a", 0o777).file("a/file", "x"),
        Archive::default().symlink("a", out).file(".wh.a", ""),
        Archive::default().symlink("a", &file).hard_link("b", "a").file("b", "x"),
    ];
    for archive in unpacked {
        archive.unpack(&snapshots).unwrap();
        assert_untouched(&victim);
    }
    assert_eq!(list(&bench.folder("snapshots/partial")).iter().filter(|name| name.len() < 64).count(), 0);
}

fn devices_are_left_out() {
    let mut bench = Bench::new();
    let layer = Archive::default()
        .entry(EntryType::Char, "dev/null", "", 0o666, b"")
        .entry(EntryType::Block, "dev/sda", "", 0o666, b"")
        .file("dev/file", "x")
        .unpack(&snapshots(&bench))
        .unwrap();
    assert_eq!(list(&layer.join("dev")), ["file"]);
    bench.layers.push(layer);
    assert_eq!(bench.script("echo x > /dev/null; ls /dev/sda 2>/dev/null || echo none"), "none\n");
}

/// Any sequence of entries on few names: it is unpacked or refused, and the world outside stays as it is.
fn no_sequence_of_entries_leads_out() {
    let bench = Bench::new();
    let snapshots = snapshots(&bench);
    let victim = victim(&bench);
    let out = victim.to_str().unwrap().to_owned();
    let path = proptest::collection::vec("[ab]", 1..4).prop_map(|parts| parts.join("/"));
    let target = prop_oneof![
        Just(out.clone()),
        Just(format!("{out}/file")),
        Just("..".to_owned()),
        Just("../../../victim".to_owned()),
        Just("a".to_owned()),
    ];
    let entry = (0..7_usize, path.clone(), path, target);
    let entries = proptest::collection::vec(entry, 1..12);
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&entries, |entries| {
            let archive =
                entries.iter().fold(Archive::default(), |archive, (kind, path, other, target)| match kind {
                    0 => archive.file(path, "x"),
                    1 => archive.directory(path, 0o700),
                    2 | 3 => archive.symlink(path, target),
                    4 => archive.hard_link(path, other),
                    5 => archive.file(&format!("{}/.wh.{}", path, &other[..1]), ""),
                    _ => archive.file(&format!("{path}/{HIDE}"), ""),
                });
            let bytes = archive.end();
            let digest = Digest::of(&bytes);
            match snapshots.unpack(&digest, &MediaType::LayerTar, &bytes[..]) {
                Ok(_) => snapshots.remove(&digest).unwrap(),
                Err(Error::HostileLayer { .. } | Error::Layer { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert_untouched(&victim);
            Ok(())
        })
        .unwrap();
}

fn unpacker() {
    let bytes = fs::read(std::env::var("LAYER").unwrap()).unwrap();
    let snapshots = Snapshots::open(std::env::var("SNAPSHOTS").unwrap()).unwrap();
    snapshots.unpack(&Digest::of(&bytes), &MediaType::LayerTar, &bytes[..]).unwrap();
}

fn many_processes_unpack_one_layer_once() {
    let bench = Bench::new();
    let folder = bench.host_folder("snapshots");
    let archive =
        (0..200).fold(Archive::default(), |archive, n| archive.file(&format!("d{}/f{n}", n % 7), "content"));
    let bytes = archive.end();
    let file = bench.folder("layer.tar");
    fs::write(&file, &bytes).unwrap();
    let start = || {
        part("unpacker")
            .env("LAYER", &file)
            .env("SNAPSHOTS", &folder)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    };
    // Some are killed on the way.
    let mut doomed: Vec<_> = (0..4).map(|_| start()).collect();
    let children: Vec<_> = (0..8).map(|_| start()).collect();
    for child in &mut doomed {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let snapshots = Snapshots::open(&folder).unwrap();
    let layer = snapshots.get(&Digest::of(&bytes)).unwrap();
    assert_eq!((0..7).map(|n| list(&layer.join(format!("d{n}"))).len()).sum::<usize>(), 200);
    assert_eq!(list(&folder).len(), 2);
    assert_eq!(list(&folder.join("partial")).iter().filter(|name| name.len() < 64).count(), 0);
}

fn a_removed_layer_is_gone() {
    let bench = Bench::new();
    let snapshots = snapshots(&bench);
    let bytes = Archive::default().directory("closed", 0).end();
    let digest = Digest::of(&bytes);
    let path = snapshots.unpack(&digest, &MediaType::LayerTar, &bytes[..]).unwrap();
    snapshots.remove(&digest).unwrap();
    snapshots.remove(&digest).unwrap();
    assert!(!path.exists() && snapshots.get(&digest).is_none());
}
