//! The distribution project's registry, as Debian packages it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::TokenServer;

/// How the registry knows who asks.
#[derive(Clone, Copy, Debug)]
pub enum Login<'a> {
    /// It does not.
    None,
    /// By a name and a password.
    Basic {
        /// The name.
        username: &'a str,
        /// The password.
        password: &'a str,
    },
    /// By the tokens of this service.
    Tokens(&'a TokenServer),
}

/// `docker-registry` on a free port of the loopback interface, with its content in a folder of its own. Dropping it ends
/// the process.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts it; returns when it listens.
    pub fn start(login: Login<'_>) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let auth = auth(login, folder.path())?;
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        // JSON is YAML.
        let text = serde_json::json!({
            "version": "0.1",
            "log": { "level": "info" },
            "storage": {
                "filesystem": { "rootdirectory": storage },
                "delete": { "enabled": true },
                "cache": { "blobdescriptor": "inmemory" },
            },
            "http": { "addr": "127.0.0.1:0", "secret": "of no use to anybody" },
            "auth": auth,
        });
        fs::write(&config, text.to_string())?;
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            // It would take podman's variable for a part of its configuration.
            .env_remove("REGISTRY_AUTH_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("docker-registry: {error}")))?;
        let address = child.stderr.take().ok_or_else(|| io::Error::other("no log")).and_then(listening);
        match address {
            Ok(address) => Ok(Self { child, address, folder }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its host, as image references name it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The folder with its content.
    pub fn storage(&self) -> std::path::PathBuf {
        self.folder.path().join("storage")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn auth(login: Login<'_>, folder: &Path) -> io::Result<serde_json::Value> {
    Ok(match login {
        Login::None => serde_json::json!({ "none": {} }),
        Login::Basic { username, password } => {
            let path = folder.join("htpasswd");
            fs::write(&path, htpasswd(username, password)?)?;
            serde_json::json!({ "htpasswd": { "realm": "test", "path": path } })
        }
        Login::Tokens(server) => {
            let bundle = folder.join("bundle.pem");
            let authority = server.authority();
            fs::write(&bundle, authority.certificate())?;
            serde_json::json!({ "token": {
                "realm": server.realm(),
                "service": authority.service(),
                "issuer": authority.issuer(),
                "rootcertbundle": bundle,
            } })
        }
    })
}

/// The line of a password file, with the password on the program's standard input.
fn htpasswd(username: &str, password: &str) -> io::Result<Vec<u8>> {
    let mut child = Command::new("htpasswd")
        .args(["-n", "-i", "-B", "-C", "5", username])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("htpasswd: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(password.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(output.stdout) } else { Err(io::Error::other("htpasswd failed")) }
}

/// The address that the log names. The rest of the log is read and dropped, so that the registry never waits for it.
fn listening(log: impl io::Read + Send + 'static) -> io::Result<SocketAddr> {
    let mut lines = BufReader::new(log).lines();
    let mut read = String::new();
    for line in lines.by_ref() {
        let line = line?;
        let address = line
            .split_once("listening on ")
            .map(|(_, rest)| rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect());
        if let Some(address) = address.and_then(|address: String| address.parse().ok()) {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(address);
        }
        read.push_str(&line);
        read.push('\n');
    }
    Err(io::Error::other(format!("docker-registry did not start: {read}")))
}
