//! Packages onto images that somebody else made: what is chosen, how it is installed, and what is refused.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use std::{collections::BTreeMap, io::Read, time::Duration};

use jiff::Timestamp;
use longshore_debian::{
    Error,
    addition::{self, Addition, System, Tool, Way},
};
use longshore_layer::{
    Entry, EntryPath, Kind, LayerWriter,
    read::{Change, Compression, LayerReader},
};
use longshore_oci::Arch;
use pgp::crypto::hash::HashAlgorithm;
use support::{Item, Key, TestArchive, deb};

const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2\nArchitecture: amd64\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n";

/// An Ubuntu archive, and an image of that release.
struct Bench {
    archive: TestArchive,
    key: Key,
    files: BTreeMap<String, Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let (archive, key) = (TestArchive::new(), Key::new());
        let sources = format!(
            "Types: deb\nURIs: file://{}\nSuites: test\nComponents: main\nSigned-By: /usr/share/keyrings/own.gpg\n",
            archive.path().display()
        );
        let files = [
            (
                "etc/os-release",
                "ID=ubuntu\nPRETTY_NAME=\"Ubuntu 24.04\"\nVERSION_ID=24.04\nVERSION_CODENAME=test\n",
            ),
            ("etc/apt/sources.list.d/ubuntu.sources", &sources),
            (
                "etc/dpkg/dpkg.cfg.d/excludes",
                "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n",
            ),
            ("var/lib/dpkg/status", STATUS),
            ("usr/bin/dpkg", ""),
            ("usr/bin/sh", ""),
            ("bin", "-> usr/bin"),
            ("lib", "-> usr/lib"),
            ("sbin", "-> usr/sbin"),
        ];
        let mut files: BTreeMap<String, Vec<u8>> =
            files.into_iter().map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).collect();
        files.insert("usr/share/keyrings/own.gpg".to_owned(), key.binary());
        Self { archive, key, files }
    }

    fn set(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), text.as_bytes().to_vec());
    }

    fn package(&mut self, control: &str, more: &[(&str, &str)], items: &[Item<'_>]) {
        let whole = format!("{control}Architecture: amd64\n");
        self.archive.raw(&whole, deb(&whole, more, items));
    }

    fn system(&self) -> System {
        let mut files: Vec<_> =
            self.files.iter().map(|(path, content)| (EntryPath::new(path).unwrap(), content)).collect();
        files.sort();
        let mut writer = LayerWriter::new(Vec::new());
        for (path, content) in files {
            match std::str::from_utf8(content).ok().and_then(|text| text.strip_prefix("-> ")) {
                Some(target) => writer.add(&Entry::symlink(path, target)).unwrap(),
                None => writer.file(&Entry::file(path, 0o644), content).unwrap(),
            }
        }
        let mut system = System::default();
        system.add_layer(&writer.finish().unwrap().0[..], Compression::Gzip).unwrap();
        system
    }

    async fn plan(&self, packages: &[&str]) -> Result<Addition, Error> {
        let text = self.archive.release("").replace("Origin: Debian", "Origin: Ubuntu");
        self.archive.in_release(&self.key.clearsign(&text, HashAlgorithm::Sha512));
        self.look(packages).await
    }

    async fn look(&self, packages: &[&str]) -> Result<Addition, Error> {
        let packages: Vec<String> = packages.iter().map(|&name| name.to_owned()).collect();
        let request = addition::Request {
            system: &self.system(),
            arch: Arch::Amd64,
            packages: &packages,
            machine: None,
            now: Timestamp::now().max("2026-07-12T00:00:00Z".parse().unwrap()),
            freshness: Duration::ZERO,
        };
        let TestArchive { fetcher, blobs, table, .. } = &self.archive;
        let plan = addition::plan(&request, fetcher, blobs, table, &|_| ()).await?;
        addition::fetch(&plan, fetcher, blobs, &|_| ()).await?;
        Ok(plan)
    }

    fn way(&self, plan: &Addition) -> Result<Way, Error> {
        addition::choose_way(&self.system(), plan, &self.archive.blobs, &|_| ())
    }

    /// The files of the native layer, by path.
    fn native(&self, plan: &Addition) -> BTreeMap<String, String> {
        let write = || {
            let writer = LayerWriter::new(Vec::new());
            addition::write_native(&self.system(), plan, &self.archive.blobs, writer, &|_| ()).unwrap().0
        };
        let layer = write();
        assert_eq!(layer, write(), "the same twice");
        let mut reader = LayerReader::new(&layer[..], Compression::Gzip).unwrap();
        let mut files = BTreeMap::new();
        while let Some(mut entry) = reader.next_entry().unwrap() {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            if let Change::Put(entry) = entry.into_change()
                && entry.kind != Kind::Directory
            {
                files.insert(entry.path.to_string(), text);
            }
        }
        files
    }
}

