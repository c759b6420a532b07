//! On which version of its key a write depends.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName};

use super::error::HttpError;
use crate::store::Version;

/// The version that a key must have, by `If-Match` or `If-None-Match`; `None` where whatever it has is right.
///
/// # Errors
/// What is asked for is more than the store can promise: a list, a weak tag, anything else that names no version.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<Version>, HttpError> {
    match (only(headers, &IF_MATCH)?, only(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(None),
        (Some(tag), None) => version(tag).map(Some),
        (None, Some(b"*")) => Ok(Some(Version::ABSENT)),
        (None, Some(_)) => Err(bad("If-None-Match of a write is *: only if there is no such key")),
        (Some(_), Some(_)) => Err(bad("If-Match or If-None-Match, not both")),
    }
}

/// The value of a header that may come once.
pub(super) fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h [u8]>, HttpError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.as_bytes().trim_ascii());
    match values.next() {
        None => Ok(value),
        Some(_) => Err(HttpError::bad("bad-header", format!("{name} may be sent once"))),
    }
}

fn version(tag: &[u8]) -> Result<Version, HttpError> {
    let digits = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\""));
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let number = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    match number {
        Some(number) if number > 0 => Ok(Version(number)),
        _ => Err(bad(
            "If-Match is one version, from 1 on, in double quotes, as ETag has it: \"3\"; no list, no W/, no *",
        )),
    }
}

fn bad(message: &str) -> HttpError {
    HttpError::bad("bad-condition", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(HeaderName, &str)]) -> Result<Option<Version>, HttpError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        condition(&headers)
    }

    #[test]
    fn a_condition_names_one_version_or_that_there_is_none() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[(IF_MATCH, "\"3\"")]).unwrap(), Some(Version(3)));
        assert_eq!(of(&[(IF_NONE_MATCH, "*")]).unwrap(), Some(Version::ABSENT));
    }

    #[test]
    fn what_names_no_version_is_refused() {
        for senseless in [
            "3",
            "\"0\"",
            "\"\"",
            "\"",
            "*",
            "W/\"3\"",
            "\"1\", \"2\"",
            "\"+3\"",
            "\"-1\"",
            "\"99999999999999999999\"",
            "\"three\"",
        ] {
            assert!(of(&[(IF_MATCH, senseless)]).is_err(), "{senseless}");
        }
        assert!(of(&[(IF_NONE_MATCH, "\"3\"")]).is_err());
        assert!(of(&[(IF_MATCH, "\"3\""), (IF_NONE_MATCH, "*")]).is_err());
        assert!(of(&[(IF_MATCH, "\"3\""), (IF_MATCH, "\"4\"")]).is_err());
    }
}
