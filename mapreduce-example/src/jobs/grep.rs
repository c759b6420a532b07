//! The lines that match a regular expression.

use std::cmp::Ordering;
use std::io::{self, Write};

use bytes::Bytes;
use regex::bytes::Regex;

use crate::job::{Argument, Emitter, Job, Kind, Piece};

/// The lines that match a regular expression: a line `name:offset:line` each, in the order of the input.
#[derive(Clone, Debug)]
pub struct Grep {
    pattern: Regex,
}

impl Grep {
    /// With a pattern in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn new(pattern: &str) -> Result<Grep, regex::Error> {
        Ok(Grep { pattern: Regex::new(pattern)? })
    }
}

pub(super) fn kind() -> Kind {
    let about = "the lines that match a regular expression: lines `name:offset:line`";
    let pattern = Argument { name: "pattern", about: "a regular expression", required: true };
    Kind::new("grep", about, |arguments| {
        let pattern = arguments.get("pattern").map_or("", String::as_str);
        Grep::new(pattern).map_err(|error| format!("pattern {pattern:?}: {error}"))
    })
    .with_argument(pattern)
}

impl Job for Grep {
    /// The input, and where the line begins.
    type Key = (String, u64);
    type Value = Bytes;
    type Output = Bytes;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        for (offset, line) in piece.lines() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.pattern.is_match(line) {
                emit.emit_owned((piece.name.to_owned(), offset), Bytes::copy_from_slice(line));
            }
        }
        Ok(())
    }

    fn heap_bytes(&self, line: &Bytes) -> usize {
        line.len()
    }

    fn reduce(
        &self,
        (name, offset): &(String, u64),
        lines: &mut dyn Iterator<Item = Bytes>,
    ) -> Result<Bytes, String> {
        lines.next().ok_or_else(|| format!("{name}: no line at byte {offset}"))
    }

    fn line(
        &self,
        (name, offset): &(String, u64),
        line: &Bytes,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        write!(out, "{name}:{offset}:")?;
        out.write_all(line)?;
        out.write_all(b"\n")
    }

    /// By the name, then by the number. A name that has a number between colons itself is divided there, too.
    fn compare_lines(&self, one: &[u8], other: &[u8]) -> Ordering {
        let (mut one, mut other) = (one, other);
        loop {
            match (divided(one), divided(other)) {
                (Some((name, number, rest)), Some((other_name, other_number, other_rest)))
                    if name == other_name && number == other_number =>
                {
                    (one, other) = (rest, other_rest);
                }
                (Some((name, number, _)), Some((other_name, other_number, _))) => {
                    return (name, number).cmp(&(other_name, other_number));
                }
                (Some((name, _, _)), None) => return name.cmp(other).then(Ordering::Greater),
                (None, Some((name, _, _))) => return one.cmp(name).then(Ordering::Less),
                (None, None) => return one.cmp(other),
            }
        }
    }
}

/// What stands before the first number between colons, the number, and what stands behind it.
fn divided(line: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let mut from = 0;
    loop {
        let end = from + line[from..].iter().position(|byte| *byte == b':')?;
        from = end + 1;
        let digits = line[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = line[from..].split_at(digits);
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        if let (Some(number), Some(rest)) = (number, rest.strip_prefix(b":")) {
            return Some((&line[..end], number, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn compare(one: &[u8], other: &[u8]) -> Ordering {
        Grep::new("").unwrap().compare_lines(one, other)
    }

    /// Lines with many numbers between colons.
    fn lines(draws: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let bits = [&b":"[..], b":9:", b":10:", b"a", b"1", b" "];
        let line = |draws: &Vec<u8>| {
            draws.iter().flat_map(|draw| bits[usize::from(*draw) % bits.len()]).copied().collect()
        };
        draws.iter().take(20).map(line).collect()
    }

    #[test]
    fn lines_come_by_name_then_by_number() {
        let lines = [
            "/in/a:9:z",
            "/in/a:10:b",
            "/in/a:100:a",
            "/in/a b:0:x",
            "/in/a.txt:1:",
            "/in/b:c:1:x",
            "/in/b:c:11:a",
            "s3://b/a:2:x",
            "s3://b/a:12:",
        ];
        assert!(lines.is_sorted_by(|one, other| compare(one.as_bytes(), other.as_bytes()).is_lt()));
        // A name that looks like a line.
        assert_eq!(compare(b"/in/a:7:b:9:x", b"/in/a:7:b:10:x"), Ordering::Less);
    }

    quickcheck! {
        fn any_lines_have_an_order(draws: Vec<Vec<u8>>) -> bool {
            let mut lines = lines(&draws);
            lines.sort_by(|one, other| compare(one, other));
            (0..lines.len()).all(|at| (at..lines.len()).all(|later| {
                compare(&lines[at], &lines[later]).is_le() && compare(&lines[later], &lines[at]).is_ge()
            }))
        }
    }
}
