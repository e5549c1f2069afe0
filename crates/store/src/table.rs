//! The table of pure functions (DESIGN §2.2): what was computed once, by kind and inputs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use longshore_oci::Digest;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Result, StoreError, error::Context, staging::Staging};

/// Rows (kind, key) → value in files `<kind>/<2 digits>/<sha256 of kind and key>.json`.
///
/// A row is a memory, not a record: one that is lost or damaged reads as absent and is computed again. So rows are
/// atomic but not made durable one by one.
#[derive(Clone, Debug)]
pub struct Table {
    root: PathBuf,
    staging: Arc<Staging>,
}

impl Table {
    /// The table in `root`, which is made when something is first written.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref()).doing("find", root.as_ref())?;
        let staging = Arc::new(Staging::open(&root)?);
        Ok(Self { root, staging })
    }

    /// The value of a row, if there is one and it reads as a `V`.
    pub fn get<V: DeserializeOwned>(&self, kind: &str, key: &impl Serialize) -> Option<V> {
        let row = Row::new(kind, key).ok()?;
        let bytes = fs::read(self.root.join(row.path())).ok()?;
        let value = bytes.strip_prefix(row.head.as_bytes())?.strip_suffix(b"}\n")?;
        serde_json::from_slice(value).ok()
    }

    /// Writes a row, in place of what it was.
    pub fn put(&self, kind: &str, key: &impl Serialize, value: &impl Serialize) -> Result<()> {
        let row = Row::new(kind, key)?;
        let path = self.root.join(row.path());
        let value = canonical(kind, value)?;
        let text = format!("{}{value}}}\n", row.head);
        self.staging.write(&path, text.as_bytes())?.replace(&path)
    }

    /// Forgets a row; says whether it was there.
    pub fn remove(&self, kind: &str, key: &impl Serialize) -> Result<bool> {
        crate::folder::remove_file(&self.root.join(Row::new(kind, key)?.path()))
    }
}

/// The place of a row and how its file begins.
struct Row<'a> {
    kind: &'a str,
    name: String,
    /// `{"kind":…,"key":…,"value":`; what follows is the value. A file that begins otherwise is another row's.
    head: String,
}

impl<'a> Row<'a> {
    fn new(kind: &'a str, key: &impl Serialize) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if kind.is_empty() || kind == "tmp" || !kind.chars().all(plain) {
            return Err(StoreError::Kind(kind.to_owned()));
        }
        let key = canonical(kind, key)?;
        let name = Digest::of(format!("[\"{kind}\",{key}]")).hex();
        Ok(Self { kind, name, head: format!("{{\"kind\":\"{kind}\",\"key\":{key},\"value\":") })
    }

    fn path(&self) -> PathBuf {
        [self.kind, &self.name[..2], &format!("{}.json", self.name)].iter().collect()
    }
}

/// JSON without blanks, maps sorted.
fn canonical(kind: &str, value: &impl Serialize) -> Result<String> {
    let wrong = |source| StoreError::Row { kind: kind.to_owned(), source };
    let mut value = serde_json::to_value(value).map_err(wrong)?;
    value.sort_all_objects();
    serde_json::to_string(&value).map_err(wrong)
}
