//! The files: layers, mounts, `/dev`, `/proc`, `/sys`, the network's files.

use std::{
    fs,
    io::{BufReader, Read as _, Seek as _},
    os::unix::fs::symlink,
};

use longshore_layer::{
    Entry, Kind,
    read::{Change, Compression, LayerReader},
};
use longshore_sandbox::{Access, Error, Exit, RootFs, Stage, Streams};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::{Bench, hidden, list, shell, text};

crate::tests!(
    layers_stay_as_they_are,
    what_was_changed_is_a_layer,
    without_an_end_no_changes,
    whiteouts_and_opaque_directories_hide_what_is_below,
    many_layers_fit,
    mounts_are_read_only_or_writable,
    a_mount_deeper_than_another_is_seen,
    a_missing_source_is_an_error,
    links_of_the_image_lead_nowhere_else,
    devices_work_and_cannot_be_changed,
    the_kernel_cannot_be_changed,
    the_network_is_the_hosts,
);

fn layers_stay_as_they_are() {
    let bench = Bench::new();
    let layer = bench.layers[0].clone();
    fs::write(layer.join("etc/kept"), "before").unwrap();
    let script = "echo after > /etc/kept; rm /etc/passwd; mkdir /new; rm -r /home; cat /etc/kept";
    let running = bench.sandbox(shell(script)).spawn(Streams::captured()).unwrap();
    assert_eq!(running.rootfs(), Some(RootFs::Overlay));
    assert_eq!(text(&running.output().unwrap()), "after\n");
    assert_eq!(fs::read_to_string(layer.join("etc/kept")).unwrap(), "before");
    assert_eq!(list(&layer), ["bin", "etc", "home", "root", "tmp"]);
    assert!(layer.join("etc/passwd").exists());
    bench.assert_clean();
}

fn what_was_changed_is_a_layer() {
    let bench = Bench::new();
    fs::create_dir(bench.layers[0].join("old")).unwrap();
    let script = "echo after > /etc/kept; chmod 4751 /etc/kept; rm /etc/passwd; mkdir /new; ln /etc/kept /new/again; \
                  rm -r /old; mkdir /old; touch /old/x; ln -s ../nowhere /new/link; mkdir -p /tmp/.wi/a /tmp/b; touch /tmp/.z";
    let mut recorded = tempfile::tempfile().unwrap();
    let running = bench
        .sandbox(shell(script))
        .spawn_recorded(Streams::captured(), recorded.try_clone().unwrap().into());
    let output = running.unwrap().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    recorded.rewind().unwrap();
    let mut reader = LayerReader::new(BufReader::new(recorded), Compression::Gzip).unwrap();
    let mut seen = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        seen.push(match entry.into_change() {
            Change::Put(Entry { path, kind, mode, uid: 0, gid: 0, .. }) => match kind {
                Kind::Directory => format!("{path}/"),
                Kind::File => format!("{path} {mode:o} {}", content.trim()),
                Kind::HardLink { target } => format!("{path} = {target}"),
                other => format!("{path} {other:?}"),
            },
            Change::Put(other) => panic!("of another owner: {other:?}"),
            Change::Whiteout(path) => format!("-{path}"),
            Change::Opaque(path) => format!("-{}/*", path.unwrap()),
        });
    }
    reader.finish().unwrap();
    seen.retain(|line| !line.starts_with("dev") && !line.starts_with("proc") && !line.starts_with("sys"));
    seen.retain(|line| {
        !["etc/hosts", "etc/hostname", "etc/resolv.conf"].iter().any(|it| line.starts_with(it))
    });
    let expected = [
        "etc/",
        "-etc/passwd",
        "etc/kept 4751 after",
        "new/",
        "new/again = etc/kept",
        "new/link Symlink { target: \"../nowhere\" }",
        "old/",
        "-old/*",
        "old/x 644 ",
        "tmp/",
        "tmp/.wi/",
        "tmp/.wi/a/",
        "tmp/.z 644 ",
        "tmp/b/",
    ];
    assert_eq!(seen, expected);
    bench.assert_clean();
}

/// A name that no layer can have: the recording fails, and says so.
fn without_an_end_no_changes() {
    let bench = Bench::new();
    let recorded = tempfile::tempfile().unwrap();
    let sandbox = bench.sandbox(shell("touch $(printf '/tmp/a\\377')"));
    let error = sandbox.spawn_recorded(Streams::captured(), recorded.into()).unwrap().output().unwrap_err();
    assert!(matches!(&error, Error::Setup(failure) if failure.stage == Stage::Changes), "{error}");
    bench.assert_clean();
}