fn names(plan: &Addition) -> Vec<String> {
    plan.packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}

const TOOL: &str = "Package: tool\nVersion: 1\nDepends: libc6 (>= 1), libtool\n";

fn with_tool() -> Bench {
    let mut bench = Bench::new();
    let script = "#!/bin/sh\nset -e\n#DEBHELPER#\nexit 0\n";
    let files = [
        Item::Directory("./"),
        Item::Directory("./bin/"),
        Item::File("./bin/tool", b"tool"),
        Item::Directory("./usr/"),
        Item::Directory("./usr/share/"),
        Item::Directory("./usr/share/doc/"),
        Item::Directory("./usr/share/doc/tool/"),
        Item::File("./usr/share/doc/tool/README", b"read me"),
        Item::File("./usr/share/doc/tool/copyright", b"free"),
    ];
    bench.package(TOOL, &[("postinst", script), ("md5sums", "x")], &files);
    let library = [Item::File("./usr/lib/libtool.so", b"library")];
    bench.package("Package: libtool\nVersion: 1\n", &[("triggers", "activate-noawait ldconfig\n")], &library);
    bench.package("Package: libc6\nVersion: 3\n", &[], &[]);
    bench
}

#[tokio::test]
async fn what_is_missing_is_added_natively() {
    let bench = with_tool();
    let plan = bench.plan(&["tool"]).await.unwrap();
    assert_eq!(names(&plan), ["libtool 1", "tool 1"]);
    assert_eq!(plan.distribution.to_string(), "Ubuntu 24.04 (test)");
    assert!(plan.suites[0].signed_by.is_some() && plan.upgraded.is_empty());
    assert_eq!(bench.way(&plan).unwrap(), Way::Native);
    let files = bench.native(&plan);
    let paths: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "usr/bin/tool",
        "usr/lib/libtool.so",
        "usr/share/doc/tool/copyright",
        "var/lib/dpkg/info/libtool.list",
        "var/lib/dpkg/info/libtool.triggers",
        "var/lib/dpkg/info/tool.list",
        "var/lib/dpkg/info/tool.md5sums",
        "var/lib/dpkg/info/tool.postinst",
        "var/lib/dpkg/status",
    ];
    assert_eq!(paths, expected);
    let status = &files["var/lib/dpkg/status"];
    assert!(status.starts_with(STATUS.trim_end()), "{status}");
    assert!(status.contains("\n\nPackage: tool\nStatus: install ok installed\nVersion: 1\n"), "{status}");
    assert!(
        files["var/lib/dpkg/info/tool.list"].contains("/usr/share/doc/tool/README\n"),
        "as dpkg lists them"
    );
    assert!(bench.plan(&["libc6", "libc6 (>= 2)"]).await.unwrap().packages.is_empty(), "it is there");
}

#[tokio::test]
async fn what_only_dpkg_can_do_is_for_dpkg() {
    let script = ("postinst", "#!/bin/sh\nset -e\nadduser --system tool\n");
    /// More of the stanza, the control files, the data, and the reason that is told.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [Item<'a>], &'a str);
    let cases: [Case<'_>; 6] = [
        ("", &[script], &[], "its postinst has work to do: `adduser --system tool`"),
        ("", &[("triggers", "interest x\n")], &[], "it wants to be told of changes to x"),
        ("", &[("triggers", "activate update-x\n")], &[], "it triggers update-x"),
        (
            "",
            &[],
            &[Item::File("./usr/share/icons/a/b", b"")],
            "icons wants to be told of /usr/share/icons/a/b",
        ),
        ("", &[], &[Item::File("./usr/bin/sh", b"")], "the parent has something at `/usr/bin/sh`"),
        ("Replaces: libc6\n", &[], &[], "it replaces files of libc6"),
    ];
    for (more, control, files, why) in cases {
        let mut bench = Bench::new();
        bench.set("var/lib/dpkg/triggers/File", "/usr/share/icons icons/noawait\n");
        bench.set("var/lib/dpkg/triggers/update-x", "x\n");
        bench.package(&format!("Package: odd\nVersion: 1\n{more}"), control, files);
        let plan = bench.plan(&["odd"]).await.unwrap();
        let Way::Sandbox { tool, reasons } = bench.way(&plan).unwrap() else { panic!("{why}") };
        assert_eq!((tool, reasons[0].to_string()), (Tool::Dpkg, format!("odd: {why}")));
        bench.set("usr/bin/apt-get", "");
        assert!(matches!(bench.way(&plan).unwrap(), Way::Sandbox { tool: Tool::AptGet, .. }));
    }
}

