//! How keys, values and tables are shown.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::store::Versioned;

/// A value as one line: what is not printable is escaped, `\n`, `\xff`, and a backslash doubled.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut line = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                c if c.is_control() => line.extend(c.escape_unicode()),
                c => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            line.push_str(&format!("\\x{byte:02x}"));
        }
    }
    line
}

/// A key with its value as a JSON object, on the command line and over HTTP: the value always as `value_base64`, and as
/// `value`, too, where it is text.
#[must_use]
pub fn entry_json(key: &str, versioned: &Versioned) -> Value {
    let Versioned { version, value, created, modified, lease } = versioned;
    let mut entry = Map::new();
    entry.insert("key".to_owned(), json!(key));
    entry.insert("version".to_owned(), json!(version.0));
    entry.insert("created".to_owned(), json!(created.0));
    entry.insert("modified".to_owned(), json!(modified.0));
    if let Some(lease) = lease {
        entry.insert("lease".to_owned(), json!(lease.0));
    }
    if let Some(text) = printable(value) {
        entry.insert("value".to_owned(), json!(text));
    }
    entry.insert("value_base64".to_owned(), json!(STANDARD.encode(value)));
    Value::Object(entry)
}

/// A value as text, if people can read it: no control characters but for tabs and the ends of lines. Those take six bytes each
/// in JSON, so that a value of zeros would be six times as long as it is.
fn printable(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let is_printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    text.chars().all(is_printable).then_some(text)
}

/// A key in a message: quoted, and cut where it would drown the message.
#[must_use]
pub fn quoted(key: &str) -> String {
    const CHARS_MAX: usize = 60;
    match key.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{:?}...", &key[..cut]),
        None => format!("{key:?}"),
    }
}

/// A number of bytes for people: `17 B`, `1.0 KiB`, `20.5 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, unit_bytes) in UNITS {
        if bytes >= unit_bytes {
            let whole = bytes / unit_bytes;
            let tenth = bytes % unit_bytes * 10 / unit_bytes;
            return format!("{whole}.{tenth} {unit}");
        }
    }
    format!("{bytes} B")
}

/// Rows of cells under a heading, each column as wide as its widest cell.
#[must_use]
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(heading);
    for row in rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
    }
    text
}

/// Prints a line on stdout.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    print(format!("{line}\n").as_bytes())
}

/// Prints a line on stdout, of which nothing depends on whether anybody reads it.
pub(crate) fn say(line: &str) {
    let _ = print_line(line);
}

pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).or_else(stdout_outcome)
}

/// Whoever reads our output may have seen enough.
pub(crate) fn stdout_outcome(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::environment(format!("cannot write to stdout: {error}")))
}

/// Shown only on a terminal.
pub(crate) fn progress_bar(lines: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(lines);
    let template = "{wide_bar} {human_pos}/{human_len} lines, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A bar that is full after `duration`. Shown only on a terminal.
pub(crate) fn clock(duration: Duration) -> Clock {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(duration.as_secs().max(1)),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {elapsed}, {msg}") {
        bar.set_style(style);
    }
    Clock { bar, done: AtomicU64::new(0) }
}

/// See [`clock`].
pub(crate) struct Clock {
    bar: ProgressBar,
    done: AtomicU64,
}

impl Clock {
    /// Something was done.
    pub(crate) fn tick(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.bar.is_hidden() {
            self.bar.set_position(self.bar.elapsed().as_secs());
            self.bar.set_message(format!("{done} done"));
        }
    }

    /// It is over.
    pub(crate) fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::Version;

    #[test]
    fn a_value_is_shown_on_one_line_and_can_be_told_from_its_escapes() {
        assert_eq!(escaped(b"a\tb\r\n\\n \xff\x00"), "a\\tb\\r\\n\\\\n \\xff\\u{0}");
        assert_eq!(escaped("schön".as_bytes()), "schön");
    }

    #[test]
    fn a_value_is_shown_as_text_only_where_people_can_read_it() {
        let json = |value: &'static [u8]| {
            let versioned = Versioned::first(Version(3), Bytes::from_static(value));
            entry_json("k", &versioned).to_string()
        };
        assert_eq!(
            json(b"\"v\"\n"),
            r#"{"created":1,"key":"k","modified":1,"value":"\"v\"\n","value_base64":"InYiCg==","version":3}"#
        );
        let no_text = |base64: &str| {
            format!(
                r#"{{"created":1,"key":"k","modified":1,"value_base64":"{base64}","version":3}}"#
            )
        };
        assert_eq!(json(b"\xff\x00"), no_text("/wA="));
        assert_eq!(json(b"a\x00"), no_text("YQA="));
    }

    #[test]
    fn a_value_in_json_is_not_much_longer_than_its_bytes() {
        for byte in [0, b'"', b'a', 0x1b, 0xff] {
            let value = Bytes::from(vec![byte; 10_000]);
            let json = entry_json("k", &Versioned::first(Version(3), value)).to_string();
            assert!(json.len() < 35_000, "{} bytes for {byte}", json.len());
        }
    }

    #[test]
    fn a_long_key_is_cut_between_characters() {
        assert_eq!(quoted("a\n"), r#""a\n""#);
        assert_eq!(quoted(&"ä".repeat(61)), format!("{:?}...", "ä".repeat(60)));
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536, 20 * 1024 * 1024, 3 << 30].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20.0 MiB", "3.0 GiB"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "leader".to_owned()], ["20".to_owned(), "-".to_owned()]];
        assert_eq!(table(["node", "role"], &rows), "node  role\n1     leader\n20    -\n");
    }
}