/// Two layers over the first: one with files, one that hides some of them.
pub(crate) fn hiding_layers(bench: &mut Bench) {
    let lower = bench.layer();
    for path in ["d/one", "d/two", "o/old", "o/deep/old", "r/file"] {
        fs::create_dir_all(lower.join(path).parent().unwrap()).unwrap();
        fs::write(lower.join(path), path).unwrap();
    }
    let upper = bench.layer();
    for path in ["d", "o"] {
        fs::create_dir(upper.join(path)).unwrap();
    }
    for path in ["d/one", "r"] {
        mknodat(CWD, upper.join(path), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }
    setxattr(upper.join("o"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    fs::write(upper.join("o/new"), "new").unwrap();
}

pub(crate) const LEFT: &str = "d d/two o o/new ";

fn whiteouts_and_opaque_directories_hide_what_is_below() {
    let mut bench = Bench::new();
    hiding_layers(&mut bench);
    assert_eq!(bench.script(&hidden("d o r")), LEFT);
}

fn many_layers_fit() {
    let mut bench = Bench::new();
    for number in 0..127 {
        fs::write(bench.layer().join("top"), number.to_string()).unwrap();
    }
    let running = bench.sandbox(shell("cat /top")).spawn(Streams::captured()).unwrap();
    assert_eq!(running.rootfs(), Some(RootFs::Overlay));
    assert_eq!(text(&running.output().unwrap()), "126");
}

fn mounts_are_read_only_or_writable() {
    let bench = Bench::new();
    let (input, output) = (bench.host_folder("in"), bench.host_folder("out"));
    fs::write(input.join("data"), "data").unwrap();
    let script = "cat /in/data /single; echo result > /out/result; \
                  ! touch /in/new; ! echo x > /in/data; ! echo x > /single; ! mv /in/data /in/other";
    let container = shell(script)
        .mount(&input, "/in", Access::ReadOnly)
        .mount(&output, "/out", Access::ReadWrite)
        .mount(input.join("data"), "/single", Access::ReadOnly);
    assert_eq!(text(&bench.run(container.clone())), "datadata");
    assert_eq!(fs::read_to_string(output.join("result")).unwrap(), "result\n");
    assert_eq!((list(&input), list(&output)), (vec!["data".into()], vec!["result".into()]));
    // Another user of the image can write where the caller can.
    if !crate::is_root() {
        let mut container = container;
        container.process.user = "app".into();
        text(&bench.run(container));
    }
}

fn a_mount_deeper_than_another_is_seen() {
    let bench = Bench::new();
    let (outer, inner) = (bench.host_folder("outer"), bench.host_folder("inner"));
    fs::create_dir(outer.join("sub")).unwrap();
    fs::write(inner.join("file"), "inner").unwrap();
    let container = shell("cat /m/sub/file").mount(&inner, "/m/sub", Access::ReadOnly).mount(
        &outer,
        "/m",
        Access::ReadOnly,
    );
    assert_eq!(text(&bench.run(container)), "inner");
}

fn a_missing_source_is_an_error() {
    let bench = Bench::new();
    let container = shell("true").mount("/no/such/folder", "/in", Access::ReadOnly);
    let error = bench.sandbox(container).spawn(Streams::captured()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("/no/such/folder"), "{error}");
}

fn links_of_the_image_lead_nowhere_else() {
    let mut bench = Bench::new();
    let victim = bench.host_folder("victim");
    fs::write(victim.join("file"), "untouched").unwrap();
    let layer = bench.layer();
    fs::create_dir(layer.join("etc")).unwrap();
    symlink(victim.join("resolv.conf"), layer.join("etc/resolv.conf")).unwrap();
    symlink(victim.join("hosts"), layer.join("etc/hosts")).unwrap();
    symlink("../../../../../../../../../../../../../../../etc/hostname", layer.join("etc/hostname")).unwrap();
    symlink(&victim, layer.join("escape")).unwrap();
    symlink("/home", layer.join("proc")).unwrap();
    let source = bench.host_folder("source");
    let mut container = shell("test -d /home/self; cat /etc/hosts >/dev/null; pwd").mount(
        &source,
        "/escape/deep",
        Access::ReadWrite,
    );
    container.process.cwd = "/escape/cwd".into();
    // The links lead to places inside, and `/etc/hostname` to itself, which is no place at all.
    let error = bench.sandbox(container.clone()).spawn(Streams::captured()).unwrap_err();
    assert!(error.to_string().contains("/etc/hostname"), "{error}");
    fs::remove_file(layer.join("etc/hostname")).unwrap();
    let cwd = text(&bench.run(container));
    assert!(cwd.ends_with("/victim/cwd\n") || cwd == "/escape/cwd\n", "{cwd}");
    assert_eq!(list(&victim), ["file"]);
    bench.assert_clean();
}

fn devices_work_and_cannot_be_changed() {
    let bench = Bench::new();
    assert_eq!(
        bench.script("ls /dev | tr '\\n' ' '"),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    let script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; \
                  echo y > /dev/shm/file; cat /dev/shm/file; echo out > /dev/stdout; test -c /dev/pts/ptmx; \
                  ! chmod 0 /dev/null; ! rm /dev/zero; echo x > /dev/full || echo full";
    assert_eq!(bench.script(script), "4\n4\ny\nout\nfull\n");
}

fn the_kernel_cannot_be_changed() {
    let bench = Bench::new();
    for forbidden in [
        "echo 1 > /proc/sys/kernel/printk",
        "echo h > /proc/sysrq-trigger",
        "touch /sys/x",
        "echo 1 > /sys/kernel/profiling",
    ] {
        assert!(!bench.run(shell(&format!("{forbidden} || exit 9"))).exit.success(), "{forbidden}");
    }
    assert_eq!(
        bench.run(shell("test -s /proc/kcore || exit 9; head -c 1 /proc/kcore | grep -q . || exit 9")).exit,
        Exit::Code(9)
    );
    bench.script("test -d /sys/class; test -e /proc/sys/kernel/hostname; cat /proc/meminfo > /dev/null");
}

fn the_network_is_the_hosts() {
    let bench = Bench::new();
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(bench.script("cat /etc/resolv.conf"), host);
    let hosts = bench.script("cat /etc/hosts");
    assert!(hosts.starts_with(&fs::read_to_string("/etc/hosts").unwrap()));
    assert!(hosts.contains("127.0.0.1\tlongshore\n"));
    assert!(!bench.run(shell("echo x >> /etc/hosts")).exit.success());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::Write as _;
        listener.accept().unwrap().0.write_all(b"hello").unwrap();
    });
    assert_eq!(bench.script(&format!("nc 127.0.0.1 {port} < /dev/null")), "hello");
    server.join().unwrap();
}
