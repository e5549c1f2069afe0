//! `.netrc`: credentials by host, as curl, pip and uv read them.

/// The name and password for a host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(***)")
    }
}

/// The entries of a file, in order.
#[derive(Debug, Default)]
pub(crate) struct Netrc(Vec<(Host, Login)>);

#[derive(Debug, PartialEq, Eq)]
enum Host {
    Named(String),
    Default,
}

impl Netrc {
    /// Reads a file. What is not understood is skipped: others' programs put things there too.
    pub(crate) fn parse(text: &str) -> Self {
        let mut entries: Vec<(Host, Login)> = Vec::new();
        let mut tokens = Tokens(text);
        while let Some(token) = tokens.next() {
            let nobody = || Login { name: String::new(), password: String::new() };
            match token.as_str() {
                "machine" => {
                    if let Some(host) = tokens.next() {
                        entries.push((Host::Named(host.to_ascii_lowercase()), nobody()));
                    }
                }
                "default" => entries.push((Host::Default, nobody())),
                "macdef" => tokens.skip_macro(),
                "login" | "password" | "account" => {
                    if let (Some(value), Some((_, login))) = (tokens.next(), entries.last_mut()) {
                        match token.as_str() {
                            "login" => login.name = value,
                            "password" => login.password = value,
                            _ => {}
                        }
                    }
                }
                _ if token.starts_with('#') => tokens.skip_line(),
                _ => {}
            }
        }
        Self(entries)
    }

    /// The first entry for a host, else the default entry.
    pub(crate) fn get(&self, host: &str) -> Option<&Login> {
        let find = |wanted: &Host| self.0.iter().find(|(host, _)| host == wanted).map(|(_, login)| login);
        find(&Host::Named(host.to_ascii_lowercase())).or_else(|| find(&Host::Default))
    }
}

/// Words between blanks. A word in double quotes may have blanks in it; in it a backslash makes the next character plain.
/// A word that begins with `#` begins a comment, but not where a value is expected, so that passwords may.
struct Tokens<'a>(&'a str);

impl Tokens<'_> {
    fn next(&mut self) -> Option<String> {
        self.0 = self.0.trim_start();
        let mut characters = self.0.chars();
        let mut token = String::new();
        if self.0.starts_with('"') {
            characters.next();
            while let Some(character) = characters.next() {
                match character {
                    '"' => break,
                    '\\' => token.extend(characters.next()),
                    other => token.push(other),
                }
            }
        } else {
            let end = self.0.find(char::is_whitespace).unwrap_or(self.0.len());
            token.push_str(&self.0[..end]);
            characters = self.0[end..].chars();
            if token.is_empty() {
                return None;
            }
        }
        self.0 = characters.as_str();
        Some(token)
    }

    fn skip_line(&mut self) {
        self.0 = self.0.split_once('\n').map_or("", |(_, rest)| rest);
    }

    /// A macro ends at an empty line.
    fn skip_macro(&mut self) {
        self.0 = self.0.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login(name: &str, password: &str) -> Login {
        Login { name: name.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn entries_are_found_by_host() {
        let netrc = Netrc::parse(
            "# mine\n#machine off login x password y\n# machine off login x\n#\nmachine Index.Example.com\n  login me password s3cret\nmachine b login \"a b\" password \"q\\\"x\" \
             account z\nmacdef init\nmachine evil login x password y\n\nmachine c password only\nmachine b login later",
        );
        assert_eq!(netrc.get("index.example.com"), Some(&login("me", "s3cret")));
        assert_eq!(netrc.get("b"), Some(&login("a b", "q\"x")));
        assert_eq!(netrc.get("c"), Some(&login("", "only")));
        assert_eq!(netrc.get("evil"), None);
        assert_eq!(netrc.get("off"), None);
        assert_eq!(netrc.get("example.com"), None);
        assert_eq!(netrc.get("x.index.example.com"), None);
    }

    #[test]
    fn the_default_entry_serves_the_others() {
        let netrc = Netrc::parse("machine a login a password a\ndefault login anonymous password #1");
        assert_eq!(netrc.get("a"), Some(&login("a", "a")));
        assert_eq!(netrc.get("z"), Some(&login("anonymous", "#1")));
    }

    #[test]
    fn a_login_is_not_printed() {
        assert_eq!(format!("{:?}", login("me", "s3cret")), "Login(***)");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = Netrc::parse(&text).get("a");
        }

        #[test]
        fn any_plain_password_survives(password in "[!-~&&[^\"]][!-~]{0,20}") {
            let netrc = Netrc::parse(&format!("machine h login u password {password}\n"));
            prop_assert_eq!(netrc.get("h"), Some(&login("u", &password)));
        }
    }
}
