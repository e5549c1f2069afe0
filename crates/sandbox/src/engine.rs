//! Containers by Docker or Podman instead: the same request, handed to an engine's command line.

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use crate::{
    Access, Container, Error, Mount, Result, Running, Stream, Streams,
    lease::{Lease, random_name},
    run::Pipes,
    running::Inner,
};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl EngineKind {
    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        })
    }
}

/// Why an engine could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is none.
    #[error("{0} is not installed: no program `{program}` is on PATH", program = .0.program())]
    NotInstalled(EngineKind),
    /// It reported a failure.
    #[error("{engine} cannot {doing}: {message}")]
    Failed {
        /// The engine.
        engine: EngineKind,
        /// What it was asked to do.
        doing: &'static str,
        /// What it said.
        message: String,
    },
    /// A variable that an engine cannot be given without changing the engine itself.
    #[error(
        "the environment variable `{0}` cannot be handed to a container engine: its value has several lines, and the engine's own program reads a variable of that name"
    )]
    Variable(String),
    /// A path that an engine's command line cannot express.
    #[error("`{0}` cannot be mounted by a container engine: it is not UTF-8")]
    Path(PathBuf),
}

/// An engine on this machine.
#[derive(Clone, Debug)]
pub struct Engine {
    kind: EngineKind,
    program: PathBuf,
    scratch: PathBuf,
}

/// How an engine's program is to be called: a pure value.
#[derive(Clone, PartialEq, Eq)]
pub struct EnginePlan {
    /// The arguments. No value of a variable is among them.
    pub arguments: Vec<String>,
    /// Variables that the program inherits and passes on.
    pub inherited: Vec<(String, String)>,
    /// The text of the file of the other variables.
    pub env_file: String,
}

/// Values of variables may be secret, so only their names are printed.
impl fmt::Debug for EnginePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inherited: Vec<_> = self.inherited.iter().map(|(name, _)| name).collect();
        let lines = self.env_file.lines();
        let filed: Vec<_> = lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        f.debug_struct("EnginePlan")
            .field("arguments", &self.arguments)
            .field("inherited", &inherited)
            .field("env_file", &filed)
            .finish()
    }
}

/// What decides a plan beside the request itself.
#[derive(Clone, Copy, Debug)]
pub struct EngineRun<'a> {
    /// The image: a reference, or an identifier that [`Engine::load`] returned.
    pub image: &'a str,
    /// The name of the new container.
    pub name: &'a str,
    /// Where the file of variables will be.
    pub env_file: &'a Path,
    /// Whether the command reads standard input.
    pub input: Input,
}

/// Whether a command reads standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It does.
    Open,
    /// It gets none.
    Closed,
}

impl EnginePlan {
    /// The call of `run` for a container.
    pub fn run(container: &Container, run: &EngineRun<'_>) -> Result<Self> {
        container.check()?;
        let process = &container.process;
        let mut arguments: Vec<String> =
            ["run", "--rm", "--name", run.name, "--network", "host"].map(str::to_owned).into();
        let mut add = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
        add("--hostname", &container.hostname);
        add("--security-opt", "no-new-privileges");
        for (name, value) in [("--workdir", &process.cwd), ("--user", &process.user)] {
            if !value.is_empty() {
                add(name, value);
            }
        }
        for mount in &container.mounts {
            add("--mount", &mount_option(mount)?);
        }
        let mut inherited = Vec::new();
        let mut env_file = String::new();
        for (name, value) in &process.env {
            if !read_by_engines(name) {
                add("--env", name);
                inherited.push((name.clone(), value.clone()));
            } else if value.contains(['\n', '\r']) {
                return Err(EngineError::Variable(name.clone()).into());
            } else {
                env_file.extend([name, "=", value, "\n"]);
            }
        }
        if !env_file.is_empty() {
            add("--env-file", &run.env_file.to_string_lossy());
        }
        if run.input == Input::Open {
            arguments.push("--interactive".to_owned());
        }
        let (command, rest) = process.argv.split_first().unwrap_or((const { &String::new() }, &[]));
        arguments.extend(["--entrypoint", command, run.image].map(str::to_owned));
        arguments.extend_from_slice(rest);
        Ok(Self { arguments, inherited, env_file })
    }
}

