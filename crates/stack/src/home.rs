//! Where longshore keeps things on this machine.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The key's name, beside the database.
pub(crate) const KEY_FILE: &str = "secrets.key";

/// The folders of data that must be kept, of caches that can be made again, and of the user's own settings.
///
/// `$LONGSHORE_HOME/{data,cache,config}` when that is set; else the XDG base directories: `$XDG_DATA_HOME/longshore`
/// (`~/.local/share/longshore`), `$XDG_CACHE_HOME/longshore` (`~/.cache/longshore`) and `$XDG_CONFIG_HOME/longshore`
/// (`~/.config/longshore`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    data: PathBuf,
    cache: PathBuf,
    config: PathBuf,
}

/// No folder can be named.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot tell where to keep data: HOME is not set; set LONGSHORE_HOME to a folder")]
pub struct HomeError;

impl Home {
    /// The folders that `variable`, a view of the environment, names.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HomeError> {
        // The XDG specification: a path that is not absolute is to be ignored.
        let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(home) = variable("LONGSHORE_HOME").filter(|home| !home.is_empty()) {
            let home = std::path::absolute(home).map_err(|_| HomeError)?;
            return Ok(Self {
                data: home.join("data"),
                cache: home.join("cache"),
                config: home.join("config"),
            });
        }
        let xdg = |name, default: &str| {
            folder(name)
                .or_else(|| Some(folder("HOME")?.join(default)))
                .map(|base| base.join("longshore"))
                .ok_or(HomeError)
        };
        Ok(Self {
            data: xdg("XDG_DATA_HOME", ".local/share")?,
            cache: xdg("XDG_CACHE_HOME", ".cache")?,
            config: xdg("XDG_CONFIG_HOME", ".config")?,
        })
    }

    /// The embedded registry: blobs, repositories, tags.
    pub fn registry(&self) -> PathBuf {
        self.data.join("registry")
    }

    /// The steps' outputs.
    pub fn artifacts(&self) -> PathBuf {
        self.data.join("artifacts")
    }

    /// The database of stacks, builds and runs. The key that seals its secrets is beside it.
    pub fn database(&self) -> PathBuf {
        self.data.join("state.db")
    }

    /// `hosts.toml`: where registries are really served.
    pub fn hosts_file(&self) -> PathBuf {
        self.config.join("hosts.toml")
    }

    /// The key that seals the secrets in the database.
    pub fn key_file(&self) -> PathBuf {
        self.database().with_file_name(KEY_FILE)
    }

    /// Downloaded wheels and Debian packages, by digest.
    pub fn downloads(&self) -> PathBuf {
        self.cache.join("downloads")
    }

    /// The table of pure functions.
    pub fn table(&self) -> PathBuf {
        self.cache.join("table")
    }

    /// What registries were found not to support.
    pub fn capabilities(&self) -> PathBuf {
        self.cache.join("registries.json")
    }

    /// Unpacked layers.
    pub fn snapshots(&self) -> PathBuf {
        self.cache.join("snapshots")
    }

    /// The root file systems of running containers.
    pub fn sandboxes(&self) -> PathBuf {
        self.cache.join("sandboxes")
    }

    /// The folder of all data that must be kept.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of all that can be made again.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder of the user's own settings.
    pub fn config(&self) -> &Path {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(variables: &[(&str, &str)]) -> Result<Home, HomeError> {
        let value = |name: &str| {
            variables.iter().find(|(this, _)| *this == name).map(|(_, value)| OsString::from(value))
        };
        Home::from_env(value)
    }

    #[test]
    fn the_xdg_folders_are_the_default() {
        let home = home(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/fast"), ("XDG_DATA_HOME", "relative")])
            .unwrap();
        assert_eq!(home.registry(), Path::new("/home/me/.local/share/longshore/registry"));
        assert_eq!(home.downloads(), Path::new("/fast/longshore/downloads"));
        assert_eq!(home.hosts_file(), Path::new("/home/me/.config/longshore/hosts.toml"));
    }

    #[test]
    fn one_variable_moves_everything() {
        let home = home(&[("LONGSHORE_HOME", "/x"), ("HOME", "/home/me")]).unwrap();
        assert_eq!((home.data(), home.cache()), (Path::new("/x/data"), Path::new("/x/cache")));
        assert_eq!(home.hosts_file(), Path::new("/x/config/hosts.toml"));
    }

    #[test]
    fn without_a_home_the_remedy_is_named() {
        assert_eq!(home(&[]), Err(HomeError));
    }
}
