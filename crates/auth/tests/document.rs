//! The document's tables are those of the program.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fmt::Write as _;

use longshore_auth::connector::{ConnectorType, Form, Kind, Need};

const MARK: &str = "<!-- methods:";

fn methods() -> String {
    let mut text = String::new();
    for connector in ConnectorType::ALL {
        writeln!(text, "\n### {connector}\n\n{}", connector.summary()).unwrap();
        for method in connector.methods() {
            let summary = method.summary;
            write!(text, "\n**`{}`**: {summary}\n\n| Option | |\n|---|---|\n", method.name).unwrap();
            for field in method.fields {
                let mut notes = vec![field.help.to_owned()];
                if let Form::OneOf(names) = field.form {
                    notes.push(format!("one of {}", names.join(", ")));
                }
                match (field.need, field.default) {
                    (Need::Required, _) => notes.push("needed".to_owned()),
                    (Need::Optional, Some(default)) => notes.push(format!("by default `{default}`")),
                    (Need::Optional, None) => {}
                }
                if field.kind == Kind::Secret {
                    notes.push("secret".to_owned());
                }
                writeln!(text, "| `--{}` | {} |", field.name, notes.join("; ")).unwrap();
            }
        }
    }
    text
}

#[test]
fn the_document_has_every_method_and_option() {
    let path = format!("{}/../../docs/connectors.md", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = document.split_once(MARK).unwrap();
    let (mark, tables) = rest.split_once('\n').unwrap();
    let methods = methods();
    if std::env::var_os("LONGSHORE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{mark}\n{methods}")).unwrap();
        return;
    }
    assert_eq!(tables, methods, "docs/connectors.md is not what the program has: write it as it says");
}
