//! A text in the store, a key a line, and out of it again, byte for byte.
//!
//! Line 1 is the key `0000000001`, and so on; its value is the line without its line feed (but with its carriage return,
//! if it has one). How many lines there are, and whether the last one ends with a line feed, stands in
//! the key `import`, the [`Manifest`]: written before the first line as incomplete, and after the last one as complete. So
//! an export never takes a part of a text for the whole, nor the rest of an earlier, longer one for its end.

mod export;
mod import;
mod lines;

pub use export::{ExportError, export, export_replica};
pub use import::{Import, ImportError, Imported};
pub use lines::{LINE_BYTES_MAX, Lines, LinesError, Survey, survey};
use serde::{Deserialize, Serialize};

/// The key of the [`Manifest`].
pub const MANIFEST_KEY: &str = "import";

/// The digits of a line's number in its key: enough for any text, and what makes the order of the keys that of
/// the lines.
const KEY_DIGITS: usize = 10;

/// What the store knows of the text in it: the value of the key [`MANIFEST_KEY`], as JSON.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// How many lines the text has.
    pub lines: u64,
    /// Whether its last line ends with a line feed.
    pub final_line_feed: bool,
    /// Whether all of its lines were written.
    pub complete: bool,
    /// No line beyond this number was ever written by this import or one before it and not deleted.
    pub lines_max: u64,
}

impl Manifest {
    fn to_bytes(self) -> bytes::Bytes {
        let Manifest { lines, final_line_feed, complete, lines_max } = self;
        let json = serde_json::json!({
            "lines": lines,
            "final_line_feed": final_line_feed,
            "complete": complete,
            "lines_max": lines_max,
        });
        bytes::Bytes::from(json.to_string())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Manifest> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The key of a line; the first has the number 1.
#[must_use]
pub fn line_key(number: u64) -> String {
    format!("{number:0KEY_DIGITS$}")
}

/// The number of the line that a key belongs to, if it is the key of a line.
fn line_number(key: &str) -> Option<u64> {
    let digits = key.len() == KEY_DIGITS && key.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| key.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_lines_sort_as_their_numbers() {
        assert_eq!(line_key(7), "0000000007");
        assert!(line_key(9) < line_key(10) && line_key(999_999) < line_key(1_000_000));
        assert_eq!(line_number("0000000010"), Some(10));
        for other in ["", "import", "10", "00000000010", "000000001x", "+000000001"] {
            assert_eq!(line_number(other), None, "{other}");
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_anything_else_is_none() {
        let manifest = Manifest { lines: 3, final_line_feed: true, complete: false, lines_max: 9 };
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Some(manifest));
        assert_eq!(Manifest::from_bytes(b"hello"), None);
    }
}
