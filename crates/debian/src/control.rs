//! Control data: stanzas of `Field: value` lines (deb822(5)), as in `Release`, `Packages`, `control` and `.sources`.

/// One stanza: its fields in their order, continuation lines kept in the value with their leading blank removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stanza {
    fields: Vec<(String, String)>,
}

/// Why a text is not control data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ControlError {
    /// A line that is neither `Field: value` nor a continuation.
    #[error("line {0} is neither `Field: value` nor a continuation line")]
    Line(usize),
    /// A field that occurs twice in a stanza.
    #[error("line {line}: the field `{field}` occurs twice")]
    Twice {
        /// Where.
        line: usize,
        /// Which.
        field: String,
    },
}

impl Stanza {
    /// The value of a field; names are compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The blank-separated words of a field; none if the field is absent.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or_default().split_ascii_whitespace()
    }

    /// The fields in their order. The lines of a value are separated by `\n`.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a field, in its old place if it had one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.fields.iter_mut().find(|(field, _)| field.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value.into(),
            None => self.fields.push((name.to_owned(), value.into())),
        }
    }

    /// Adds a field after another one, or at the end.
    pub fn insert_after(&mut self, after: &str, name: &str, value: impl Into<String>) {
        let at = self.fields.iter().position(|(field, _)| field.eq_ignore_ascii_case(after));
        self.fields.insert(at.map_or(self.fields.len(), |at| at + 1), (name.to_owned(), value.into()));
    }

    /// The stanza as text, with its final line end and no blank line after it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields {
            text.push_str(name);
            text.push(':');
            for (index, line) in value.split('\n').enumerate() {
                if index > 0 {
                    text.push('\n');
                }
                if index > 0 || !line.is_empty() {
                    text.push(' ');
                }
                text.push_str(line);
            }
            text.push('\n');
        }
        text
    }
}

/// The stanzas of a text. Lines that begin with `#` are comments.
pub fn stanzas(text: &str) -> Result<Vec<Stanza>, ControlError> {
    let mut stanzas = Vec::new();
    let mut stanza = Stanza::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim_ascii().is_empty() {
            if !stanza.fields.is_empty() {
                stanzas.push(std::mem::take(&mut stanza));
            }
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            let (_, value) = stanza.fields.last_mut().ok_or(ControlError::Line(number))?;
            value.push('\n');
            value.push_str(line[1..].trim_end());
        } else {
            let (name, value) = line.split_once(':').ok_or(ControlError::Line(number))?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) || name.starts_with('-') {
                return Err(ControlError::Line(number));
            }
            if stanza.get(name).is_some() {
                return Err(ControlError::Twice { line: number, field: name.to_owned() });
            }
            stanza.fields.push((name.to_owned(), value.trim_ascii().to_owned()));
        }
    }
    if !stanza.fields.is_empty() {
        stanzas.push(stanza);
    }
    Ok(stanzas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stanzas_comments_and_continuations_are_told_apart() {
        let text = "# first\nA: 1\nb:\n two\n .\n  three\n#x\n\n\nC:3 \n";
        let parsed = stanzas(text).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].get("B"), Some("\ntwo\n.\n three"));
        assert_eq!(parsed[1].get("c"), Some("3"));
        assert_eq!(parsed[0].to_text(), "A: 1\nb:\n two\n .\n  three\n");
    }

    #[test]
    fn what_is_no_control_data_is_refused() {
        assert_eq!(stanzas(" x\n"), Err(ControlError::Line(1)));
        assert_eq!(stanzas("A: 1\nwhat\n"), Err(ControlError::Line(2)));
        assert!(matches!(stanzas("A: 1\na: 2\n"), Err(ControlError::Twice { line: 2, .. })));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = stanzas(&text);
        }

        #[test]
        fn parse_is_the_inverse_of_print(values in proptest::collection::vec("[a-z]{0,3}(\n[a-z.]{1,4}){0,2}", 1..5)) {
            let mut stanza = Stanza::default();
            for (index, value) in values.iter().enumerate() {
                stanza.set(&format!("F{index}"), value.clone());
            }
            prop_assert_eq!(stanzas(&stanza.to_text()).unwrap(), vec![stanza]);
        }
    }
}
