//! What a file of settings says, with the lines on which its tables say it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use toml::{
    Value as TomlValue,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// Something in a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A table.
    Table(Vec<Entry>),
    /// Anything else.
    Value(Value),
}

/// An entry of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The line of the key, from 1.
    pub(super) line: usize,
    pub(super) node: Node,
}

/// Why some text is not what its name says that it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where, if it is known.
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

impl Node {
    /// Reads TOML.
    pub(super) fn from_toml(text: &str) -> Result<Self, Malformed> {
        let line_of = |offset: usize| text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1;
        let malformed = |error: toml::de::Error| Malformed {
            line: error.span().map(|span| line_of(span.start)),
            reason: error.message().to_owned(),
        };
        from_toml_table(DeTable::parse(text).map_err(malformed)?.into_inner(), &line_of).map_err(malformed)
    }

    /// Reads YAML.
    pub(super) fn from_yaml(text: &str) -> Result<Self, Malformed> {
        // As YAML 1.2 has it: `y`, `no` and the like are text.
        let options = serde_saphyr::options! { strict_booleans: true };
        // A file of comments alone has no document.
        let node: Option<Self> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| Malformed {
                line: error
                    .location()
                    .and_then(|place| usize::try_from(place.line()).ok())
                    .filter(|&line| line > 0),
                reason: error.without_snippet().to_string(),
            })?;
        Ok(node.unwrap_or(Self::Table(Vec::new())))
    }

    /// The same without the lines.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Table(entries) => Value::Object(
                entries
                    .into_iter()
                    .map(|Entry { key, node, .. }| (key, node.into_value()))
                    .collect::<Map<_, _>>(),
            ),
            Self::Value(value) => value,
        }
    }
}

fn from_toml_table(table: DeTable<'_>, line_of: &dyn Fn(usize) -> usize) -> Result<Node, toml::de::Error> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let line = line_of(key.span().start);
        let node = match value.into_inner() {
            DeValue::Table(table) => from_toml_table(table, line_of)?,
            // No setting is a date; as text it gets the answer that text gets.
            DeValue::Datetime(date) => Node::Value(Value::String(date.to_string())),
            value => {
                let value = TomlValue::deserialize(ValueDeserializer::from(toml::Spanned::new(0..0, value)))?;
                Node::Value(serde_json::to_value(value).unwrap_or(Value::Null))
            }
        };
        entries.push(Entry { key: key.into_inner().into_owned(), line, node });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(Node::Table(entries))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, a list, text, a number, true or false")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Value(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Value(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Value(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut values = Vec::new();
                while let Some(node) = list.next_element::<Node>()? {
                    values.push(node.into_value());
                }
                Ok(Node::Value(Value::Array(values)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries: Vec<Entry> = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let line = usize::try_from(key.referenced.line()).map_err(de::Error::custom)?;
                    entries.push(Entry { key: key.value, line, node: map.next_value()? });
                }
                Ok(Node::Table(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(node: &Node) -> Vec<(String, usize)> {
        let Node::Table(entries) = node else { return Vec::new() };
        let own = |entry: &Entry| (entry.key.clone(), entry.line);
        entries.iter().flat_map(|entry| [vec![own(entry)], keys(&entry.node)].concat()).collect()
    }

    fn lines(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        expected.iter().map(|(key, line)| ((*key).to_owned(), *line)).collect()
    }

    #[test]
    fn keys_have_lines() {
        let toml =
            Node::from_toml("# first\n[docker]\nuser = \"a\"\n\n[docker.labels]\nx = \"y\"\n").unwrap();
        assert_eq!(keys(&toml), lines(&[("docker", 2), ("user", 3), ("labels", 5), ("x", 6)]));
        let yaml = Node::from_yaml("# first\ndocker:\n  user: a\n\n  labels:\n    x: y\n").unwrap();
        assert_eq!(keys(&yaml), lines(&[("docker", 2), ("user", 3), ("labels", 5), ("x", 6)]));
        assert_eq!(toml.into_value(), yaml.into_value());
    }

    #[test]
    fn values_are_those_of_json() {
        let expected = serde_json::json!({"a": ["b", "c"], "d": true, "e": 3, "f": {"g": "h"}});
        let toml = Node::from_toml("a = ['b', \"c\"]\nd = true\ne = 3\nf = {g = 'h'}").unwrap();
        assert_eq!(toml.into_value(), expected);
        let yaml = Node::from_yaml("a: [b, 'c']\nd: true\ne: 3\nf:\n  g: h\n").unwrap();
        assert_eq!(yaml.into_value(), expected);
        for empty in ["", "# nothing\n"] {
            assert_eq!(Node::from_yaml(empty).unwrap(), Node::Table(Vec::new()));
            assert_eq!(Node::from_toml(empty).unwrap(), Node::Table(Vec::new()));
        }
    }

    #[test]
    fn what_is_malformed_has_a_line() {
        for text in ["a = 1\nb = \n", "a = 1\na = 2\n"] {
            assert_eq!(Node::from_toml(text).unwrap_err().line, Some(2), "{text}");
        }
        for text in ["a: 1\nb: [\n", "a: 1\na: 2\n"] {
            let error = Node::from_yaml(text).unwrap_err();
            assert!(error.line.is_some_and(|line| line >= 2), "{text}: {error:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String) {
            let _ = Node::from_toml(&text);
            let _ = Node::from_yaml(&text);
        }
    }
}
