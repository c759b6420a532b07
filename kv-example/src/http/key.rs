//! A key in a path: one segment, percent-encoded.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::HttpError;

/// Where keys begin in a path.
pub(super) const PREFIX: &str = "/v1/kv/";

/// The key that a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Key, HttpError> {
        let segment = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        decode(segment).map(Key)
    }
}

fn decode(segment: &str) -> Result<String, HttpError> {
    if segment.contains('/') {
        return Err(HttpError::bad(
            "bad-key",
            "a key is one segment of the path: a / in it is sent as %2F",
        ));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let byte = digit(rest.next()).zip(digit(rest.next())).map(|(high, low)| high << 4 | low);
        match byte.and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => bytes.push(byte),
            None => {
                return Err(HttpError::bad(
                    "bad-key",
                    "a % in a path is followed by two hexadecimal digits; one that is part of the key is sent as %25",
                ));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| HttpError::bad("bad-key", "a key is UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_text() {
        for (segment, key) in [
            ("a", "a"),
            ("", ""),
            ("a%2Fb", "a/b"),
            ("100%25", "100%"),
            ("%C3%a4", "ä"),
            ("a+b", "a+b"),
        ] {
            assert_eq!(decode(segment).unwrap(), key);
        }
        for senseless in ["a/b", "%", "%4", "%zz", "%+4", "%ff", "%C3"] {
            assert!(decode(senseless).is_err(), "{senseless}");
        }
    }
}
