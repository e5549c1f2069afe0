//! Containers that really run, as root and as an ordinary user.
//!
//! Run as root, every test runs twice: in this process, and in one of user 12345, who exists nowhere
//! (by `setpriv` of util-linux). Run as an ordinary user, every test runs once. The root file system of
//! the tests is the static busybox of the machine (`apt-get install busybox-static`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "all of this is tests, though not by attribute")]

use std::{
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Failed, Trial};
use longshore_sandbox::{Container, Output, Process, Sandbox, Streams};

mod files;
mod layers;
mod lifetime;
mod nested;
mod process;

/// A test: its name and what it does.
type Test = (&'static str, fn());

/// Names one or more functions as tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[$crate::Test] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}

/// What the tests' scripts use of busybox.
const APPLETS: &str = "cat chmod chown chroot cut echo env find grep head hostname id ln ls mkdir mknod mount mv nc nohup \
                       printf pwd readlink rm seq setsid sh sleep sort stat test touch tr true umount wc";

/// Says that this process is to run one test, or play one part of a test, and not the whole suite.
const ROLE: &str = "LONGSHORE_SANDBOX_TEST_ROLE";

fn main() -> ExitCode {
    longshore_sandbox::enter_if_asked();
    let tests = [process::TESTS, files::TESTS, layers::TESTS, lifetime::TESTS, nested::TESTS].concat();
    if let Ok(role) = std::env::var(ROLE) {
        let parts = [layers::PARTS, lifetime::PARTS, nested::PARTS].concat();
        let found = tests.iter().chain(&parts).find(|(name, _)| *name == role);
        found.expect("a test or a part of one").1();
        return ExitCode::SUCCESS;
    }
    // Made before any thread runs: a program that one starts meanwhile would keep the copy busy.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("test");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    std::fs::copy("/proc/self/exe", &copy).expect("a copy of this program");
    let mut trials = Vec::new();
    for (name, run) in tests {
        let short = name.trim_start_matches("sandbox::");
        if is_root() {
            trials.push(Trial::test(format!("root::{short}"), move || outcome(run)));
            let copy = copy.clone();
            trials.push(Trial::test(format!("user::{short}"), move || as_user(&copy, name)));
        } else {
            trials.push(Trial::test(format!("user::{short}"), move || outcome(run)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn outcome(run: fn()) -> Result<(), Failed> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
            .into()
    })
}

/// Runs one test as an ordinary user, by a copy of this program that the user can reach.
fn as_user(program: &Path, name: &str) -> Result<(), Failed> {
    let output = Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups"])
        .arg(program)
        .env(ROLE, name)
        .env_remove("TMPDIR")
        .current_dir("/")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// This program, playing one part of a test.
pub(crate) fn part(name: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(ROLE, name);
    command
}

/// A layer with busybox and what images usually have, and folders for more layers and for scratch.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    pub(crate) layers: Vec<PathBuf>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Self { folder, layers: Vec::new() };
        let layer = bench.layer();
        for directory in ["bin", "etc", "tmp", "root", "home/app"] {
            std::fs::create_dir_all(layer.join(directory)).unwrap();
        }
        std::fs::set_permissions(layer.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        let busybox = layer.join("bin/busybox");
        // Not copied here: a program that another thread starts meanwhile would keep the copy busy.
        let copied = Command::new("cp").arg("/bin/busybox").arg(&busybox).status().unwrap();
        assert!(copied.success(), "busybox is missing: `apt-get install busybox-static`");
        for applet in APPLETS.split_whitespace() {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
        std::fs::write(layer.join("etc/passwd"), passwd).unwrap();
        std::fs::write(layer.join("etc/group"), "root:x:0:\napp:x:1001:\nextra:x:77:app\n").unwrap();
        bench
    }

    /// Adds an empty layer on top.
    pub(crate) fn layer(&mut self) -> PathBuf {
        let layer = self.folder.path().join(format!("layer-{}", self.layers.len()));
        std::fs::create_dir(&layer).unwrap();
        self.layers.push(layer.clone());
        layer
    }

    /// A new folder of the host.
    pub(crate) fn host_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    /// A path below the bench's folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    pub(crate) fn sandbox(&self, container: Container) -> Sandbox {
        Sandbox { layers: self.layers.clone(), scratch: self.scratch(), container }
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, container: Container) -> Output {
        self.sandbox(container).spawn(Streams::captured()).unwrap().output().unwrap()
    }

    /// What a shell script prints; it must succeed.
    pub(crate) fn script(&self, script: &str) -> String {
        text(&self.run(shell(script)))
    }

    /// Asserts that no sandbox left anything behind.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = list(&self.scratch());
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.scratch().exists() {
            self.assert_clean();
        }
    }
}

pub(crate) fn list(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The name that makes a directory of a layer opaque.
pub(crate) const HIDE: &str = ".wh..wh..opq";

/// A script that prints what there is of some paths below `/`.
pub(crate) fn hidden(paths: &str) -> String {
    format!("cd /; find {paths} 2>/dev/null | sort | tr '\\n' ' '")
}

/// A container that runs a shell script.
pub(crate) fn shell(script: &str) -> Container {
    Container::new(Process::new(["sh", "-euc", script]))
}

/// What a command printed; it must have succeeded.
pub(crate) fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.exit.success(), "{}: {error}", output.exit);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Waits until something holds, and fails after a minute.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited in vain: {what}");
}
