//! A key as people read it.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// A key is cut after so many bytes: enough to find it.
const SHOWN_BYTES_MAX: usize = 100;

/// A key in JSON, with bytes as text; cut where it is long, or has no such form.
pub(crate) fn shown<K: Serialize + ?Sized>(key: &K) -> String {
    let mut out = Cut(Vec::new());
    let is_whole = key.serialize(&mut Serializer::with_formatter(&mut out, AsText)).is_ok();
    let mut text = match String::from_utf8(out.0) {
        Ok(text) => text,
        // A character was cut.
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            bytes.truncate(valid);
            String::from_utf8(bytes).unwrap_or_default()
        }
    };
    if !is_whole {
        text.push('…');
    }
    text
}

/// Takes so much, and no more.
struct Cut(Vec<u8>);

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SHOWN_BYTES_MAX - self.0.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct AsText;

impl Formatter for AsText {
    fn write_byte_array<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        value: &[u8],
    ) -> io::Result<()> {
        // No more than is enough to be cut.
        let some = &value[..value.len().min(SHOWN_BYTES_MAX)];
        serde_json::to_writer(writer, &String::from_utf8_lossy(some)).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_key_is_shown_as_text_and_cut_where_it_is_long() {
        assert_eq!(shown("a \"b\"\n"), r#""a \"b\"\n""#);
        assert_eq!(shown(&("in", 7_u64)), r#"["in",7]"#);
        assert_eq!(shown(&Bytes::from_static(b"ab\xFF")), "\"ab\u{FFFD}\"");
        let cut = format!("\"{}…", "k".repeat(SHOWN_BYTES_MAX - 1));
        assert_eq!(shown(&"k".repeat(5 << 20)), cut);
        assert_eq!(shown(&Bytes::from(vec![b'k'; 5 << 20])), cut);
        // An odd number of bytes is left for characters of two.
        assert_eq!(shown(&"ß".repeat(100)), format!("\"{}…", "ß".repeat(49)));
    }
}
