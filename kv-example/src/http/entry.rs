//! A value in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::store::Versioned;

/// A key with its value: always as `value_base64`, and as `value`, too, where it is text.
pub(super) fn entry_json(key: &str, versioned: &Versioned) -> Value {
    let Versioned { version, value, created, modified, lease } = versioned;
    let mut entry = Map::new();
    entry.insert("key".to_owned(), json!(key));
    entry.insert("version".to_owned(), json!(version.0));
    entry.insert("created".to_owned(), json!(created.0));
    entry.insert("modified".to_owned(), json!(modified.0));
    if let Some(lease) = lease {
        entry.insert("lease".to_owned(), json!(lease.0));
    }
    if let Ok(text) = str::from_utf8(value) {
        entry.insert("value".to_owned(), json!(text));
    }
    entry.insert("value_base64".to_owned(), json!(STANDARD.encode(value)));
    Value::Object(entry)
}

/// A value that is sent as one or the other.
///
/// # Errors
/// What is wrong with it.
pub(super) fn value_of(
    text: Option<String>,
    base64: Option<String>,
) -> Result<bytes::Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(value) => Ok(value.into()),
            Err(error) => Err(format!("value_base64: {error}")),
        },
        (None, None) => Err("a put needs value or value_base64".to_owned()),
        (Some(_), Some(_)) => Err("a put has value or value_base64, not both".to_owned()),
    }
}
