//! How containers end, whatever happens around them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::Stdio,
    thread,
};

use longshore_sandbox::{Container, Exit, Process, Signal, Stream, Streams};
use rustix::process::{Pid, Signal as Kill, kill_process};

use crate::{Bench, part, shell, text, wait_until};

crate::tests!(
    signals_are_forwarded,
    the_keyboards_signals_reach_the_whole_group,
    a_signal_to_the_supervisor_is_forwarded,
    orphans_are_reaped,
    what_the_command_leaves_running_ends_with_it,
    dropping_kills,
    a_killed_parent_leaves_nothing,
    a_killed_parent_and_supervisor_leave_a_folder_until_the_next_start,
    eight_run_at_once,
    ignored_signals_do_not_matter,
    a_deep_tree_is_cleaned_up,
);

pub(crate) const PARTS: &[crate::Test] = &[("parent", parent)];

/// A container that says when it is ready and then waits for what comes.
fn waiting(script: &str) -> Container {
    shell(&format!("{script}; echo ready; while true; do sleep 0.01; done"))
}

fn ready(running: &mut longshore_sandbox::Running) {
    let mut line = String::new();
    BufReader::new(running.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

fn signals_are_forwarded() {
    let bench = Bench::new();
    for (signal, name, code) in [
        (Signal::INTERRUPT, "INT", 7),
        (Signal::TERMINATE, "TERM", 8),
        (Signal::HANGUP, "HUP", 9),
        (Signal::USER1, "USR1", 10),
    ] {
        let container = waiting(&format!("trap 'exit {code}' {name}"));
        let mut running = bench.sandbox(container).spawn(Streams::captured()).unwrap();
        ready(&mut running);
        let signals = running.signals();
        // Sent by another thread while this one waits, as a program that awaits Ctrl-C does.
        let sender = thread::spawn(move || signals.send(signal));
        assert_eq!(running.wait().unwrap(), Exit::Code(code));
        sender.join().unwrap();
        running.signals().send(signal);
    }
    let mut running = bench.sandbox(waiting("true")).spawn(Streams::captured()).unwrap();
    running.signals().send(Signal::KILL);
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
}

fn the_keyboards_signals_reach_the_whole_group() {
    let bench = Bench::new();
    // The shell waits for its child, which has no trap: only a signal to both ends this.
    let script = "trap 'echo interrupted; exit 3' INT; sh -c 'echo ready; exec sleep 1000'";
    let mut running = bench.sandbox(shell(script)).spawn(Streams::captured()).unwrap();
    ready(&mut running);
    running.signals().send(Signal::INTERRUPT);
    assert_eq!(running.wait().unwrap(), Exit::Code(3));
}

fn a_signal_to_the_supervisor_is_forwarded() {
    let bench = Bench::new();
    let container = waiting("trap 'exit 5' TERM");
    let mut running = bench.sandbox(container).spawn(Streams::captured()).unwrap();
    ready(&mut running);
    kill_process(Pid::from_raw(running.id().try_into().unwrap()).unwrap(), Kill::TERM).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(5));
}

fn orphans_are_reaped() {
    let bench = Bench::new();
    let script = "for i in 1 2 3 4 5; do sh -c 'true & true &' ; done; sleep 0.2; \
                  grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(bench.script(script), "0\n");
    // Init adopts what loses its parent.
    let script = "sh -c '(sleep 0.3; grep PPid /proc/self/status >/tmp/parent) & true'; sleep 0.1; \
                  while ! test -s /tmp/parent; do sleep 0.05; done; echo done";
    assert_eq!(bench.script(script), "done\n");
}

fn what_the_command_leaves_running_ends_with_it() {
    let bench = Bench::new();
    let mark = mark();
    let script = format!("sleep {mark} & setsid sleep {mark} & nohup sleep {mark} & sleep 0.2; echo $$");
    text(&bench.run(shell(&script)));
    assert_eq!(processes(&mark), Vec::<PathBuf>::new());
}

fn dropping_kills() {
    let bench = Bench::new();
    let mark = mark();
    let mut running =
        bench.sandbox(waiting(&format!("sleep {mark} & true"))).spawn(Streams::captured()).unwrap();
    ready(&mut running);
    wait_until("its child runs", || !processes(&mark).is_empty());
    drop(running);
    assert_eq!(processes(&mark), Vec::<PathBuf>::new());
    bench.assert_clean();
}

/// A number of seconds that no other process of the machine sleeps.
fn mark() -> String {
    let mut bytes = [0; 4];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    format!("1{}", u32::from_ne_bytes(bytes))
}

/// The processes that have an argument.
fn processes(argument: &str) -> Vec<PathBuf> {
    let arguments = |entry: &fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    fs::read_dir("/proc")
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| arguments(entry).split(|byte| *byte == 0).any(|text| text == argument.as_bytes()))
        .map(|entry| entry.path())
        .collect()
}