/// A mount as `--mount` wants it: fields of comma-separated values, quoted where they need it.
fn mount_option(mount: &Mount) -> Result<String> {
    let source = mount.source.to_str().ok_or_else(|| EngineError::Path(mount.source.clone()))?;
    let mut fields =
        vec!["type=bind".to_owned(), format!("source={source}"), format!("target={}", mount.target)];
    if mount.access == Access::ReadOnly {
        fields.push("readonly".to_owned());
    }
    let quoted: Vec<_> = fields
        .into_iter()
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field
            }
        })
        .collect();
    Ok(quoted.join(","))
}

/// Whether an engine's own program, its libraries or the programs that it calls heed a variable.
fn read_by_engines(name: &str) -> bool {
    const NAMES: [&str; 16] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PWD",
        "TMPDIR",
        "TERM",
        "LANG",
        "LANGUAGE",
        "TZ",
        "NO_COLOR",
        "NOTIFY_SOCKET",
        "TMP",
        "TEMP",
        "KUBECONFIG",
    ];
    const PREFIXES: [&str; 20] = [
        "DOCKER_",
        "BUILDKIT_",
        "BUILDX_",
        "BUILDAH_",
        "COMPOSE_",
        "CONTAINER_",
        "CONTAINERS_",
        "PODMAN_",
        "STORAGE_",
        "REGISTRY_",
        "XDG_",
        "LD_",
        "GO",
        "SSL_CERT_",
        "OTEL_",
        "DBUS_",
        "SSH_",
        "LISTEN_",
        "LC_",
        "_CONTAINERS_",
    ];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.to_ascii_lowercase().ends_with("_proxy")
}

impl Engine {
    /// Finds an engine's program on `PATH`. `scratch` is a folder for short-lived files, made if missing.
    pub fn find(kind: EngineKind, scratch: impl Into<PathBuf>) -> Result<Self> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&search)
            .map(|folder| folder.join(kind.program()))
            .find(|program| program.is_file())
            .ok_or(EngineError::NotInstalled(kind))?;
        Ok(Self { kind, program, scratch: scratch.into() })
    }

    /// Which engine this is.
    pub const fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Loads an archive as `docker save` makes it, and returns what the engine calls the image.
    pub fn load(&self, archive: &Path) -> Result<String> {
        let doing = "load the image";
        let output = Command::new(&self.program)
            .args(["load", "--input"])
            .arg(archive)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("execute", &self.program))?;
        let failed = |message: &[u8]| {
            let message = String::from_utf8_lossy(message).trim().to_owned();
            EngineError::Failed { engine: self.kind, doing, message }
        };
        if !output.status.success() {
            return Err(failed(&output.stderr).into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(loaded_image(&text).ok_or_else(|| failed(&output.stdout))?.to_owned())
    }

    /// Starts a container of an image.
    pub fn spawn(&self, image: &str, container: &Container, streams: Streams) -> Result<Running> {
        fs::create_dir_all(&self.scratch).map_err(Error::io("make folder", &self.scratch))?;
        Lease::sweep(&self.scratch).map_err(Error::io("tidy folder", &self.scratch))?;
        let lease = Lease::take(&self.scratch).map_err(Error::io("make a folder in", &self.scratch))?;
        let env_file = lease.path().join("env");
        let name = format!("longshore-{}", random_name().map_err(Error::io("read", "random numbers"))?);
        let input = if matches!(streams.stdin, Stream::Null) { Input::Closed } else { Input::Open };
        let plan = EnginePlan::run(container, &EngineRun { image, name: &name, env_file: &env_file, input })?;
        fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&env_file)
            .and_then(|mut file| file.write_all(plan.env_file.as_bytes()))
            .map_err(Error::io("write", &env_file))?;
        let mut pipes = Pipes::default();
        let stdin = streams.stdin.input(&mut pipes)?.map_or_else(Stdio::null, Stdio::from);
        let child = Command::new(&self.program)
            .args(&plan.arguments)
            .envs(plan.inherited)
            .stdin(stdin)
            .stdout(streams.stdout.output(&mut pipes.stdout)?)
            .stderr(streams.stderr.output(&mut pipes.stderr)?)
            .spawn()
            .map_err(Error::io("execute", &self.program))?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let process = pid
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
            .map_err(Error::io("watch", &self.program))?;
        let named = Named { program: self.program.clone(), name, lease: Some(lease) };
        Ok(Running::new(pipes, Inner::Engine { child, process: Arc::new(process), named }))
    }
}

