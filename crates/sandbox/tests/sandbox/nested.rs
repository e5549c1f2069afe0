//! A sandbox in a sandbox: no overlay (its scratch lies on one) and no `/proc` of its own where the
//! outer one hides parts of it, as in other people's containers.

use std::path::PathBuf;

use longshore_sandbox::{
    Access, Capabilities, Container, Error, Exit, Obstacle, Privilege, Process, RootFs, Sandbox, Streams,
};

use crate::{Bench, ROLE, files, hidden, shell, text};

crate::tests!(
    a_sandbox_works_in_a_sandbox,
    root_of_a_user_namespace_is_an_ordinary_user,
    a_refusal_says_what_to_allow,
);

pub(crate) const PARTS: &[crate::Test] = &[("inner", inner), ("mapped", mapped), ("refused", refused)];

fn a_sandbox_works_in_a_sandbox() {
    let mut bench = Bench::new();
    files::hiding_layers(&mut bench);
    let mut container = Container::new(Process::new(["/test"]));
    container = container.mount(std::env::current_exe().unwrap(), "/test", Access::ReadOnly);
    for (number, layer) in bench.layers.iter().enumerate() {
        container = container.mount(layer, format!("/layers/{number}"), Access::ReadOnly);
    }
    for library in ["/lib", "/lib64", "/usr/lib"] {
        if std::path::Path::new(library).exists() {
            container = container.mount(library, library, Access::ReadOnly);
        }
    }
    container.process.set_env(ROLE, "inner");
    let output = bench.run(container);
    assert!(output.exit.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a part of a test as root of a user namespace, by a shell script that executes `"$0"`.
fn in_user_namespace(script: &str, role: &str) {
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-euc", script])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn root_of_a_user_namespace_is_an_ordinary_user() {
    in_user_namespace("exec \"$0\"", "mapped");
}

fn mapped() {
    let bench = Bench::new();
    assert_eq!(Capabilities::probe(&bench.scratch()).unwrap().privilege, Privilege::UserNamespace);
    assert_eq!(bench.script("id -u; test -d /sys/class && echo sys"), "0\nsys\n");
}

fn a_refusal_says_what_to_allow() {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; \
                  exec setpriv --bounding-set=-all --inh-caps=-all \"$0\"";
    in_user_namespace(script, "refused");
}

fn refused() {
    let bench = Bench::new();
    let error = bench.sandbox(shell("true")).spawn(Streams::captured()).unwrap_err();
    assert!(
        matches!(&error, Error::NoPrivilege { obstacles, .. } if *obstacles == [Obstacle::Limit]),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("sysctl -w user.max_user_namespaces=") && text.contains("--engine docker"),
        "{text}"
    );
    let found = Capabilities::probe(&bench.scratch()).unwrap();
    assert_eq!((found.privilege, found.obstacles), (Privilege::None, vec![Obstacle::Limit]));
}

fn inner() {
    let scratch = PathBuf::from("/tmp/scratch");
    let found = Capabilities::probe(&scratch).unwrap();
    assert_eq!((found.privilege, found.rootfs), (Privilege::UserNamespace, RootFs::Copy));
    assert!(found.no_overlay.is_some());
    let layers = ["/layers/0", "/layers/1", "/layers/2"].map(PathBuf::from).to_vec();
    let run = |container: Container| {
        let sandbox = Sandbox { layers: layers.clone(), scratch: scratch.clone(), container };
        let running = sandbox.spawn(Streams::captured()).unwrap();
        assert_eq!(running.rootfs(), Some(RootFs::Copy));
        running.output().unwrap()
    };
    assert_eq!(text(&run(shell(&hidden("d o r")))), files::LEFT);
    assert_eq!(
        text(&run(shell("echo x > /etc/passwd; cat /etc/passwd; ls -ld /tmp | cut -c 1-10"))),
        "x\ndrwxrwxrwt\n"
    );
    assert_eq!(run(shell("test -d /proc/self && exit 4")).exit, Exit::Code(4));
    assert_eq!(crate::list(&scratch), Vec::<String>::new());
}
