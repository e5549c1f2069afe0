//! `entry_points.txt` and the scripts made of it (Entry points specification).

use configparser::ini::{Ini, IniDefault};
use serde::{Deserialize, Serialize};

/// A script to be made: `name = module:function`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Script {
    /// Its file name.
    pub name: String,
    /// The module that is imported.
    pub module: String,
    /// The function that is called, e.g. `main` or `Class.run`.
    pub function: String,
}

/// The console and GUI scripts of an `entry_points.txt`, by name; on Linux the two do not differ. The error is a sentence.
///
/// pip is special, as everywhere: `pip3.X` is made for the Python that there is.
pub fn scripts(text: &str, python_minor: u8) -> Result<Vec<Script>, String> {
    let mut rules = IniDefault::default();
    rules.case_sensitive = true;
    rules.delimiters = vec!['='];
    let sections = Ini::new_from_defaults(rules).read(text.to_owned())?;
    let section = |name: &str| -> Result<Vec<Script>, String> {
        let lines = sections.get(name).into_iter().flatten();
        lines
            .map(|(script, value)| {
                let value = value.as_deref().ok_or_else(|| format!("`{script}` in [{name}] has no value"))?;
                Script::parse(script, value)
            })
            .collect()
    };
    let mut console = section("console_scripts")?;
    console.retain(|script| {
        !script
            .name
            .split_once('.')
            .is_some_and(|(left, right)| left == "pip3" && right.parse::<u8>().is_ok())
    });
    if let Some(pip) = console.iter().find(|script| script.name == "pip3") {
        console.push(Script { name: format!("pip3.{python_minor}"), ..pip.clone() });
    }
    let mut gui = section("gui_scripts")?;
    // A GUI script of the same name replaces the console script.
    console.retain(|script| gui.iter().all(|other| other.name != script.name));
    console.append(&mut gui);
    console.sort();
    Ok(console)
}

impl Script {
    /// Reads `module:function [extras]`; extras have no say, as the specification has it for installers.
    fn parse(name: &str, value: &str) -> Result<Self, String> {
        let parsed = || {
            let (module, rest) = word(value)?;
            let (function, rest) = word(rest.trim_start().strip_prefix(':')?.trim_start())?;
            let rest = rest.trim();
            let extras = rest.strip_prefix('[').map(|rest| rest.strip_suffix(']'));
            let ended = rest.is_empty() || extras.flatten().is_some_and(|extras| !extras.trim().is_empty());
            ended.then(|| Self {
                name: name.to_owned(),
                module: module.to_owned(),
                function: function.to_owned(),
            })
        };
        parsed().ok_or_else(|| format!("`{name} = {value}` is not of the form name = module:function"))
    }

    /// The script's text, as uv writes it: `shebang` is its first line.
    pub fn text(&self, shebang: &str) -> String {
        let Self { module, function, .. } = self;
        let import = function.split('.').next().unwrap_or(function);
        format!(
            r#"{shebang}
# -*- coding: utf-8 -*-
import sys
from {module} import {import}
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({function}())
"#
        )
    }
}

/// A dotted name at the start of a text, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let end =
        text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> Vec<String> {
        scripts(text, 11).unwrap().into_iter().map(|script| script.name).collect()
    }

    #[test]
    fn scripts_are_read_from_both_sections_and_no_other() {
        let text = "[console_scripts]\nFlask = flask.cli : main\nx=a:b.c [one, two]\n\n[gui_scripts]\ng = a:b\n[other]\nno = thing\n";
        assert_eq!(names(text), ["Flask", "g", "x"]);
        let x = &scripts(text, 11).unwrap()[2];
        assert_eq!((x.module.as_str(), x.function.as_str()), ("a", "b.c"));
        assert!(x.text("#!/opt/venv/bin/python").contains("\nfrom a import b\n"));
        assert!(x.text("#!/opt/venv/bin/python").ends_with("    sys.exit(b.c())\n"));
    }

    #[test]
    fn pip_gets_the_name_of_the_python_there_is() {
        assert_eq!(
            names("[console_scripts]\npip = a:b\npip3 = a:b\npip3.9 = a:b\nx3.9 = a:b"),
            ["pip", "pip3", "pip3.11", "x3.9"]
        );
    }

    #[test]
    fn what_is_not_an_entry_point_is_an_error_that_shows_it() {
        for wrong in ["x = ", "x = a", "x = :b", "x = a:", "x = a:b [", "x = a:b []", "x = a;b:c d", "x: a:b"]
        {
            let said = scripts(&format!("[console_scripts]\n{wrong}\n"), 11);
            assert!(said.is_err(), "{wrong}: {said:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "(\\[console_scripts\\]\n)?\\PC{0,60}") {
            let _ = scripts(&text, 11);
        }

        #[test]
        fn what_is_written_is_read(module in "[a-z_.]{1,12}", function in "[a-z_]{1,8}") {
            let read = scripts(&format!("[console_scripts]\ns = {module}:{function}\n"), 11).unwrap();
            prop_assert_eq!(&read, &[Script { name: "s".into(), module, function }]);
        }
    }
}
