//! `.dockerignore`: which paths Docker leaves out of a build context.
//!
//! The rules are those of `github.com/moby/patternmatcher` and of the walk in `github.com/tonistiigi/fsutil`, which is
//! what a docker client sends; a table made by those two packages is held against this in `tests/data`.

use std::fmt::Write;

use regex::Regex;

/// The name of the file, at the root of the source.
pub(crate) const DOCKERIGNORE: &str = ".dockerignore";

/// A pattern that Docker refuses too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of .dockerignore: the pattern `{pattern}` {problem}")]
pub struct PatternError {
    /// The line, from 1.
    pub line: usize,
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The patterns of a `.dockerignore`, in order.
#[derive(Clone, Debug)]
pub(crate) struct Dockerignore {
    patterns: Vec<Pattern>,
    descent: Descent,
}

/// Whether to look below a folder that is left out, for what an exception takes back in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descent {
    /// There are no exceptions.
    Never,
    /// Every exception is a plain path, so only above one of them.
    AbovePlainExceptions,
    /// An exception has wildcards, and could be about anything.
    Always,
}

#[derive(Clone, Debug)]
struct Pattern {
    effect: Effect,
    /// The pattern without `!`, cleaned.
    text: String,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    LeavesOut,
    TakesIn,
}

/// How a pattern is compared. That a pattern which begins with `**` and has no other wildcard is a plain suffix, so
/// that `**foo` means `*foo` anywhere, is moby's doing.
#[derive(Clone, Debug)]
enum Shape {
    Exact,
    /// Ends in `**`: this is what stands before.
    Prefix(String),
    /// Begins with `**`: this is what stands after.
    Suffix(String),
    Regex(Regex),
}

/// What became of a path, and what the paths below it need to know.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether the path itself is left out.
    pub(crate) left_out: bool,
    /// Which patterns matched it or a folder above it.
    matched: Box<[bool]>,
}

impl Dockerignore {
    /// Reads the text of the file.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let pattern = Pattern::parse(line.trim()).map_err(|problem| PatternError {
                line: index + 1,
                pattern: line.trim().to_owned(),
                problem,
            })?;
            patterns.push(pattern);
        }
        let exceptions = || patterns.iter().filter(|pattern: &&Pattern| pattern.effect == Effect::TakesIn);
        let descent = if exceptions().next().is_none() {
            Descent::Never
        } else if exceptions().any(|pattern| pattern.stem().contains(['*', '[', ']', '?', '^', '\\'])) {
            Descent::Always
        } else {
            Descent::AbovePlainExceptions
        };
        Ok(Self { patterns, descent })
    }

    /// Judges a path whose parts are separated by `/`; `parent` is what was said of the folder that holds it.
    ///
    /// A pattern that matches a folder matches all below it; the last pattern that matches decides. Patterns that
    /// could not change the outcome for a folder are not tried on it, and so do not count for what is below: after
    /// `a/b` and `!a`, `a/b` stays out.
    pub(crate) fn judge(&self, path: &str, parent: Option<&Verdict>) -> Verdict {
        let mut left_out = false;
        let mut matched = vec![false; self.patterns.len()].into_boxed_slice();
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.is_some_and(|parent| parent.matched[index]);
            let matters = (pattern.effect == Effect::LeavesOut) != left_out;
            if inherited || (matters && pattern.matches(path)) {
                matched[index] = true;
                left_out = pattern.effect == Effect::LeavesOut;
            }
        }
        Verdict { left_out, matched }
    }

    /// Whether something below a folder that is left out can be taken in all the same.
    pub(crate) fn descends_into(&self, folder: &str) -> bool {
        match self.descent {
            Descent::Never => false,
            Descent::Always => true,
            Descent::AbovePlainExceptions => {
                let inside = format!("{folder}/");
                let exceptions = self.patterns.iter().filter(|pattern| pattern.effect == Effect::TakesIn);
                exceptions.into_iter().any(|pattern| format!("{}/", pattern.stem()).starts_with(&inside))
            }
        }
    }
}

