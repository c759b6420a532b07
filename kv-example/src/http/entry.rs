//! A value of a transaction.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
