//! The whole lines of a split.

use bytes::Bytes;

use super::location::{DataError, Location};
use crate::task::Split;

/// The longest line, in bytes: what is read of an input at once is bounded, and a line is not divided.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;
/// How much is read at once to find the end of the last line.
const TAIL_BYTES: u64 = 16 << 10;

/// Reads a split in pieces of whole lines, no larger than what is read at once or the longest line.
pub(crate) struct Pieces {
    input: Location,
    /// The next byte to be read.
    at: u64,
    /// Where the split ends; its last line may end later.
    end: u64,
    input_bytes: u64,
    read_bytes: u64,
    /// The line that began before the split, and is not of it, has not ended yet.
    is_skipping: bool,
    /// The beginning of a line whose end was not read yet: the bytes before `at`.
    begun: Vec<u8>,
    /// Whole lines that were read and come next.
    next: Option<(u64, Bytes)>,
    bytes: u64,
}

impl Pieces {
    pub(crate) fn open(
        input: Location,
        split: &Split,
        read_bytes: u64,
    ) -> Result<Pieces, DataError> {
        let input_bytes = input.head()?.size;
        let end = split.offset.saturating_add(split.len);
        if input_bytes < end {
            let reason = format!(
                "it has become shorter: {input_bytes} bytes, and there were {end} when the job was submitted"
            );
            return Err(DataError::Failed { place: input.name(), reason });
        }
        Ok(Pieces {
            input,
            // A line begins here if the byte before ends one.
            at: split.offset.saturating_sub(1),
            end: if split.len == 0 { 0 } else { end },
            input_bytes,
            read_bytes,
            is_skipping: split.offset > 0,
            begun: Vec::new(),
            next: None,
            bytes: 0,
        })
    }

