//! Values of options that are read from elsewhere: `@FILE` and `-`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use crate::failure::Failure;

/// Keys and passwords are a few kilobytes; what is larger is something else.
const LARGEST: u64 = 1 << 20;

/// The values that are meant: `@FILE` is the content of a file, `-` that of standard input, `@@text` is `@text`. The line
/// end that closes a file is no part of the value.
pub(crate) fn values(written: &BTreeMap<&'static str, String>) -> Result<BTreeMap<String, String>, Failure> {
    let from_stdin: Vec<_> =
        written.iter().filter(|(_, value)| *value == "-").map(|(name, _)| name).collect();
    if let [first, second, ..] = from_stdin[..] {
        return Err(Failure::Usage(format!(
            "--{first} and --{second} cannot both be read from standard input; write one of them to a file and give it as \
             @FILE"
        )));
    }
    let read = |(name, value): (&&'static str, &String)| Ok(((*name).to_owned(), resolve(name, value)?));
    written.iter().map(read).collect()
}

fn resolve(name: &str, value: &str) -> Result<String, Failure> {
    let fault = |what: &str, reason: &str| Failure::Usage(format!("--{name}: cannot read {what}: {reason}"));
    if value == "-" {
        return text(&mut io::stdin().lock()).map_err(|error| fault("standard input", &error.to_string()));
    }
    match value.strip_prefix('@') {
        None => Ok(value.to_owned()),
        Some(rest) if rest.starts_with('@') => Ok(rest.to_owned()),
        Some(path) => {
            let read = fs::File::open(Path::new(path)).and_then(|mut file| text(&mut file));
            read.map_err(|error| {
                let remedy =
                    "`@` is followed by a file's path; a value that begins with `@` is written `@@…`";
                fault(&format!("the file {path}"), &format!("{error}; {remedy}"))
            })
        }
    }
}

fn text(from: &mut dyn Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than a value can be (1 MiB)"));
    }
    let kept = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).map_or(text.len(), str::len);
    text.truncate(kept);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(value: &str) -> Result<String, String> {
        resolve("password", value).map_err(|failure| match failure {
            Failure::Usage(text) => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn values_come_from_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "hunter2\n").unwrap();
        assert_eq!(resolved(&format!("@{}", file.display())).unwrap(), "hunter2");
        fs::write(&file, "two\nlines\r\n").unwrap();
        assert_eq!(resolved(&format!("@{}", file.display())).unwrap(), "two\nlines");
        assert_eq!(resolved("@@home").unwrap(), "@home");
        assert_eq!(resolved("-x").unwrap(), "-x");
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_remedy() {
        let error = resolved("@/nonexistent/key.json").unwrap_err();
        assert!(error.starts_with("--password: cannot read the file /nonexistent/key.json: "), "{error}");
        assert!(error.contains("`@@…`"), "{error}");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LARGEST + 1).unwrap();
        let error = resolved(&format!("@{}", file.path().display())).unwrap_err();
        assert!(error.contains("larger than a value can be"), "{error}");
    }

    #[test]
    fn standard_input_is_read_once() {
        let written = BTreeMap::from([("password", "-".to_owned()), ("username", "-".to_owned())]);
        let Err(Failure::Usage(text)) = values(&written) else { panic!() };
        assert!(text.starts_with("--password and --username cannot both"), "{text}");
    }
}
