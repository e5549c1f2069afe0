//! What a registry says when it says no (distribution specification, "Error Codes").

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

/// The longest piece of a registry's message that is repeated.
const LONGEST_MESSAGE: usize = 400;

/// What a registry said, made a line of text that is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryError {
    /// The code of the first error: `MANIFEST_BLOB_UNKNOWN`.
    pub code: Option<String>,
    /// Its message.
    pub message: String,
}

impl RegistryError {
    /// Whether the first error has that code.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Reads the body of an answer: the specification's `errors`, what token services send (RFC 6749 §5.2), or text.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Body {
            Registry { errors: Vec<Entry> },
            Token { error: String, error_description: Option<String> },
            Detail { details: String },
            Message { message: String },
        }
        #[derive(Deserialize)]
        struct Entry {
            #[serde(default)]
            code: Option<serde_json::Value>,
            #[serde(default)]
            message: Option<String>,
            #[serde(default)]
            detail: Option<serde_json::Value>,
        }

        let (code, message) = match serde_json::from_slice(body) {
            Ok(Body::Registry { errors }) => {
                let first = errors.into_iter().next()?;
                let code = match first.code {
                    Some(serde_json::Value::String(code)) => Some(code),
                    Some(serde_json::Value::Number(code)) => Some(code.to_string()),
                    _ => None,
                };
                let detail = match first.detail {
                    Some(serde_json::Value::String(detail)) if !detail.is_empty() => format!(": {detail}"),
                    _ => String::new(),
                };
                let message = first.message.or_else(|| code.clone()).unwrap_or_default();
                (code, format!("{message}{detail}"))
            }
            Ok(Body::Token { error, error_description }) => {
                (Some(error.clone()), error_description.unwrap_or(error))
            }
            Ok(Body::Detail { details: message } | Body::Message { message }) => (None, message),
            Err(_) => (None, std::str::from_utf8(body).ok()?.to_owned()),
        };
        let message = printable(&message);
        (!message.is_empty()).then_some(Self { code: code.map(|code| printable(&code)), message })
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One line, without control characters, and not too long.
fn printable(text: &str) -> String {
    let line = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether this is a web page, by its type or its first bytes.
pub(crate) fn is_web_page(content_type: Option<&str>, body: &[u8]) -> bool {
    if content_type.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html")) {
        return true;
    }
    let start = body.trim_ascii_start();
    [b"<!doctype html".as_slice(), b"<html"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
}

/// Whether a server that speaks HTTPS says that it was spoken to without (Go's net/http and nginx answer 400 so).
pub(crate) fn wants_tls(status: StatusCode, body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    status == StatusCode::BAD_REQUEST
        && (text.contains("HTTP request to an HTTPS server")
            || text.contains("HTTP request was sent to HTTPS port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Option<RegistryError> {
        RegistryError::read(body.as_bytes())
    }

    #[test]
    fn errors_become_a_line() {
        let error = read(
            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access to the resource is denied\",\"detail\":[1]}]}",
        )
        .unwrap();
        assert!(error.is("DENIED"));
        assert_eq!(error.to_string(), "requested access to the resource is denied");
        let detailed =
            read("{\"errors\":[{\"code\":\"X\",\"message\":\"m\",\"detail\":\"d\\nd\"}]}").unwrap();
        assert_eq!(detailed.to_string(), "m: d d");
        assert_eq!(read("{\"errors\":[{\"code\":\"X\"}]}").unwrap().to_string(), "X");
    }

    #[test]
    fn token_services_and_text_are_read() {
        let error = read("{\"error\":\"invalid_grant\",\"error_description\":\"expired\"}").unwrap();
        assert!(error.is("invalid_grant"));
        assert_eq!(error.to_string(), "expired");
        assert_eq!(read("{\"details\":\"incorrect username or password\"}").unwrap().code, None);
        assert_eq!(read(" too\u{1b}[31m \n much ").unwrap().to_string(), "too [31m much");
        assert_eq!(read(""), None);
        assert_eq!(read("{\"errors\":[]}"), None);
        assert!(read(&"x".repeat(10_000)).unwrap().to_string().chars().count() <= LONGEST_MESSAGE + 1);
    }

    #[test]
    fn web_pages_are_known() {
        assert!(is_web_page(Some("text/html; charset=utf-8"), b""));
        assert!(is_web_page(None, b"\n<!DOCTYPE html><html>"));
        assert!(!is_web_page(Some("application/json"), b"{\"errors\":[]}"));
    }

    #[test]
    fn a_tls_servers_complaint_is_known() {
        let go = b"Client sent an HTTP request to an HTTPS server.\n";
        assert!(wants_tls(StatusCode::BAD_REQUEST, go));
        assert!(!wants_tls(StatusCode::OK, go));
        assert!(!wants_tls(StatusCode::BAD_REQUEST, b"no"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(body: Vec<u8>) {
            if let Some(error) = RegistryError::read(&body) {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }
}