    /// How many bytes were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece, and where it begins in the input; none after the last one.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Bytes)>, DataError> {
        loop {
            if let Some(piece) = self.next.take() {
                return Ok(Some(piece));
            }
            let has_ended = self.at >= self.end && self.begun.is_empty();
            if has_ended || self.at >= self.input_bytes {
                return Ok(self.take_begun(&[]));
            }
            let chunk = self.read()?;
            let piece = if self.at <= self.end { self.cut(chunk)? } else { self.cut_tail(&chunk)? };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    fn read(&mut self) -> Result<Bytes, DataError> {
        let until = if self.at < self.end {
            self.end.min(self.at + self.read_bytes)
        } else {
            self.input_bytes.min(self.at + TAIL_BYTES)
        };
        let chunk = self.input.read_range(self.at..until)?;
        self.bytes += chunk.len() as u64;
        self.at = until;
        Ok(chunk)
    }

    /// Divides what was read within the split: the end of the line that had begun, whole lines, the beginning of one.
    fn cut(&mut self, mut chunk: Bytes) -> Result<Option<(u64, Bytes)>, DataError> {
        if self.is_skipping {
            let Some(end) = memchr(&chunk) else { return Ok(None) };
            chunk = chunk.slice(end + 1..);
            self.is_skipping = false;
        }
        let Some(last) = chunk.iter().rposition(|byte| *byte == b'\n') else {
            self.begin(&chunk)?;
            return Ok(None);
        };
        let rest = chunk.split_off(last + 1);
        let mut piece = None;
        if !self.begun.is_empty() {
            let end = memchr(&chunk).map_or(chunk.len(), |at| at + 1);
            let begun_at = self.at - (self.begun.len() + chunk.len() + rest.len()) as u64;
            self.check_line(begun_at, self.begun.len() + end)?;
            piece = self.take_begun(&chunk.split_to(end)).map(|(_, line)| (begun_at, line));
        }
        if !chunk.is_empty() {
            let offset = self.at - (chunk.len() + rest.len()) as u64;
            self.next = Some((offset, chunk));
        }
        self.begin(&rest)?;
        Ok(piece.or_else(|| self.next.take()))
    }

    /// Ends the last line, from what was read beyond the split.
    fn cut_tail(&mut self, chunk: &[u8]) -> Result<Option<(u64, Bytes)>, DataError> {
        let Some(end) = memchr(chunk) else {
            self.begin(chunk)?;
            return Ok(None);
        };
        let begun_at = self.at - (self.begun.len() + chunk.len()) as u64;
        self.check_line(begun_at, self.begun.len() + end + 1)?;
        Ok(self.take_begun(&chunk[..=end]).map(|(_, line)| (begun_at, line)))
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let begun_at = self.at - (self.begun.len() + bytes.len()) as u64;
        self.check_line(begun_at, self.begun.len() + bytes.len())?;
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    /// The line that had begun, with its last bytes.
    fn take_begun(&mut self, end: &[u8]) -> Option<(u64, Bytes)> {
        if self.begun.is_empty() {
            return None;
        }
        let begun_at = self.at - self.begun.len() as u64;
        self.begun.extend_from_slice(end);
        Some((begun_at, std::mem::take(&mut self.begun).into()))
    }

    fn check_line(&self, offset: u64, bytes: usize) -> Result<(), DataError> {
        if bytes <= LINE_BYTES_MAX {
            return Ok(());
        }
        let reason = format!("the line at byte {offset} is longer than {LINE_BYTES_MAX} bytes");
        Err(DataError::Failed { place: self.input.name(), reason })
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::data::Stores;

    fn pieces(contents: &[u8], offset: u64, len: u64, read_bytes: u64) -> Vec<(u64, Bytes)> {
        let stores = Stores::new();
        let input = stores.locate("memory:///input").unwrap();
        input.put(contents.to_vec().into()).unwrap();
        let split = Split { input: input.url().to_owned(), offset, len };
        let mut pieces = Pieces::open(input, &split, read_bytes).unwrap();
        std::iter::from_fn(|| pieces.next().unwrap()).collect()
    }

    fn at_index(at: u64) -> usize {
        at.try_into().unwrap()
    }

    quickcheck! {
        fn splits_share_an_input_at_ends_of_lines_without_gap_or_overlap(
            lines: Vec<u8>, split_bytes: u8, read_bytes: u8
        ) -> bool {
            // Lines of 0 to 7 bytes, some of them empty, the last one perhaps without its end.
            let contents: Vec<u8> =
                lines.iter().map(|byte| if byte % 4 == 0 { b'\n' } else { b'a' + byte % 26 }).collect();
            let split_bytes = u64::from(split_bytes % 16) + 1;
            let read_bytes = u64::from(read_bytes % 16) + 1;
            let mut all = Vec::new();
            let mut offset = 0;
            while offset < contents.len() as u64 {
                let len = split_bytes.min(contents.len() as u64 - offset);
                for (at, piece) in pieces(&contents, offset, len, read_bytes) {
                    let begins_a_line = at == 0 || contents[at_index(at) - 1] == b'\n';
                    let is_whole = piece.ends_with(b"\n") || at_index(at) + piece.len() == contents.len();
                    if at != all.len() as u64 || !begins_a_line || !is_whole || piece.is_empty() {
                        return false;
                    }
                    // The last line of a split begins in it.
                    let last = piece[..piece.len() - 1].iter().rposition(|byte| *byte == b'\n');
                    let last = at + last.map_or(0, |at| at as u64 + 1);
                    if at < offset || last >= offset + len {
                        return false;
                    }
                    all.extend_from_slice(&piece);
                }
                offset += len;
            }
            all == contents
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_by_its_place() {
        let stores = Stores::new();
        let input = stores.locate("memory:///long").unwrap();
        let mut contents = b"short\n".to_vec();
        contents.resize(contents.len() + LINE_BYTES_MAX + 1, b'x');
        input.put(contents.into()).unwrap();
        for (len, read_bytes) in [(7, 100), (LINE_BYTES_MAX as u64, 4 << 20)] {
            let split = Split { input: input.url().to_owned(), offset: 0, len };
            let mut pieces = Pieces::open(input.clone(), &split, read_bytes).unwrap();
            let error = loop {
                match pieces.next() {
                    Ok(piece) => assert!(piece.is_some(), "the line was too long"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains("memory:///long: the line at byte 6 is longer"), "{error}");
        }
    }

    #[test]
    fn an_input_that_shrank_or_vanished_is_told_by_its_name() {
        let stores = Stores::new();
        let input = stores.locate("memory:///shrunk").unwrap();
        let split = Split { input: input.url().to_owned(), offset: 0, len: 10 };
        let open = || Pieces::open(input.clone(), &split, 100).map(drop).unwrap_err().to_string();
        assert!(open().contains("memory:///shrunk: there is no such file"), "{}", open());
        input.put(Bytes::from_static(b"too short")).unwrap();
        assert!(open().contains("memory:///shrunk: it has become shorter: 9 bytes"), "{}", open());
    }
}
