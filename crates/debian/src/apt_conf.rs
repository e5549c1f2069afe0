//! apt's configuration language (apt.conf(5)): as much of it as says how archives are reached and trusted.

use std::{fs, path::Path};

use crate::{Error, error::io};

/// Settings in the order they were made; names joined by `::`, compared without regard to case.
#[derive(Clone, Debug, Default)]
pub(crate) struct AptConf {
    settings: Vec<(String, String)>,
}

impl AptConf {
    /// Reads `etc/apt/apt.conf.d/*` and `etc/apt/apt.conf` below `root`, in apt's order.
    pub(crate) fn read(root: &Path) -> Result<Self, Error> {
        let mut conf = Self::default();
        for path in fragments(&root.join("etc/apt/apt.conf.d"), &["", "conf"])? {
            conf.file(&path)?;
        }
        let last = root.join("etc/apt/apt.conf");
        if last.exists() {
            conf.file(&last)?;
        }
        Ok(conf)
    }

    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let text = fs::read_to_string(path).map_err(io("read", path))?;
        self.parse(&text).map_err(|line| Error::AptConfiguration {
            place: format!("{}:{line}", path.display()),
            why: "this is not apt's configuration syntax (apt.conf(5))".to_owned(),
        })
    }

    /// The last value of a setting.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A setting as apt reads a truth value.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        truth(self.get(name)?)
    }

    /// Adds the settings of a text; the error is the line that cannot be read.
    fn parse(&mut self, text: &str) -> Result<(), usize> {
        let mut scopes: Vec<String> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut tokens = Tokens { rest: text, line: 1 };
        while let Some(token) = tokens.next()? {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => scopes.push(words.drain(..).next().ok_or(tokens.line)?),
                Token::Close => {
                    scopes.pop().ok_or(tokens.line)?;
                    words.clear();
                }
                Token::End => {
                    let mut statement = words.drain(..);
                    let Some(name) = statement.next() else { continue };
                    if name.starts_with('#') {
                        continue;
                    }
                    let value = statement.next().unwrap_or_default();
                    let mut full = scopes.clone();
                    full.push(name);
                    self.settings.push((full.join("::"), value));
                }
            }
        }
        if scopes.is_empty() && words.is_empty() { Ok(()) } else { Err(tokens.line) }
    }
}

/// Truth values as apt spells them.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "with" | "on" | "enable" | "1" => Some(true),
        "no" | "false" | "without" | "off" | "disable" | "0" => Some(false),
        _ => None,
    }
}

/// The files of a configuration folder that apt would read: sorted, with one of `extensions`, and a plain name. A
/// folder that does not exist has none.
pub(crate) fn fragments(folder: &Path, extensions: &[&str]) -> Result<Vec<std::path::PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("read", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(io("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        let plain =
            !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if plain && extensions.contains(&extension) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl Tokens<'_> {
    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// The next token; `#clear` and `#include` statements come as words like any other, comments not at all.
    fn next(&mut self) -> Result<Option<Token>, usize> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            let directive =
                ["#clear", "#include", "#x-apt-configure-index"].iter().any(|it| self.rest.starts_with(it));
            if self.rest.starts_with("//") || (self.rest.starts_with('#') && !directive) {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").ok_or(self.line)?;
                self.take(end + 2);
            } else {
                break;
            }
        }
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        Ok(Some(match first {
            '{' | '}' | ';' => {
                self.take(1);
                match first {
                    '{' => Token::Open,
                    '}' => Token::Close,
                    _ => Token::End,
                }
            }
            '"' => {
                let end = self.rest[1..].find('"').ok_or(self.line)?;
                let word = self.take(end + 2);
                Token::Word(word[1..=end].to_owned())
            }
            _ => {
                let end = self.rest.find(|c: char| c.is_whitespace() || "{};\"".contains(c));
                Token::Word(self.take(end.unwrap_or(self.rest.len())).to_owned())
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conf(text: &str) -> AptConf {
        let mut conf = AptConf::default();
        conf.parse(text).unwrap();
        conf
    }

    #[test]
    fn scopes_and_comments_are_read() {
        let conf = conf(
            "// one\nAcquire::http::Proxy \"http://proxy:3128/\"; /* two\n */ APT { NeverAutoRemove { \"^x\"; };\n # three\n};\n\
             Acquire { https { CAInfo \"/ca.crt\"; }; Check-Valid-Until \"false\"; }\n#clear Foo;\nacquire::HTTP::proxy DIRECT;",
        );
        assert_eq!(conf.get("Acquire::http::Proxy"), Some("DIRECT"));
        assert_eq!(conf.get("acquire::https::cainfo"), Some("/ca.crt"));
        assert_eq!(conf.flag("Acquire::Check-Valid-Until"), Some(false));
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_its_line() {
        for (text, line) in [("a \"b\";\nc {", 2), ("a \"b", 1), ("}", 1), ("a \"b\";\n\n a", 3)] {
            assert_eq!(AptConf::default().parse(text), Err(line), "{text}");
        }
    }

    #[test]
    fn apt_agrees_on_this_machine() {
        let conf = AptConf::read(Path::new("/")).unwrap();
        for name in ["Acquire::Check-Valid-Until", "Acquire::GzipIndexes", "Acquire::http::Proxy"] {
            let command =
                std::process::Command::new("apt-config").args(["shell", "X", name]).output().unwrap();
            let apt = String::from_utf8(command.stdout).unwrap();
            let ours = conf.get(name).map(|value| format!("X='{value}'")).unwrap_or_default();
            assert_eq!(apt.trim(), ours, "{name}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String, braces in "[{};\"a #/*\n]{0,24}") {
            let _ = AptConf::default().parse(&text);
            let _ = AptConf::default().parse(&braces);
        }
    }
}
