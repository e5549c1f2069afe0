//! The process: how it ends, what it is given, what it may do.

use std::io::{Read as _, Write as _};

use longshore_sandbox::{
    Capabilities, Container, Error, Exit, Privilege, Process, RootFs, Stage, Stream, Streams,
};

use crate::{Bench, is_root, shell, text};

crate::tests!(
    codes_and_signals_pass_through,
    what_cannot_be_executed_has_the_codes_of_a_shell,
    streams_are_piped,
    a_stream_ends_when_the_command_closes_it,
    the_environment_is_what_was_given,
    the_working_directory_is_made,
    a_user_is_found_by_name_and_by_number,
    the_files_of_the_image_belong_to_root_or_to_the_user,
    an_unknown_user_is_an_error,
    the_process_sees_only_its_own_kind,
    few_privileges_are_left,
    signals_have_their_defaults,
    nothing_open_is_inherited,
    the_probe_tells_what_is,
    other_owners_are_to_be_had_where_there_are_ranges,
);

fn codes_and_signals_pass_through() {
    let bench = Bench::new();
    for code in [0, 1, 42, 255] {
        assert_eq!(bench.run(shell(&format!("exit {code}"))).exit, Exit::Code(code));
    }
    let exit = bench.run(shell("kill -TERM $$")).exit;
    assert_eq!((exit, exit.code()), (Exit::Signal(15), 143));
    assert_eq!(bench.run(shell("kill -KILL $$")).exit, Exit::Signal(9));
}

fn what_cannot_be_executed_has_the_codes_of_a_shell() {
    let bench = Bench::new();
    let fails = |name: &str| {
        let error =
            bench.sandbox(Container::new(Process::new([name]))).spawn(Streams::captured()).unwrap_err();
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        error.exit_code()
    };
    assert_eq!(fails("no-such-command"), Some(127));
    assert_eq!(fails("/etc/passwd"), Some(126));
}

fn streams_are_piped() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(shell("tr a-z A-Z; echo trouble >&2"));
    let streams = Streams { stdin: Stream::Piped, ..Streams::captured() };
    let mut running = sandbox.spawn(streams).unwrap();
    running.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = running.output().unwrap();
    assert_eq!((text(&output).as_str(), output.stderr.as_slice()), ("HELLO\n", &b"trouble\n"[..]));
}

fn a_stream_ends_when_the_command_closes_it() {
    let bench = Bench::new();
    let mut running = bench
        .sandbox(shell("exec >&-; read wait"))
        .spawn(Streams { stdin: Stream::Piped, ..Streams::captured() });
    let running = running.as_mut().unwrap();
    let mut nothing = String::new();
    running.stdout.take().unwrap().read_to_string(&mut nothing).unwrap();
    assert_eq!(nothing, "");
    running.stdin.as_mut().unwrap().write_all(b"on\n").unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
    assert_eq!(running.wait().unwrap(), Exit::Code(0), "asked again");
}

fn the_environment_is_what_was_given() {
    let bench = Bench::new();
    let mut container = Container::new(Process::new(["env"]));
    container.process.set_env("SECRET", "two\nlines = '\"$");
    container.hostname = "box".into();
    let mut lines: Vec<_> = text(&bench.run(container)).lines().map(str::to_owned).collect();
    lines.sort();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["HOME=/root", "HOSTNAME=box", path, "SECRET=two", "lines = '\"$"]);
}

fn the_working_directory_is_made() {
    let bench = Bench::new();
    let mut container = shell("pwd");
    container.process.cwd = "/made/for/me".into();
    assert_eq!(text(&bench.run(container.clone())), "/made/for/me\n");
    // CVE-2024-21626: no directory of the host is open under any number.
    for number in 3..16 {
        container.process.cwd = format!("/proc/self/fd/{number}");
        let error = bench.sandbox(container.clone()).spawn(Streams::captured()).unwrap_err();
        assert!(matches!(&error, Error::Setup(failure) if failure.stage == Stage::WorkDir), "{error}");
    }
}

fn a_user_is_found_by_name_and_by_number() {
    let bench = Bench::new();
    let id = |user: &str| {
        let mut container = shell("echo $(id -u) $(id -g) $HOME");
        container.process.user = user.into();
        text(&bench.run(container))
    };
    assert_eq!(id(""), "0 0 /root\n");
    assert_eq!(id("root"), "0 0 /root\n");
    assert_eq!(id("app"), "1000 1001 /home/app\n");
    assert_eq!(id("1000"), "1000 1001 /home/app\n");
    assert_eq!(id("app:extra"), "1000 77 /home/app\n");
    assert_eq!(id("0:5"), "0 5 /root\n");
    assert_eq!(id("4321:99"), "4321 99 /\n");
    if is_root() {
        let mut container = shell("id -G");
        container.process.user = "app".into();
        assert_eq!(text(&bench.run(container)), "1001 77\n");
    }
}

