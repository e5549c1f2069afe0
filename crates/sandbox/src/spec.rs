//! What is to be run: pure values.

use std::{fmt, path::PathBuf};

use longshore_oci as oci;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What Docker gives a process whose image says nothing else.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process and the part of the host that it sees, however it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The process.
    pub process: Process,
    /// Host paths that appear in the container, over what the image has there.
    pub mounts: Vec<Mount>,
    /// The container's host name.
    pub hostname: String,
}

/// A process, after the runtime specification's `process`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The command, searched in the container's `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// The environment. `PATH`, `HOME` and `HOSTNAME` are added where they are missing.
    pub env: Vec<(String, String)>,
    /// The working directory, absolute; made if the image has none there. Empty means `/`.
    pub cwd: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, names after the image's own files. Empty means root.
    pub user: String,
}

/// A host path in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// A file or directory of the host, absolute.
    pub source: PathBuf,
    /// Where it appears: an absolute path, made if the image has nothing there.
    pub target: String,
    /// What the container may do with it.
    pub access: Access,
}

/// What a container may do with a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Look at it; this holds for everything that is mounted below the path too.
    ReadOnly,
    /// Change it.
    ReadWrite,
}

impl Container {
    /// A container that runs `process` and sees nothing of the host.
    pub fn new(process: Process) -> Self {
        Self { process, mounts: Vec::new(), hostname: "longshore".to_owned() }
    }

    /// Adds a mount.
    pub fn mount(mut self, source: impl Into<PathBuf>, target: impl Into<String>, access: Access) -> Self {
        self.mounts.push(Mount { source: source.into(), target: target.into(), access });
        self
    }

    /// Whether the values can be handed to the kernel at all.
    pub(crate) fn check(&self) -> Result<()> {
        let process = &self.process;
        if process.argv.first().is_none_or(String::is_empty) {
            return Err(Error::Invalid(
                "there is no command: neither the image nor the request names one".into(),
            ));
        }
        let texts = process.argv.iter().chain([&process.cwd, &process.user, &self.hostname]);
        if let Some(text) =
            texts.chain(self.mounts.iter().map(|mount| &mount.target)).find(|t| t.contains('\0'))
        {
            return Err(Error::Invalid(format!("{text:?} contains a NUL byte")));
        }
        if let Some((name, _)) = process
            .env
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            return Err(Error::Invalid(format!(
                "the environment variable {name:?} cannot be set: its name is empty or contains `=`, or it contains a NUL byte"
            )));
        }
        if !process.cwd.is_empty() && !process.cwd.starts_with('/') {
            return Err(Error::Invalid(format!("the working directory `{}` is not absolute", process.cwd)));
        }
        let name = &self.hostname;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
            return Err(Error::Invalid(format!(
                "`{name}` is no host name: it must have 1 to 63 letters, digits, `-`, `.` or `_`"
            )));
        }
        for mount in &self.mounts {
            let target = &mount.target;
            if !target.starts_with('/')
                || target.split('/').any(|part| part == "..")
                || target.trim_matches('/').is_empty()
            {
                return Err(Error::Invalid(format!(
                    "`{target}` is no place for a mount: it must be an absolute path without `..`, and not `/`"
                )));
            }
            if !mount.source.is_absolute() {
                let source = mount.source.display();
                return Err(Error::Invalid(format!(
                    "`{source}` cannot be mounted: its path is not absolute"
                )));
            }
        }
        Ok(())
    }
}

impl Process {
    /// A command and its arguments, with nothing else set.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, env: Vec::new(), cwd: String::new(), user: String::new() }
    }

    /// What an image says, with `arguments`, unless there are none, in place of the image's command
    /// (its entry point stays), as `docker run IMAGE ARGUMENTS…` does it.
    pub fn of_image(image: &oci::Process, arguments: &[String]) -> Self {
        let command = if arguments.is_empty() { image.cmd.as_deref().unwrap_or_default() } else { arguments };
        let argv = image.entrypoint.iter().flatten().chain(command).cloned();
        let env = image.env.iter().flatten();
        Self {
            env: env
                .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            cwd: image.working_dir.clone().unwrap_or_default(),
            user: image.user.clone().unwrap_or_default(),
            ..Self::new(argv)
        }
    }

    /// Sets a variable, in place of one of the same name.
    pub fn set_env(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value.into()));
    }

    /// The environment with what every process gets.
    pub(crate) fn complete_env(&self, home: &str, hostname: &str) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        for (name, value) in [("PATH", DEFAULT_PATH), ("HOME", home), ("HOSTNAME", hostname)] {
            if !env.iter().any(|(set, _)| set == name) {
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        env
    }
}

/// Values of variables may be secret, so only their names are printed.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Process")
            .field("argv", &self.argv)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> oci::Process {
        oci::Process {
            user: Some("app:staff".into()),
            env: Some(vec!["PATH=/opt/venv/bin:/bin".into(), "TOKEN=s3cret=".into(), "BARE".into()]),
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["serve".into()]),
            working_dir: Some("/app".into()),
            ..oci::Process::default()
        }
    }

    #[test]
    fn arguments_replace_the_command_and_not_the_entry_point() {
        assert_eq!(Process::of_image(&image(), &[]).argv, ["/entry", "serve"]);
        assert_eq!(Process::of_image(&image(), &["sh".into()]).argv, ["/entry", "sh"]);
        let process = Process::of_image(&image(), &[]);
        assert_eq!((process.cwd.as_str(), process.user.as_str()), ("/app", "app:staff"));
        assert_eq!(process.env[1], ("TOKEN".into(), "s3cret=".into()));
        assert_eq!(process.env[2], ("BARE".into(), String::new()));
    }

    #[test]
    fn values_of_variables_are_not_printed() {
        let text = format!("{:?}", Container::new(Process::of_image(&image(), &[])));
        assert!(text.contains("TOKEN") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_set_stays() {
        let env = Process::of_image(&image(), &[]).complete_env("/home/app", "box");
        assert_eq!(env[0].1, "/opt/venv/bin:/bin");
        assert_eq!(env[3..], [("HOME".into(), "/home/app".into()), ("HOSTNAME".into(), "box".into())]);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = || Container::new(Process::new(["true"]));
        good().check().unwrap();
        let wrong: [fn(&mut Container); 8] = [
            |c| c.process.argv.clear(),
            |c| c.process.argv.push("a\0b".into()),
            |c| c.process.env.push(("A=B".into(), String::new())),
            |c| c.process.env.push((String::new(), String::new())),
            |c| c.process.cwd = "relative".into(),
            |c| c.hostname.clear(),
            |c| *c = c.clone().mount("/etc", "/a/../b", Access::ReadOnly),
            |c| *c = c.clone().mount("etc", "/a", Access::ReadOnly),
        ];
        for change in wrong {
            let mut container = good();
            change(&mut container);
            assert!(matches!(container.check(), Err(Error::Invalid(_))), "{container:?}");
        }
    }
}