/// The mounts that this process can see and whose description has a text.
fn mounts(text: &str) -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(text)).count()
}

/// A process that starts a container and waits for it; it prints the supervisor's number.
fn parent() {
    let layers: Vec<PathBuf> = std::env::var("LAYERS").unwrap().split(':').map(PathBuf::from).collect();
    let scratch: PathBuf = std::env::var("SCRATCH").unwrap().into();
    let container = Container::new(Process::new(["sleep", &std::env::var("MARK").unwrap()]));
    let sandbox = longshore_sandbox::Sandbox { layers, scratch, container };
    let mut running = sandbox.spawn(Streams { stdin: Stream::Null, ..Streams::inherit() }).unwrap();
    #[expect(clippy::print_stdout, reason = "the test reads it")]
    {
        println!("{}", running.id());
    }
    running.wait().unwrap();
}

/// Starts a parent and returns it with the number of its supervisor.
fn start_parent(bench: &Bench, mark: &str) -> (std::process::Child, Pid) {
    let layers: Vec<_> = bench.layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    let mut parent = part("parent")
        .env("LAYERS", layers.join(":"))
        .env("SCRATCH", bench.scratch())
        .env("MARK", mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (parent, Pid::from_raw(line.trim().parse().unwrap()).unwrap())
}

fn a_killed_parent_leaves_nothing() {
    let bench = Bench::new();
    let mark = mark();
    let (mut parent, _) = start_parent(&bench, &mark);
    assert_eq!(processes(&mark).len(), 1);
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the container's processes end", || processes(&mark).is_empty());
    wait_until("its folder is removed", || crate::list(&bench.scratch()).is_empty());
    assert_eq!(mounts(bench.scratch().to_str().unwrap()), 0);
}

fn a_killed_parent_and_supervisor_leave_a_folder_until_the_next_start() {
    let bench = Bench::new();
    let mark = mark();
    let (mut parent, supervisor) = start_parent(&bench, &mark);
    kill_process(supervisor, Kill::KILL).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the container's processes end", || processes(&mark).is_empty());
    assert_eq!(mounts(bench.scratch().to_str().unwrap()), 0);
    assert_eq!(crate::list(&bench.scratch()).len(), 2, "a folder and its lock");
    // Another one that runs keeps its own.
    let mut other = bench.sandbox(waiting("echo x > /file")).spawn(Streams::captured()).unwrap();
    ready(&mut other);
    wait_until("the folder is removed", || {
        bench.script("true");
        crate::list(&bench.scratch()).len() == 2
    });
    other.signals().send(Signal::KILL);
    assert_eq!(other.wait().unwrap(), Exit::Signal(9));
    bench.assert_clean();
}

fn ignored_signals_do_not_matter() {
    let bench = Bench::new();
    let layers: Vec<_> = bench.layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    let status = std::process::Command::new("env")
        .arg("--ignore-signal=CHLD,INT,TERM")
        .arg(std::env::current_exe().unwrap())
        .env(crate::ROLE, "parent")
        .env("LAYERS", layers.join(":"))
        .env("SCRATCH", bench.scratch())
        .env("MARK", "0")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn eight_run_at_once() {
    let bench = Bench::new();
    thread::scope(|scope| {
        for number in 0..8 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..3 {
                    let script =
                        format!("echo {number}-{round} > /tmp/x; sleep 0.1; cat /tmp/x; exit {number}");
                    let output = bench.run(shell(&script));
                    assert_eq!(output.exit, Exit::Code(number));
                    assert_eq!(output.stdout, format!("{number}-{round}\n").as_bytes());
                }
            });
        }
    });
    bench.assert_clean();
}

fn a_deep_tree_is_cleaned_up() {
    let bench = Bench::new();
    let script = "cd /tmp; for i in $(seq 120); do mkdir a-directory-with-a-long-name; cd a-directory-with-a-long-name; done; \
                  mkdir /closed; touch /closed/file; chmod 0 /closed; echo done";
    assert_eq!(bench.script(script), "done\n");
    bench.assert_clean();
}
