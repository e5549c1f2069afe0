//! The table of pure functions (DESIGN §2.2): what was computed once, by kind and inputs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

mod session;

use session::Session;
pub use session::{Elsewhere, Found, UsedRow};

use longshore_oci::Digest;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Result, StoreError, error::Context, staging::Staging};

/// Rows (kind, key) → value in files `<kind>/<2 digits>/<sha256 of kind and key>.json`.
///
/// A row is a memory, not a record: one that is lost or damaged reads as absent and is computed again. So rows are
/// atomic but not made durable one by one, and each has a checksum.
#[derive(Clone, Debug)]
pub struct Table {
    root: PathBuf,
    staging: Arc<Staging>,
    session: Option<Arc<Session>>,
}

impl Table {
    /// The table in `root`, which is made when something is first written.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref()).doing("find", root.as_ref())?;
        let staging = Arc::new(Staging::open(&root)?);
        Ok(Self { root, staging, session: None })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The value of a row, if there is one and it reads as a `V`.
    pub fn get<V: DeserializeOwned>(&self, kind: &str, key: &impl Serialize) -> Option<V> {
        let row = Row::new(kind, key).ok()?;
        match &self.session {
            None => serde_json::from_str(&self.read(&row)?).ok(),
            Some(session) => session.get(&row, || self.read(&row)),
        }
    }

    /// The text of a row's value.
    fn read(&self, row: &Row<'_>) -> Option<String> {
        let bytes = fs::read(self.root.join(row.path())).ok()?;
        let (text, tail) = bytes.split_at_checked(bytes.len().checked_sub(TAIL)?)?;
        let value = text.strip_prefix(row.head().as_bytes())?;
        (tail == self::tail(text).as_bytes()).then(|| String::from_utf8(value.to_vec()).ok())?
    }

    /// Writes a row, in place of what it was.
    pub fn put(&self, kind: &str, key: &impl Serialize, value: &impl Serialize) -> Result<()> {
        let row = Row::new(kind, key)?;
        let value = canonical(kind, value)?;
        self.write(&row, &value)?;
        if let Some(session) = &self.session {
            session.note(&row, value, Found::Made);
        }
        Ok(())
    }

    fn write(&self, row: &Row<'_>, value: &str) -> Result<()> {
        let path = self.root.join(row.path());
        let text = format!("{}{value}", row.head());
        let text = format!("{text}{}", tail(text.as_bytes()));
        self.staging.write(&path, text.as_bytes())?.replace(&path)
    }

    /// Forgets a row; says whether it was there.
    pub fn remove(&self, kind: &str, key: &impl Serialize) -> Result<bool> {
        crate::folder::remove_file(&self.root.join(Row::new(kind, key)?.path()))
    }
}

/// How long the end of a row is.
const TAIL: usize = r#","crc32":"00000000"}"#.len() + 1;

/// What follows the value of a row: the checksum of all that stands before.
fn tail(text: &[u8]) -> String {
    format!(",\"crc32\":\"{:08x}\"}}\n", crc32fast::hash(text))
}

/// A row's place.
struct Row<'a> {
    kind: &'a str,
    key: String,
    name: String,
}

impl<'a> Row<'a> {
    fn new(kind: &'a str, key: &impl Serialize) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if kind.is_empty() || kind == "tmp" || !kind.chars().all(plain) {
            return Err(StoreError::Kind(kind.to_owned()));
        }
        let key = canonical(kind, key)?;
        let name = Digest::of(format!("[\"{kind}\",{key}]")).hex();
        Ok(Self { kind, key, name })
    }

    /// `{"kind":…,"key":…,"value":`; what follows is the value. A file that begins otherwise is another row's.
    fn head(&self) -> String {
        format!("{{\"kind\":\"{}\",\"key\":{},\"value\":", self.kind, self.key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn table() -> (tempfile::TempDir, Table) {
        let root = tempfile::tempdir().unwrap();
        let table = Table::open(root.path()).unwrap();
        (root, table)
    }

    fn only_file(table: &Table) -> PathBuf {
        let row = Row::new("layer", &json!({ "a": 1 })).unwrap();
        table.root.join(row.path())
    }

    #[test]
    fn the_order_of_a_map_does_not_matter() {
        let (_root, table) = table();
        table.put("layer", &json!({ "b": [1, { "z": 1, "a": 2 }], "a": 1 }), &"v").unwrap();
        let key: Value = serde_json::from_str(r#"{"a":1,"b":[1,{"a":2,"z":1}]}"#).unwrap();
        assert_eq!(table.get::<String>("layer", &key).as_deref(), Some("v"));
        assert_eq!(table.get::<String>("wheel", &key), None, "kinds are apart");
        assert!(table.remove("layer", &key).unwrap());
        assert_eq!(table.get::<String>("layer", &key), None);
    }

    #[test]
    fn a_damaged_row_reads_as_absent_and_can_be_written_again() {
        let (_root, table) = table();
        let key = json!({ "a": 1 });
        let value = json!({ "digest": "d", "size": 5 });
        table.put("layer", &key, &value).unwrap();
        let whole = fs::read(only_file(&table)).unwrap();
        for length in 0..whole.len() {
            fs::write(only_file(&table), &whole[..length]).unwrap();
            assert_eq!(table.get::<Value>("layer", &key), None, "{length} bytes");
            let mut torn = whole.clone();
            torn[length..].fill(0);
            fs::write(only_file(&table), &torn).unwrap();
            assert_eq!(table.get::<Value>("layer", &key), None, "zeros after {length} bytes");
            let mut flipped = whole.clone();
            flipped[length] ^= 1;
            fs::write(only_file(&table), &flipped).unwrap();
            assert_eq!(table.get::<Value>("layer", &key), None, "another bit in byte {length}");
        }
        // Another row's file in this place, as after a collision or a hand that copied files.
        let other = String::from_utf8(whole.clone()).unwrap().replace("\"a\":1", "\"a\":2");
        fs::write(only_file(&table), other).unwrap();
        assert_eq!(table.get::<Value>("layer", &key), None);
        table.put("layer", &key, &value).unwrap();
        assert_eq!(table.get("layer", &key), Some(value));
        assert_eq!(fs::read(only_file(&table)).unwrap(), whole);
    }

    #[test]
    fn a_value_of_another_shape_reads_as_absent() {
        let (_root, table) = table();
        table.put("layer", &1, &json!({ "new": true })).unwrap();
        assert_eq!(table.get::<u32>("layer", &1), None);
    }

    #[test]
    fn a_kind_is_a_plain_name() {
        let (_root, table) = table();
        for kind in ["", "..", "a/b", "A", "tmp", "a\"b"] {
            assert!(matches!(table.put(kind, &1, &1), Err(StoreError::Kind(_))), "{kind:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn what_is_put_is_got(rows: BTreeMap<String, (Vec<u64>, String)>) {
            let (_root, table) = table();
            for (key, value) in &rows {
                table.put("kind", key, value).unwrap();
            }
            for (key, value) in &rows {
                prop_assert_eq!(&table.get::<(Vec<u64>, String)>("kind", key).unwrap(), value);
            }
        }
    }
}
