//! Bytecode by real interpreters: always the same bytes, and code that means the same.

#![allow(clippy::unwrap_used, reason = "of tests")]

mod support;

use std::{
    collections::BTreeMap,
    io::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use longshore_layer::EntryPath;
use longshore_python::{
    Error,
    bytecode::{Compiler, Interpreter, Process, Program, cached, write_layer},
    target::PythonVersion,
};
use support::{content, unpack, version};

/// Every CPython from 3.9 to 3.14 on this machine: on PATH, and those of pyenv where it is used.
fn interpreters() -> Vec<PathBuf> {
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let installed = versions.into_iter().flatten().map(|entry| entry.unwrap().path().join("bin"));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = installed.chain(std::env::split_paths(&on_path)).collect();
    let mut found = BTreeMap::new();
    for minor in 9..=14 {
        for folder in &folders {
            let python = folder.join(format!("python3.{minor}"));
            // A shim of a version manager may stand for a version that is not there.
            let runs = Command::new(&python)
                .args(["-I", "-c", ""])
                .output()
                .is_ok_and(|output| output.status.success());
            if runs && !folder.ends_with("shims") {
                found.entry(minor).or_insert(python);
            }
        }
    }
    let found: Vec<PathBuf> = found.into_values().collect();
    assert!(!found.is_empty(), "the tests need a CPython 3.9 to 3.14");
    found
}

fn compiler(python: &Path, workers: usize) -> Compiler {
    let program: Arc<dyn Interpreter> = Arc::new(Program(python.to_owned()));
    Compiler::new(&program, NonZeroUsize::new(workers).unwrap(), version(python)).unwrap()
}

/// The standard library of a Python as sources; of its tests only those that strain a compiler.
fn sources(python: &Path) -> Vec<(EntryPath, Vec<u8>)> {
    let script = "import sysconfig; print(sysconfig.get_path('stdlib'))";
    let output = Command::new(python).args(["-I", "-c", script]).output().unwrap();
    let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let mut sources: Vec<(EntryPath, Vec<u8>)> = walkdir::WalkDir::new(&folder)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .filter(|path| {
            !path
                .components()
                .any(|part| matches!(part.as_os_str().to_str(), Some("site-packages" | "dist-packages")))
        })
        .step_by(3)
        .map(|path| {
            let inside = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            (EntryPath::new(&format!("usr/lib/python/{inside}")).unwrap(), std::fs::read(&path).unwrap())
        })
        .collect();
    let strange = [
        (
            "constants",
            "x = {1, 'a', 2.5, b'b', (3, frozenset())}\ny = 1 in {'q', 'w', 'e', 'r', 't', 'y', 3, 5}\nz = [-1.5j, 10**30, ..., '\\ud800', 'é', '', '-', 'spam eggs', b'', ()]\n",
        ),
        ("classes", "class A[T]: pass\n"),
        ("slices", "def f(a): return a[1:2], a[::3], lambda b=(1, (2, 'x')): (a, b)\n"),
        ("invalid", "print 'two'\n"),
        ("nul", "x = 1\0\n"),
        ("empty", ""),
        ("latin", "# -*- coding: latin-1 -*-\nx = 'plain'\n"),
    ];
    sources.extend(
        strange.map(|(name, text)| (EntryPath::new(&format!("app/{name}.py")).unwrap(), text.into())),
    );
    sources
}

fn compile(compiler: &Compiler, sources: &[(EntryPath, Vec<u8>)]) -> BTreeMap<EntryPath, Option<Vec<u8>>> {
    let mut made = Vec::new();
    compiler
        .compile(sources.iter().map(|source| Ok(source.clone())), |bytecode| {
            made.push(bytecode);
            Ok(())
        })
        .unwrap();
    sources.iter().map(|(path, _)| path.clone()).zip(made).collect()
}

#[test]
fn order_and_workers_do_not_show() {
    for python in interpreters() {
        let mut sources = sources(&python);
        let forward = compile(&compiler(&python, 1), &sources);
        sources.reverse();
        let backward = compile(&compiler(&python, 3), &sources);
        // A process that starts in the middle shares other constants.
        let turn = sources.len() / 2;
        sources.rotate_left(turn);
        let turned = compile(&compiler(&python, 2), &sources);
        let differing: Vec<_> = forward
            .iter()
            .filter(|(path, bytecode)| backward[*path] != **bytecode || turned[*path] != **bytecode)
            .map(|(path, _)| path)
            .collect();
        assert!(differing.is_empty(), "{}: {differing:?}", python.display());
        let invalid = EntryPath::new("app/invalid.py").unwrap();
        assert_eq!(forward[&invalid], None);
        assert!(forward.values().filter(|bytecode| bytecode.is_some()).count() > 150);
    }
}

/// Compares each file with what the interpreter itself makes: header, and code object for code object.
const COMPARE: &str = r"
import importlib.util, marshal, struct, sys
def same(a, b):
    if type(a) is not type(b): return False
    if isinstance(a, (tuple, list)): return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, frozenset): return a == b and set(map(type, a)) == set(map(type, b))
    if isinstance(a, slice): return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    if isinstance(a, (float, complex)): return repr(a) == repr(b)
    if hasattr(a, 'co_code'):
        names = [n for n in dir(a) if n.startswith('co_') and not callable(getattr(a, n)) and n not in ('co_lnotab', '_co_code_adaptive')]
        return all(same(getattr(a, n), getattr(b, n)) for n in names) and list(a.co_lines() if hasattr(a, 'co_lines') else [a.co_lnotab]) == list(b.co_lines() if hasattr(b, 'co_lines') else [b.co_lnotab]) and list(a.co_positions() if hasattr(a, 'co_positions') else []) == list(b.co_positions() if hasattr(b, 'co_positions') else [])
    return a == b
