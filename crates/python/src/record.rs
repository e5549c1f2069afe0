//! RECORD: the list of a distribution's files (Recording installed packages).

use longshore_oci::Digest;
use serde::{Deserialize, Serialize};

/// A line of RECORD. Ordered as uv writes lines: by path, then hash, then size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordLine {
    /// The file, relative to `site-packages`.
    pub path: String,
    /// `sha256=` and the digest in base64, if it is stated.
    pub hash: Option<String>,
    /// The size in bytes, if it is stated.
    pub size: Option<u64>,
}

impl RecordLine {
    /// The line of a file with this content.
    pub fn of(path: impl Into<String>, content: &[u8]) -> Self {
        let (hash, size) = hash_and_size(content);
        Self { path: path.into(), hash: Some(hash), size: Some(size) }
    }
}

/// Hash and size as RECORD writes them.
pub(crate) fn hash_and_size(content: &[u8]) -> (String, u64) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    (format!("sha256={}", URL_SAFE_NO_PAD.encode(Digest::of(content).as_bytes())), content.len() as u64)
}

/// Reads RECORD as a wheel has it.
pub fn parse(bytes: &[u8]) -> Result<Vec<RecordLine>, csv::Error> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).escape(Some(b'"')).from_reader(bytes);
    reader
        .deserialize()
        .map(|line| {
            let line: RecordLine = line?;
            // Some wheels give absolute paths and mean relative ones.
            Ok(RecordLine { path: line.path.trim_start_matches('/').to_owned(), ..line })
        })
        .collect()
}

/// Writes RECORD, sorted.
pub fn print(mut lines: Vec<RecordLine>) -> Result<Vec<u8>, csv::Error> {
    lines.sort();
    let mut writer = csv::WriterBuilder::new().has_headers(false).escape(b'"').from_writer(Vec::new());
    for line in lines {
        writer.serialize(line)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_as_uv_writes_them() {
        let lines = vec![
            RecordLine { path: "x-1.dist-info/RECORD".into(), hash: None, size: None },
            RecordLine::of("../../../bin/a,b", b"4\n"),
        ];
        let text = String::from_utf8(print(lines).unwrap()).unwrap();
        assert_eq!(
            text,
            "\"../../../bin/a,b\",sha256=CuPZIaXRn0TBx63MSHMB4FbxhNlXGHjZZhZNjGzEBaM,2\nx-1.dist-info/RECORD,,\n"
                .replace("CuPZIaXRn0TBx63MSHMB4FbxhNlXGHjZZhZNjGzEBaM", &hash_and_size(b"4\n").0[7..])
        );
        assert_eq!(hash_and_size(b"").0, "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn what_is_not_a_record_is_an_error() {
        for wrong in [&b"a,b\nc,d,1\n"[..], b"a,sha256=x,many\n", b"\xff,,\n", b"a,,-1\n"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parse(b"/abs/path.py,,\r\n").unwrap()[0].path, "abs/path.py");
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(
            lines in proptest::collection::vec(("[^/\r\n\u{feff}]\\PC{0,20}", proptest::option::of("sha256=[a-z]{1,8}"), proptest::option::of(0u64..)), 0..8)
        ) {
            let mut lines: Vec<RecordLine> =
                lines.into_iter().map(|(path, hash, size)| RecordLine { path, hash, size }).collect();
            let again = parse(&print(lines.clone()).unwrap()).unwrap();
            lines.sort();
            prop_assert_eq!(again, lines);
        }

        #[test]
        fn parsing_never_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