impl Pattern {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (effect, rest) = match line.strip_prefix('!') {
            Some(rest) => (Effect::TakesIn, rest.trim()),
            None => (Effect::LeavesOut, line),
        };
        if rest.is_empty() {
            return Err("names nothing after `!`");
        }
        let cleaned = clean(rest);
        let text = match cleaned.strip_prefix('/') {
            Some(relative) if !relative.is_empty() => relative.to_owned(),
            _ => cleaned,
        };
        check_syntax(&text)?;
        let shape = Shape::of(&text)?;
        Ok(Self { effect, text, shape })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact => path == self.text,
            Shape::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Shape::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Shape::Regex(regex) => regex.is_match(path),
        }
    }

    /// The pattern without a last part of stars, which everything below the rest matches.
    fn stem(&self) -> &str {
        let text = self.text.strip_suffix("/**").unwrap_or(&self.text);
        text.strip_suffix("/*").unwrap_or(text)
    }
}

impl Shape {
    fn of(pattern: &str) -> Result<Self, &'static str> {
        let mut regex = String::from("^");
        let mut shape = Self::Exact;
        let mut class = Class::Outside;
        let mut chars = pattern.chars().peekable();
        let mut first = true;
        // Regexes are built for every pattern, and used where no simpler comparison says the same.
        let mut wild = false;
        while let Some(char) = chars.next() {
            match char {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    if chars.peek().is_some() {
                        regex.push_str("(.*/)?");
                        wild = true;
                    } else if matches!(shape, Self::Exact) && !wild {
                        shape = Self::Prefix(pattern[..pattern.len() - 2].to_owned());
                    } else {
                        regex.push_str(".*");
                        wild = true;
                    }
                    if first {
                        shape = Self::Suffix(pattern[2..].to_owned());
                        wild = false;
                    }
                }
                '*' => {
                    regex.push_str("[^/]*");
                    wild = true;
                }
                '?' => {
                    regex.push_str("[^/]");
                    wild = true;
                }
                '\\' => {
                    // The syntax has been checked: something follows.
                    escape(&mut regex, chars.next().unwrap_or('\\'));
                    wild = true;
                }
                '[' if class == Class::Outside => {
                    regex.push('[');
                    if chars.next_if_eq(&'^').is_some() {
                        regex.push('^');
                    }
                    class = Class::Inside;
                    wild = true;
                }
                ']' => {
                    regex.push_str(if class == Class::Inside { "]" } else { "\\]" });
                    class = Class::Outside;
                    wild = true;
                }
                '-' if class == Class::Inside => regex.push('-'),
                other => literal(&mut regex, other),
            }
            first = false;
        }
        if !wild {
            return Ok(shape);
        }
        regex.push('$');
        let regex = Regex::new(&regex)
            .map_err(|_| "is not one that Docker can read: a range or an escape in it has no meaning")?;
        Ok(Self::Regex(regex))
    }
}

/// Whether a character stands in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Inside,
    Outside,
}

/// A character that means itself, in a regex.
fn literal(regex: &mut String, char: char) {
    if char.is_ascii_punctuation() {
        // Writing to a string does not fail.
        let _ = write!(regex, "\\x{:02x}", u32::from(char));
    } else {
        regex.push(char);
    }
}

/// A character after `\`. Letters mean there what they mean in Go's regexes, in which Docker compares: `\d` is a digit.
fn escape(regex: &mut String, char: char) {
    if char.is_ascii_alphanumeric() {
        regex.push('\\');
        regex.push(char);
    } else {
        literal(regex, char);
    }
}

/// What Go's `filepath.Match` asks of a pattern.
fn check_syntax(pattern: &str) -> Result<(), &'static str> {
    let open = "opens a bracket that nothing closes";
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if chars.next().is_none() => return Err("ends in a `\\` that escapes nothing"),
            '[' => {
                chars.next_if_eq(&'^');
                let mut empty = true;
                while empty || chars.next_if_eq(&']').is_none() {
                    member(&mut chars).ok_or(open)?;
                    if chars.next_if_eq(&'-').is_some() {
                        member(&mut chars).ok_or(open)?;
                    }
                    empty = false;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// One end of a range in brackets.
fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        other => Some(other),
    }
}