/// The image that the output of `load` names.
fn loaded_image(output: &str) -> Option<&str> {
    output.lines().find_map(|line| {
        let rest = line.strip_prefix("Loaded image")?;
        let (_, name) = rest.split_once(": ")?;
        name.split(',').next().map(str::trim).filter(|name| !name.is_empty())
    })
}

/// A container of an engine, by the name that we gave it.
#[derive(Debug)]
pub(crate) struct Named {
    program: PathBuf,
    name: String,
    lease: Option<Lease>,
}

impl Named {
    /// The container is gone; its files can go too.
    pub(crate) fn ended(&mut self) {
        // What stays is taken by the next sweep.
        let _ = self.lease.take().map(Lease::release);
    }

    /// Kills and removes the container.
    pub(crate) fn remove(&mut self) {
        let _ = Command::new(&self.program)
            .args(["rm", "--force", &self.name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        self.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Process;

    fn container() -> Container {
        let mut process = Process::new(["python", "-m", "pipeline"]);
        process.env = [
            ("PATH", "/opt/venv/bin:/bin"),
            ("TOKEN", "s3cret"),
            ("NOTE", "two\nlines"),
            ("https_proxy", "p"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        process.cwd = "/app".into();
        process.user = "1000:1000".into();
        Container::new(process).mount("/data/in, put", "/in", Access::ReadOnly).mount(
            "/data/out",
            "/out",
            Access::ReadWrite,
        )
    }

    fn run() -> EngineRun<'static> {
        let env_file = Path::new("/tmp/scratch/env");
        EngineRun { image: "localhost/demo:1", name: "longshore-1", env_file, input: Input::Open }
    }

    #[test]
    fn the_call_holds_no_value_of_a_variable() {
        let plan = EnginePlan::run(&container(), &run()).unwrap();
        insta::assert_snapshot!(plan.arguments.join("\n"));
        insta::assert_debug_snapshot!(plan);
        assert_eq!(plan.env_file, "PATH=/opt/venv/bin:/bin\nhttps_proxy=p\n");
        assert_eq!(plan.inherited[0], ("TOKEN".into(), "s3cret".into()));
    }

    #[test]
    fn what_neither_way_can_carry_is_refused() {
        let mut container = container();
        container.process.set_env("DOCKER_HOST", "a\nb");
        let error = EnginePlan::run(&container, &run()).unwrap_err().to_string();
        assert!(error.contains("`DOCKER_HOST`") && !error.contains("a\nb"), "{error}");
    }

    #[test]
    fn the_loaded_image_is_found_in_what_the_engines_say() {
        assert_eq!(loaded_image("Loaded image: demo:1\n"), Some("demo:1"));
        assert_eq!(loaded_image("Loaded image ID: sha256:ab\n"), Some("sha256:ab"));
        assert_eq!(loaded_image("Loaded image(s): localhost/a:1,localhost/b:2\n"), Some("localhost/a:1"));
        assert_eq!(loaded_image("x\nLoaded image: \n"), None);
    }
}
