//! Which files of packages an image's dpkg leaves out (dpkg(1), `--path-exclude`): slim images have no documentation.

use longshore_layer::{EntryPath, Kind};

use super::system::System;

/// The rules, in their order: the last that matches a path decides.
#[derive(Debug, Default)]
pub(super) struct Filters {
    rules: Vec<(Rule, String)>,
    /// A setting that is not understood here and changes what an installation does.
    pub(super) other: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Exclude,
    Include,
}

impl Filters {
    pub(super) fn of(system: &System) -> Self {
        let mut filters = Self::default();
        let mut texts = Vec::new();
        for (_, text) in system.files_in("etc/dpkg/dpkg.cfg.d") {
            texts.push(String::from_utf8_lossy(text).into_owned());
        }
        texts.extend(system.text("etc/dpkg/dpkg.cfg"));
        for line in texts.iter().flat_map(|text| text.lines()) {
            filters.line(line.trim());
        }
        filters
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let (name, value) = line.split_once(['=', ' ', '\t']).unwrap_or((line, ""));
        let value = value.trim().trim_matches(['"', '\'']);
        let rule = match name.trim_start_matches('-') {
            "path-exclude" => Rule::Exclude,
            "path-include" => Rule::Include,
            // How dpkg behaves towards its user and the disk.
            "no-debsig" | "log" | "force-unsafe-io" | "force-confold" | "force-confdef" => return,
            _ => {
                self.other.get_or_insert_with(|| line.to_owned());
                return;
            }
        };
        if value.contains(['[', '\\']) {
            self.other.get_or_insert_with(|| line.to_owned());
        }
        self.rules.push((rule, value.to_owned()));
    }

    /// Whether a path goes into the image. Directories and links do, like dpkg's, if something below them may.
    pub(super) fn wants(&self, path: &EntryPath, kind: &Kind) -> bool {
        let path = format!("/{path}");
        let last = self.rules.iter().rev().find(|(_, pattern)| matches(pattern.as_bytes(), path.as_bytes()));
        if last.is_none_or(|(rule, _)| *rule == Rule::Include) {
            return true;
        }
        matches!(kind, Kind::Directory | Kind::Symlink { .. })
            && self.rules.iter().any(|(rule, pattern)| {
                let fixed = pattern.split(['*', '?']).next().unwrap_or_default().trim_end_matches('/');
                *rule == Rule::Include && !fixed.is_empty() && path.starts_with(fixed)
            })
    }
}

/// `*` stands for any text, slashes too, `?` for one character, as for fnmatch(3) without flags.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while here < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[here] => {
                at += 1;
                here += 1;
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                (at, here) = (star_at + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{super::system::tests::system, *};
    use proptest::prelude::*;

    #[test]
    fn the_last_rule_that_matches_decides() {
        let image = system(&[&[(
            "etc/dpkg/dpkg.cfg.d/docker",
            "# slim\npath-exclude=/usr/share/doc/*\npath-exclude /usr/share/locale/*/LC_MESSAGES/*.mo\n\
             path-include=/usr/share/doc/*/copyright\nforce-unsafe-io\n",
        )]]);
        let filters = Filters::of(&image);
        let wants = |path: &str, kind: &Kind| filters.wants(&EntryPath::new(path).unwrap(), kind);
        let link = Kind::Symlink { target: "x".to_owned() };
        assert!(!wants("usr/share/doc/bash/README", &Kind::File));
        assert!(wants("usr/share/doc/bash/copyright", &Kind::File));
        assert!(wants("usr/share/doc/bash", &Kind::Directory) && wants("usr/share/doc/bash", &link));
        assert!(!wants("usr/share/locale/de/LC_MESSAGES/a.mo", &Kind::File));
        assert!(wants("usr/share/locale/de", &Kind::Directory));
        assert_eq!(filters.other, None);
        let hook = system(&[&[("etc/dpkg/dpkg.cfg", "post-invoke=/bin/x\n")]]);
        assert_eq!(Filters::of(&hook).other.as_deref(), Some("post-invoke=/bin/x"));
    }

    proptest! {
        #[test]
        fn patterns_match_as_expressions_do(pattern in "[ab/*?]{0,6}", text in "[ab/]{0,8}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
                    Some((byte, rest)) => !text.is_empty() && (*byte == b'?' || *byte == text[0]) && slow(rest, &text[1..]),
                }
            }
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