fn the_files_of_the_image_belong_to_root_or_to_the_user() {
    let bench = Bench::new();
    let script = "stat -c '%u %g' /etc/passwd; echo x > $HOME/file; stat -c %u $HOME/file > /dev/stdout";
    let mut container = shell(script);
    container.process.user = "app".into();
    if is_root() {
        std::os::unix::fs::chown(bench.layers[0].join("home/app"), Some(1000), Some(1001)).unwrap();
        assert_eq!(text(&bench.run(container)), "0 0\n1000\n");
    } else {
        assert_eq!(text(&bench.run(container)), "1000 1001\n1000\n");
    }
}

fn an_unknown_user_is_an_error() {
    let bench = Bench::new();
    for user in ["nobody-here", "app:nobody-here"] {
        let mut container = shell("true");
        container.process.user = user.into();
        let error = bench.sandbox(container).spawn(Streams::captured()).unwrap_err();
        assert!(error.to_string().contains("`nobody-here`"), "{error}");
    }
    bench.assert_clean();
}

fn the_process_sees_only_its_own_kind() {
    let bench = Bench::new();
    let pids = bench.script("ls /proc | grep '^[0-9]' | sort -n | tr '\\n' ' '");
    assert!(pids.starts_with("1 2 ") && pids.split_whitespace().count() <= 8, "{pids}");
    assert_eq!(bench.script("hostname; cat /etc/hostname"), "longshore\nlongshore\n");
    // Its first process keeps what it has to itself.
    for secret in ["cat /proc/1/environ", "readlink /proc/1/exe", "readlink /proc/1/fd/0", "ls /proc/1/root/"]
    {
        assert_eq!(bench.run(shell(&format!("{secret} || exit 9"))).exit, Exit::Code(9), "{secret}");
    }
}

fn few_privileges_are_left() {
    let bench = Bench::new();
    let status = "grep -E '^(CapEff|CapBnd|CapAmb|CapInh|NoNewPrivs)' /proc/self/status";
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
    let kept = "00000000800405fb";
    let expected = |effective: &str, bounding: &str| {
        let none = "0".repeat(16);
        format!(
            "CapInh:\t{none}\nCapEff:\t{effective}\nCapBnd:\t{bounding}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n"
        )
    };
    assert_eq!(bench.script(status), expected(kept, kept));
    let mut container = shell(status);
    container.process.user = "app".into();
    assert_eq!(text(&bench.run(container)), expected(&"0".repeat(16), kept));
    for forbidden in [
        "mount -t tmpfs none /tmp",
        "mknod /tmp/x b 8 0",
        "hostname other",
        "chroot /tmp true 2>/dev/null; umount /proc",
    ] {
        assert!(!bench.run(shell(forbidden)).exit.success(), "{forbidden}");
    }
}

fn signals_have_their_defaults() {
    let bench = Bench::new();
    let container = Container::new(Process::new(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
    let status = text(&bench.run(container));
    let mask = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line[name.len()..].trim(), 16).unwrap()
    };
    // 32 and 33 are the C library's own.
    assert_eq!((mask("SigBlk:"), mask("SigIgn:") & !(0b11 << 31)), (0, 0), "{status}");
}

fn nothing_open_is_inherited() {
    let bench = Bench::new();
    // 3 is the directory that `ls` reads.
    assert_eq!(bench.script("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
    assert_eq!(bench.script("umask"), "0022\n");
}

fn the_probe_tells_what_is() {
    let bench = Bench::new();
    let found = Capabilities::probe(&bench.scratch()).unwrap();
    assert_eq!(found.privilege, if is_root() { Privilege::Root } else { Privilege::UserNamespace });
    assert_eq!((found.rootfs, found.no_overlay, found.no_proc), (RootFs::Overlay, None, None));
    assert!(found.obstacles.is_empty());
}

fn other_owners_are_to_be_had_where_there_are_ranges() {
    let bench = Bench::new();
    let many = is_root() || Capabilities::probe(&bench.scratch()).unwrap().ranges.is_some();
    let script = "mkdir /tmp/d; echo x > /tmp/d/f; chmod 700 /tmp/d; chown 5:6 /tmp/d/f /tmp/d; stat -c '%u %g' /tmp/d/f";
    let output = bench.run(shell(script));
    assert_eq!(output.exit.success(), many, "{}", String::from_utf8_lossy(&output.stderr));
    if many {
        assert_eq!(output.stdout, b"5 6\n");
    }
    bench.assert_clean();
}