def identical_strings(code, seen):
    # Names are interned, as everywhere in a process.
    return all(n is sys.intern(n) for n in code.co_names)
read = sys.stdin.buffer.read
count = 0
while True:
    head = read(12)
    if not head: break
    p, s, b = struct.unpack('>III', head)
    path, source, pyc = read(p).decode(), read(s), read(b)
    assert pyc[:4] == importlib.util.MAGIC_NUMBER and pyc[4:8] == b'\1\0\0\0', path
    assert pyc[8:16] == importlib.util.source_hash(source), path
    import warnings; warnings.simplefilter('ignore')
    want = compile(source, path, 'exec', dont_inherit=True, optimize=0)
    got = marshal.loads(pyc[16:])
    assert same(want, got), path
    assert identical_strings(got, {}), path
    count += 1
print(count)
";

#[test]
fn the_code_is_what_the_interpreter_would_make() {
    for python in interpreters() {
        let sources = sources(&python);
        let compiled = compile(&compiler(&python, 2), &sources);
        let mut child = Command::new(&python)
            .args(["-I", "-c", COMPARE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut sent = 0;
        for (path, source) in &sources {
            let Some(bytecode) = &compiled[path] else { continue };
            let path = format!("/{path}");
            let mut frame = Vec::new();
            for part in [path.as_bytes(), source, bytecode] {
                frame.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            }
            frame.extend([path.as_bytes(), source, bytecode].concat());
            // An assertion that failed shows in the output.
            if input.write_all(&frame).is_err() {
                break;
            }
            sent += 1;
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", python.display());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), sent.to_string(), "{said}");
    }
}

#[test]
fn modules_are_imported_from_their_bytecode() {
    for python in interpreters() {
        let minor = version(&python).minor;
        let folder = tempfile::tempdir().unwrap();
        let source = "import json\nVALUE = json.dumps(sorted({'b', 'a'}))\ndef f(x, *, y=2): return [x * y for _ in (1, 2)]\nclass C:\n    def __init__(self): self.v = f(21)\n";
        let path = EntryPath::new("thing.py").unwrap();
        let (layer, summary) =
            write_layer(&compiler(&python, 1), [(path.clone(), ())], |()| Ok(source.into()), Vec::new())
                .unwrap();
        assert_eq!((summary.compiled, summary.skipped), (1, 0));
        let target = cached(&path, minor).unwrap();
        assert_eq!(target.as_str(), format!("__pycache__/thing.cpython-3{minor}.pyc"));
        std::fs::create_dir(folder.path().join("__pycache__")).unwrap();
        std::fs::write(folder.path().join(target.as_str()), content(&layer, target.as_str()).unwrap())
            .unwrap();
        // The source says something else: that the bytecode is taken shows that it is not compared.
        std::fs::write(folder.path().join("thing.py"), "raise SystemExit('the source was compiled')\n")
            .unwrap();
        let script = format!(
            "import sys; sys.path.insert(0, {:?}); import thing; print(thing.VALUE, thing.C().v)",
            folder.path()
        );
        let output = Command::new(&python).args(["-B", "-I", "-c", &script]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            r#"["a", "b"] [42, 42]"#,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn two_layers_of_the_same_sources_are_the_same_bytes() {
    let python = interpreters().remove(0);
    let sources = sources(&python);
    let layer = |workers, sources: &[(EntryPath, Vec<u8>)]| {
        let jobs = sources.iter().map(|(path, text)| (path.clone(), text));
        write_layer(&compiler(&python, workers), jobs, |text| Ok((*text).clone()), Vec::new()).unwrap()
    };
    let mut turned = sources.clone();
    turned.reverse();
    let (one, two) = (layer(1, &sources), layer(3, &turned));
    assert_eq!(one.1, two.1);
    assert!(one.0 == two.0);
    assert!(one.1.skipped >= 2, "the invalid ones are counted");
    let mut found = BTreeMap::new();
    unpack(&one.0, &mut found);
    assert!(found.contains_key(cached(&sources[0].0, version(&python).minor).unwrap().as_str()));
}

fn failure(interpreter: impl Interpreter + 'static, python: PythonVersion) -> Error {
    let interpreter: Arc<dyn Interpreter> = Arc::new(interpreter);
    let compiler = Compiler::new(&interpreter, NonZeroUsize::new(2).unwrap(), python).unwrap();
    let sources = (0..200).map(|i| Ok((EntryPath::new(&format!("a/{i}.py")).unwrap(), vec![b'\n'; 100_000])));
    compiler.compile(sources, |_| Ok(())).unwrap_err()
}

/// A program that says something and ends, or does not.
struct Shell(&'static str);

impl Interpreter for Shell {
    fn start(&self, _: &[&str]) -> std::io::Result<Process> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", self.0])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Process {
            input: Box::new(child.stdin.take().unwrap()),
            output: Box::new(child.stdout.take().unwrap()),
            end: Box::new(move || child.wait().map(|status| status.to_string())),
        })
    }
}

#[test]
fn interpreters_that_fail_are_errors_that_say_how() {
    let python = PythonVersion::new(3, 11, 2);
    let said = failure(Program("/nonexistent/python".into()), python).to_string();
    assert!(said.contains("cannot be started"), "{said}");
    let said = failure(Shell("exit 3"), python).to_string();
    assert!(said.contains("does not answer"), "{said}");
    let said = failure(Shell("echo 3 12 0 cpython-312; cat > /dev/null"), python);
    assert!(matches!(said, Error::InterpreterVersion { .. }), "{said}");
    let said = failure(Shell("echo 3 11 2 pypy311; cat > /dev/null"), python).to_string();
    assert!(said.contains("not a CPython"), "{said}");
    let said =
        failure(Shell("echo 3 11 2 cpython-311; head -c 50 > /dev/null; kill -9 $$"), python).to_string();
    assert!(said.contains("/a/0.py") || said.contains("/a/1.py"), "{said}");
    assert!(said.contains("signal: 9"), "{said}");
    let said = failure(Shell("echo 3 11 2 cpython-311; printf '\\007\\0\\0\\0\\0'; cat > /dev/null"), python)
        .to_string();
    assert!(said.contains("no proper answer"), "{said}");
    let program: Arc<dyn Interpreter> = Arc::new(Program("python".into()));
    assert!(Compiler::new(&program, NonZeroUsize::MIN, PythonVersion::new(3, 8, 1)).is_err());
}
