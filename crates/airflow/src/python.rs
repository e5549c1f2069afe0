//! Python text: literals, and literals that Airflow's templates leave as they are.

use std::fmt::Write as _;

use serde_json::Value;

/// A literal of Python. JSON's texts and numbers are Python's; only its three words are not.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{}: {}", text(name), literal(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A text as a literal.
pub(crate) fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// Endings that the fields of operators are read from a file for (`template_ext`), instead of being what they are.
const FILES: [&str; 8] = [".sh", ".bash", ".env", ".json", ".yaml", ".yml", ".sql", ".j2"];

/// What Jinja renders to a text: the text itself where Jinja and Airflow leave it alone, otherwise an expression for it.
pub(crate) fn rendered_to(text: &str) -> String {
    let plain = !text.contains(['{', '\r'])
        && !text.ends_with('\n')
        && !FILES.iter().any(|ending| text.ends_with(ending));
    if plain {
        return text.to_owned();
    }
    let mut expression = "{{ \"".to_owned();
    for c in text.chars() {
        // Jinja reads Python's escapes; writing to a text does not fail.
        let _ = match u32::from(c) {
            _ if c.is_ascii_alphanumeric() => write!(expression, "{c}"),
            code @ ..=0xff => write!(expression, "\\x{code:02x}"),
            code @ ..=0xffff => write!(expression, "\\u{code:04x}"),
            code => write!(expression, "\\U{code:08x}"),
        };
    }
    expression.push_str("\" }}");
    expression
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_are_pythons() {
        let value = json!({"a": [1, 2.5, true, null], "b": "x\"\\\n'"});
        assert_eq!(literal(&value), r#"{"a": [1, 2.5, True, None], "b": "x\"\\\n'"}"#);
    }

    #[test]
    fn what_templates_would_change_is_an_expression() {
        assert_eq!(rendered_to("plain }} text"), "plain }} text");
        assert_eq!(rendered_to("{{ x }}"), r#"{{ "\x7b\x7b\x20x\x20\x7d\x7d" }}"#);
        assert_eq!(rendered_to("a.sh"), r#"{{ "a\x2esh" }}"#);
        assert_eq!(rendered_to("é{€🚢"), r#"{{ "\xe9\x7b\u20ac\U0001f6a2" }}"#);
        assert!(rendered_to("line\n").contains("\\x0a"));
    }
}
