//! The page that describes the settings, made from the table of fields.

use std::fmt::Write;

use super::{DockerSettings, Section};

/// `docs/settings.md`.
pub fn settings_page() -> String {
    let mut page = include_str!("page.md").to_owned();
    for section in Section::ALL {
        // Writing to text cannot fail.
        let _ = write!(page, "\n### {}\n", section.title());
        for field in DockerSettings::FIELDS.iter().filter(|field| field.section == section) {
            let kind = field.kind.words();
            let kind = kind.strip_prefix("a ").unwrap_or(&kind);
            let _ = write!(
                page,
                "\n**`{}`** · {kind} · default: {} · `--{}`  \n{}\n",
                field.name,
                field.default,
                field.name.replace('_', "-"),
                field.text(),
            );
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn file(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
    }

    #[test]
    fn the_page_is_that_of_the_types() {
        assert!(
            file("docs/settings.md") == settings_page(),
            "docs/settings.md is out of date; make it with: \
             cargo run -p longshore-cli -- settings markdown > docs/settings.md"
        );
    }

    /// The fields of a class in Python, in order: their names and annotations.
    fn python_fields() -> Vec<(String, String)> {
        let source = file("python/longshore/config.py");
        let class = source.split("class DockerSettings:").nth(1).unwrap();
        let class = class.split("_given:").next().unwrap();
        let field = |line: &str| {
            let (name, rest) = line.strip_prefix("    ")?.split_once(": ")?;
            let annotation = rest.split(" = ").next()?;
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            (is_name && rest.contains(" = ")).then(|| (name.to_owned(), annotation.to_owned()))
        };
        class.lines().filter_map(field).collect()
    }

    #[test]
    fn python_has_the_same_fields_in_the_same_order_and_of_the_same_kinds() {
        use super::super::Kind;
        let python = python_fields();
        let names: Vec<_> = DockerSettings::FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(python.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
        for (field, (_, annotation)) in DockerSettings::FIELDS.iter().zip(&python) {
            let words = |words: &[&str]| {
                let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("Literal[{}]", words.join(", "))
            };
            let expected = match field.kind {
                Kind::Text => "str | None".to_owned(),
                Kind::Path => "None | str | os.PathLike[str]".to_owned(),
                Kind::Bool => "bool".to_owned(),
                Kind::Number => "int | None".to_owned(),
                Kind::Word(all) => words(all),
                Kind::List => "Sequence[str]".to_owned(),
                Kind::Map => "Mapping[str, str]".to_owned(),
                Kind::ListOrPath => "None | str | os.PathLike[str] | Sequence[str]".to_owned(),
                Kind::TextOrList => "None | str | Sequence[str]".to_owned(),
            };
            assert_eq!(annotation.strip_suffix(" | None").unwrap_or(annotation), {
                expected.strip_suffix(" | None").unwrap_or(&expected)
            });
        }
    }
}
