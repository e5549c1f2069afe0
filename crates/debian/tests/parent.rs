//! The real parent, made of the archives that this machine's apt uses, and run.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::Path,
    process::{Command, Output},
};

use longshore_debian::{Group, PYTHON_ROOTS, Parent, ParentPlan, ParentRequest, Sources};
use longshore_fetch::{FetchConfig, Fetcher};
use longshore_layer::Format;
use longshore_oci::Arch;
use longshore_store::{BlobStore, Table};

struct Made {
    plan: ParentPlan,
    parent: Parent,
    root: tempfile::TempDir,
}

async fn make(arch: Arch) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(folder.path().join("blobs")).unwrap();
    let table = Table::open(folder.path().join("table")).unwrap();
    let fetcher = Fetcher::new(FetchConfig::default());
    let request = ParentRequest::python(arch, Sources::from_system().unwrap());
    let plan = longshore_debian::plan(&request, &fetcher, &blobs, &table, &|_| ()).await.unwrap();
    longshore_debian::fetch(&plan, &fetcher, &blobs, &|_| ()).await.unwrap();
    let parent = longshore_debian::assemble(&plan, Format::Plain, &blobs, &blobs, &|_| ()).unwrap();
    let again = longshore_debian::assemble(&plan, Format::Plain, &blobs, &blobs, &|_| ()).unwrap();
    assert_eq!(again, parent, "the same plan gives the same bytes");
    let root = tempfile::tempdir().unwrap();
    support::unpack(&parent, &blobs, root.path());
    Made { plan, parent, root }
}

/// Runs a shell command in the image, as root of a user namespace, with the host's devices.
fn run(root: &Path, command: &str) -> Output {
    let script = "mount --rbind /dev \"$0/dev\" && exec chroot \"$0\" /bin/bash -c \"$1\"";
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(root)
        .arg(command)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .output()
        .unwrap()
}

fn output(root: &Path, command: &str) -> String {
    let output = run(root, command);
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{command}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What apt would install for the same request on an empty machine: `name version` of each package.
fn apt_would_install(state: &Path, roots: &[&str]) -> BTreeSet<String> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(folder)).unwrap();
    }
    fs::write(state.join("status"), "").unwrap();
    let options = [
        format!("Dir::State={}", state.display()),
        format!("Dir::State::status={}", state.join("status").display()),
        format!("Dir::Cache={}", state.join("cache").display()),
        "APT::Sandbox::User=".to_owned(),
        "APT::Install-Recommends=false".to_owned(),
        "Debug::NoLocking=true".to_owned(),
        "APT::Update::Post-Invoke-Success=".to_owned(),
    ];
    let apt = |arguments: &[&str]| {
        let output = Command::new("apt-get")
            .args(options.iter().flat_map(|it| ["-o", it]))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    apt(&["update"]);
    let simulated = apt(&[&["--simulate", "install"], roots].concat());
    let installed = simulated.lines().filter_map(|line| line.strip_prefix("Inst "));
    installed
        .map(|line| {
            let (name, rest) = line.split_once(" (").unwrap();
            format!("{name} {}", rest.split(' ').next().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_parent_for_this_machine_runs() {
    let arch = Arch::host().unwrap();
    let made = make(arch).await;
    let root = made.root.path();
    let python = made.plan.python.clone().unwrap();
    assert!(made.plan.suites.iter().all(|suite| suite.signed_by.is_some()));
    assert_eq!(made.parent.scripts_not_run, Vec::<String>::new());
    assert!(made.parent.layers.iter().any(|layer| layer.group == Group::Python));
    assert!(made.parent.python_sources.len() > 400);

    let ours: BTreeSet<String> =
        made.plan.packages.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    let state = tempfile::tempdir().unwrap();
    assert_eq!(
        ours,
        apt_would_install(state.path(), &PYTHON_ROOTS),
        "apt chooses the same packages and versions"
    );

    let version = output(
        root,
        &format!("{} -c 'import platform; print(platform.python_version())'", python.interpreter),
    );
    assert_eq!(version, python.version);
    let imports = "import ssl, sqlite3, lzma, bz2, zlib, ctypes, ctypes.util, zoneinfo, readline, curses, uuid, hashlib, decimal
print(len(ssl.create_default_context().get_ca_certs()) > 100)
print(zoneinfo.ZoneInfo('Europe/Berlin').key, ctypes.util.find_library('stdc++'), ctypes.CDLL('libstdc++.so.6') is not None)
print(sqlite3.connect(':memory:').execute('select 1').fetchone())";
    let imported = output(root, &format!("python3 -c \"{imports}\""));
    assert_eq!(imported, "True\nEurope/Berlin libstdc++.so.6 True\n(1,)");
    let hashed = "import ssl; c = ssl.create_default_context(); c.load_verify_locations(capath='/etc/ssl/certs'); print(c.cert_store_stats()['x509_ca'])";
    assert!(output(root, &format!("python3 -c \"{hashed}\"")).parse::<u32>().unwrap() > 100);

    assert_eq!(output(root, "dpkg --audit"), "");
    let listed =
        output(root, "dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\\n'");
    let installed: BTreeSet<String> =
        listed.lines().map(|line| line.trim_end().trim_end_matches(" ii").to_owned()).collect();
    assert_eq!(installed, ours);
    let left_out = "share/doc|share/man|share/locale|share/info|share/lintian|share/bug|share/menu";
    assert_eq!(
        output(root, &format!("dpkg --verify | grep -vE '{left_out}' || true")),
        "",
        "every file is as packaged"
    );
    assert_eq!(output(root, "dpkg -S /bin/bash"), "bash: /bin/bash");

    assert_eq!(output(root, "echo abc | sed s/b/x/ | grep axc | awk '{print $1}'"), "axc");
    assert_eq!(
        output(
            root,
            "id -un; which ls; readlink -f /bin/sh; stat -c %a /tmp; date -d @0 +%Z; cat /etc/timezone"
        ),
        "root\n/usr/bin/ls\n/usr/bin/dash\n1777\nUTC\nEtc/UTC"
    );
    assert!(
        output(root, ". /etc/os-release; echo $VERSION_CODENAME")
            .starts_with(&made.plan.distribution.codename)
    );

    // The loader's cache is the one that ldconfig makes; a newer one adds a line that says who made it.
    let libraries = |text: String| {
        text.lines().filter(|line| line.contains("=>")).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let cache = libraries(output(root, "ldconfig -p"));
    assert_eq!(cache, libraries(output(root, "ldconfig && ldconfig -p")));
    assert!(cache.len() > 40);
}

#[tokio::test]
async fn a_parent_for_another_architecture_is_made_here() {
    let (arch, machine) = match Arch::host().unwrap() {
        Arch::Amd64 => (Arch::Arm64, 183_u16),
        Arch::Arm64 => (Arch::Amd64, 62),
    };
    let made = make(arch).await;
    let mut seen = 0;
    let mut folders = vec![made.root.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let mut head = [0; 20];
                let read = fs::File::open(entry.path()).unwrap().read(&mut head).unwrap();
                if read == 20 && head.starts_with(b"\x7fELF") {
                    assert_eq!(
                        u16::from_le_bytes([head[18], head[19]]),
                        machine,
                        "{}",
                        entry.path().display()
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 100, "{seen} ELF files");
    assert_eq!(made.parent.config.platform.architecture, arch.as_str());
    let python = made.plan.python.unwrap().interpreter;
    assert!(made.root.path().join(python.trim_start_matches('/')).is_file());
}