#[tokio::test]
async fn an_upgrade_and_what_was_removed_are_for_dpkg() {
    let mut bench = Bench::new();
    bench.package("Package: libc6\nVersion: 3\n", &[], &[]);
    bench.package("Package: dev\nVersion: 3\nDepends: libc6 (= 3)\n", &[], &[]);
    bench.package("Package: gone\nVersion: 1\n", &[], &[]);
    let plan = bench.plan(&["dev"]).await.unwrap();
    assert_eq!(
        (names(&plan), plan.upgraded.clone()),
        (vec!["dev 3".into(), "libc6 3".into()], vec!["libc6".into()])
    );
    let Way::Sandbox { reasons, .. } = bench.way(&plan).unwrap() else { panic!() };
    assert_eq!(reasons[0].to_string(), "libc6: the parent has an older version");
    let plan = bench.plan(&["gone"]).await.unwrap();
    assert!(matches!(bench.way(&plan).unwrap(), Way::Sandbox { .. }));
}

#[tokio::test]
async fn an_image_without_dpkg_takes_what_needs_no_script() {
    let mut bench = with_tool();
    bench.package("Package: odd\nVersion: 1\n", &[("postinst", "#!/bin/sh\nadduser x\n")], &[]);
    for path in ["var/lib/dpkg/status", "usr/bin/dpkg"] {
        bench.files.remove(path);
    }
    bench.set("var/lib/dpkg/status.d/libc6", "Package: libc6\nVersion: 2\nArchitecture: amd64\n");
    let plan = bench.plan(&["tool"]).await.unwrap();
    assert_eq!(bench.way(&plan).unwrap(), Way::Native);
    let files = bench.native(&plan);
    assert!(files["var/lib/dpkg/status.d/tool"].starts_with("Package: tool\nVersion: 1\n"));
    assert!(
        files.contains_key("var/lib/dpkg/status.d/tool.md5sums")
            && !files.contains_key("var/lib/dpkg/status")
    );
    let plan = bench.plan(&["odd"]).await.unwrap();
    let error = bench.way(&plan).unwrap_err().to_string();
    assert!(error.contains("has no dpkg") && error.contains("odd: its postinst has work to do"), "{error}");
}

#[tokio::test]
async fn only_the_image_s_keys_count() {
    let mut bench = with_tool();
    let other = Key::new();
    bench.files.insert("usr/share/keyrings/own.gpg".to_owned(), other.binary());
    assert!(matches!(bench.plan(&["tool"]).await, Err(Error::Signature { .. })));
    let unsigned = bench.files["etc/apt/sources.list.d/ubuntu.sources"].clone();
    let unsigned = String::from_utf8(unsigned).unwrap() + "Trusted: yes\n";
    bench.set("etc/apt/sources.list.d/ubuntu.sources", &unsigned);
    let error = bench.plan(&["tool"]).await.unwrap_err();
    assert!(error.to_string().contains("no signed archive"), "{error}");
}

#[tokio::test]
async fn a_suite_that_is_gone_is_a_sentence() {
    let bench = with_tool();
    let error = bench.look(&["tool"]).await.unwrap_err().to_string();
    assert!(error.contains("no longer has this suite of Ubuntu 24.04"), "{error}");
    let plan = bench.plan(&["toll"]).await.unwrap_err().to_string();
    assert!(plan.contains("needs `toll`, which no configured suite has"), "{plan}");
}
