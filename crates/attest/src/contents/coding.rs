//! The entries of a layer as one text: a line each, of its name only what differs from the one before. A large wheel has ten
//! thousand files, and what is remembered of it has to be read at once.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

use super::layer::{Content, Item, Nature};

pub(super) fn serialize<S: Serializer>(items: &[Item], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(items))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Item>, D::Error> {
    let text = String::deserialize(deserializer)?;
    decode(&text).ok_or_else(|| D::Error::custom("not a list of entries"))
}

fn encode(items: &[Item]) -> String {
    let mut text = String::new();
    let mut before = "";
    for Item { path, content } in items {
        let shared = shared(before, path);
        // Writing to a string does not fail.
        let _ = match content {
            Content::File { size, hash, nature } => {
                let (nature, unloaded) = match nature {
                    Nature::Plain => ('f', 0),
                    Nature::Elf { unloaded } => ('e', *unloaded),
                    Nature::Archive => ('a', 0),
                };
                write!(text, "{nature} {size} {hash:x} {unloaded}")
            }
            Content::Directory => write!(text, "d"),
            Content::Link { target } => write!(text, "l {}", escaped(target)),
            Content::HardLink { target } => write!(text, "h {}", escaped(target)),
            Content::Special => write!(text, "s"),
            Content::Whiteout => write!(text, "w"),
            Content::Opaque => write!(text, "o"),
        };
        let _ = writeln!(text, " {shared} {}", escaped(&path[shared..]));
        before = path;
    }
    text
}

/// How many bytes two names have in common, in whole characters.
fn shared(before: &str, path: &str) -> usize {
    let same = before.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
    (0..=same).rev().find(|&at| path.is_char_boundary(at)).unwrap_or(0)
}

/// Without the characters that end a field or a line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace(' ', "\\s")
}

fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                's' => ' ',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

fn decode(text: &str) -> Option<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    for line in text.split_terminator('\n') {
        let mut fields = line.split(' ');
        let kind = fields.next()?;
        let content = match kind {
            "f" | "e" | "a" => {
                let size = fields.next()?.parse().ok()?;
                let hash = u128::from_str_radix(fields.next()?, 16).ok()?;
                let unloaded = fields.next()?.parse().ok()?;
                let nature = match kind {
                    "f" => Nature::Plain,
                    "e" => Nature::Elf { unloaded },
                    _ => Nature::Archive,
                };
                Content::File { size, hash, nature }
            }
            "d" => Content::Directory,
            "l" => Content::Link { target: unescaped(fields.next()?)? },
            "h" => Content::HardLink { target: unescaped(fields.next()?)? },
            "s" => Content::Special,
            "w" => Content::Whiteout,
            "o" => Content::Opaque,
            _ => return None,
        };
        let shared: usize = fields.next()?.parse().ok()?;
        let before = items.last().map_or("", |item| item.path.as_str());
        let path = format!("{}{}", before.get(..shared)?, unescaped(fields.next()?)?);
        if fields.next().is_some() {
            return None;
        }
        items.push(Item { path, content });
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content() -> impl Strategy<Value = Content> {
        let nature = prop_oneof![
            Just(Nature::Plain),
            any::<u64>().prop_map(|unloaded| Nature::Elf { unloaded }),
            Just(Nature::Archive)
        ];
        prop_oneof![
            (any::<u64>(), any::<u128>(), nature).prop_map(|(size, hash, nature)| Content::File {
                size,
                hash,
                nature
            }),
            Just(Content::Directory),
            ".*".prop_map(|target| Content::Link { target }),
            ".*".prop_map(|target| Content::HardLink { target }),
            Just(Content::Special),
            Just(Content::Whiteout),
            Just(Content::Opaque),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(items in proptest::collection::vec(("(?s)[aä /\\\\\\n]{0,6}.{0,3}", content()), 0..20)) {
            let items: Vec<Item> = items.into_iter().map(|(path, content)| Item { path, content }).collect();
            prop_assert_eq!(decode(&encode(&items)).unwrap(), items);
        }

        #[test]
        fn nothing_makes_it_panic(text in "([fealhsdwo] [0-9]{1,3} [a-zé\\\\]*\n){0,4}.*") {
            decode(&text);
        }
    }
}