/// The shortest path that means the same, as Go's `filepath.Clean` has it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    struct Cases {
        tree: Vec<String>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        file: String,
        #[serde(default)]
        taken: String,
        #[serde(default)]
        error: bool,
    }

    /// What of a sorted tree is taken: files, and folders that are not left out or that hold something taken.
    fn taken(rules: &Dockerignore, tree: &[String]) -> String {
        let mut verdicts: BTreeMap<&str, (Verdict, bool)> = BTreeMap::new();
        let mut taken = vec![false; tree.len()];
        for (index, entry) in tree.iter().enumerate() {
            let path = entry.trim_end_matches('/');
            let parent = path.rsplit_once('/').map(|(parent, _)| &verdicts[parent]);
            let reached = parent.is_none_or(|(_, open)| *open);
            let verdict = rules.judge(path, parent.map(|(verdict, _)| verdict));
            let open = reached && (!verdict.left_out || rules.descends_into(path));
            if reached && !verdict.left_out {
                for (above, name) in tree.iter().enumerate() {
                    taken[above] |=
                        above == index || (name.ends_with('/') && path.starts_with(name.as_str()));
                }
            }
            verdicts.insert(path, (verdict, open));
        }
        taken.iter().map(|taken| if *taken { '1' } else { '0' }).collect()
    }

    #[test]
    fn dockers_own_rules_agree() {
        let cases: Cases = serde_json::from_str(include_str!("../../tests/data/dockerignore.json")).unwrap();
        assert!(cases.cases.len() > 300 && cases.tree.len() > 60);
        for case in &cases.cases {
            match Dockerignore::parse(&case.file) {
                Ok(rules) => {
                    assert!(!case.error, "{:?} is not refused", case.file);
                    let ours = taken(&rules, &cases.tree);
                    let differing = cases.tree.iter().zip(ours.chars().zip(case.taken.chars()));
                    let differing: Vec<_> =
                        differing.filter(|(_, (a, b))| a != b).map(|(path, _)| path).collect();
                    assert!(differing.is_empty(), "{:?}: {differing:?}", case.file);
                }
                Err(error) => assert!(case.error, "{:?}: {error}", case.file),
            }
        }
    }

    #[test]
    fn a_wrong_pattern_is_named_with_its_line() {
        let error = Dockerignore::parse("# data\n\n  data[1 \n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 3 of .dockerignore: the pattern `data[1` opens a bracket that nothing closes"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ab/*?!\\[\\]^\\\\.# \n-]{0,30}", path in "[ab.]{1,3}(/[ab.]{1,3}){0,3}") {
            if let Ok(rules) = Dockerignore::parse(&text) {
                rules.judge(&path, None);
                rules.descends_into(&path);
            }
        }

        #[test]
        fn a_plain_name_leaves_out_itself_and_all_below(name in "[a-z]{1,4}(/[a-z]{1,4}){0,2}", below in "[a-z]{1,4}") {
            let rules = Dockerignore::parse(&format!("/{name}/ ")).unwrap();
            let folder = rules.judge(&name, None);
            prop_assert!(folder.left_out);
            let inner = rules.judge(&format!("{name}/{below}"), Some(&folder));
            prop_assert!(inner.left_out);
            let longer = format!("{name}{below}");
            prop_assert!(!rules.judge(&longer, None).left_out);
            let both = Dockerignore::parse(&format!("{name}\n!{name}\n")).unwrap();
            prop_assert!(!both.judge(&name, None).left_out);
        }

        #[test]
        fn a_clean_path_stays(path in "/?[a.]{0,3}(/[a.]{0,3}){0,4}") {
            prop_assume!(!path.is_empty());
            let once = clean(&path);
            prop_assert_eq!(clean(&once), once);
        }
    }
}
