//! The lines that match a regular expression.

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
}
