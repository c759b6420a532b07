//! Cuts a text into lines and remembers how it ends.

use std::io::{self, BufRead, Read};

use bytes::Bytes;

/// No line may be longer than this many bytes: it bounds the memory of an import. The nodes have a limit of their own,
/// `--value-bytes-max`.
pub const LINE_BYTES_MAX: usize = crate::limits::VALUE_BYTES_POSSIBLE;

/// Lines have numbers of ten digits.
const LINES_MAX: u64 = 9_999_999_999;

/// What a text is made of.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many lines it has; what follows the last line feed is one, unless it is empty.
    pub lines: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Whether it ends with a line feed.
    pub final_line_feed: bool,
}

/// Why a text cannot be cut into lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinesError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// One of its lines is longer than [`LINE_BYTES_MAX`].
    #[error("line {line} has more than {LINE_BYTES_MAX} bytes")]
    TooLong {
        /// The number of the line, from 1.
        line: u64,
    },
    /// It has more lines than there are keys of ten digits.
    #[error("there are more than {LINES_MAX} lines")]
    TooMany,
}

/// Reads a text to its end, without keeping it.
///
/// # Errors
/// [`LinesError`].
pub fn survey(text: &mut dyn BufRead) -> Result<Survey, LinesError> {
    let mut survey = Survey { final_line_feed: false, ..Survey::default() };
    let mut line_bytes = 0;
    loop {
        let buffer = text.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        if line_bytes == 0 {
            survey.lines += 1;
        }
        let line_feed = buffer.iter().position(|byte| *byte == b'\n');
        let content_bytes = line_feed.unwrap_or(buffer.len());
        if survey.lines > LINES_MAX {
            return Err(LinesError::TooMany);
        }
        line_bytes += content_bytes;
        if line_bytes > LINE_BYTES_MAX {
            return Err(LinesError::TooLong { line: survey.lines });
        }
        survey.final_line_feed = line_feed.is_some();
        if line_feed.is_some() {
            line_bytes = 0;
        }
        let taken = content_bytes + usize::from(line_feed.is_some());
        survey.bytes += taken as u64;
        text.consume(taken);
    }
    Ok(survey)
}

/// The lines of a text with their numbers, from 1, without their line feeds.
#[derive(Debug)]
pub struct Lines<R> {
    text: R,
    number: u64,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    /// The lines that are left in `text`.
    pub fn new(text: R) -> Lines<R> {
        Lines { text, number: 0, failed: false }
    }

    fn read(&mut self) -> Result<Option<Bytes>, LinesError> {
        let mut line = Vec::new();
        let with_line_feed = LINE_BYTES_MAX as u64 + 1;
        if self.text.by_ref().take(with_line_feed).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(LinesError::TooLong { line: self.number + 1 });
        }
        Ok(Some(Bytes::from(line)))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(u64, Bytes), LinesError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read().transpose()?;
        self.failed = line.is_err();
        self.number += 1;
        Some(line.map(|line| (self.number, line)))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::QuickCheck;

    use super::*;

    fn lines(text: &[u8]) -> Vec<Bytes> {
        Lines::new(text).map(|line| line.unwrap().1).collect()
    }

    fn survey_of(text: &[u8]) -> (u64, bool) {
        // A buffer of 3 bytes, so that lines lie across its borders.
        let survey = survey(&mut io::BufReader::with_capacity(3, text)).unwrap();
        assert_eq!(survey.bytes, text.len() as u64);
        (survey.lines, survey.final_line_feed)
    }

    #[test]
    fn lines_keep_everything_but_their_line_feeds() {
        assert_eq!(lines(b""), Vec::<Bytes>::new());
        assert_eq!(lines(b"\n"), [""]);
        assert_eq!(lines(b"a"), ["a"]);
        assert_eq!(lines(b"a\r\n\r\n\n b \n"), ["a\r", "\r", "", " b "]);
        assert_eq!(lines(b"\xff\xfe\n\x00"), [&b"\xff\xfe"[..], b"\x00"]);
    }

    #[test]
    fn a_survey_counts_the_lines_and_tells_how_the_text_ends() {
        assert_eq!(survey_of(b""), (0, false));
        assert_eq!(survey_of(b"\n"), (1, true));
        assert_eq!(survey_of(b"a"), (1, false));
        assert_eq!(survey_of(b"abc\n"), (1, true));
        assert_eq!(survey_of(b"abcd\n\n\nefg"), (4, false));
    }

    #[test]
    fn the_lines_joined_again_are_the_text() {
        fn joined(text: Vec<u8>) -> bool {
            // Many line feeds, so that all sorts of lines occur.
            let text: Vec<u8> =
                text.into_iter().map(|byte| if byte % 3 == 0 { b'\n' } else { byte }).collect();
            let (count, final_line_feed) = survey_of(&text);
            let lines = lines(&text);
            let mut again = lines.join(&b'\n');
            if final_line_feed {
                again.push(b'\n');
            }
            count == lines.len() as u64 && again == text
        }
        QuickCheck::new().quickcheck(joined as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_ends_the_lines() {
        let mut text = b"a\n".to_vec();
        text.resize(2 + LINE_BYTES_MAX, b'x');
        assert_eq!(lines(&text)[1].len(), LINE_BYTES_MAX);
        assert_eq!(survey_of(&text), (2, false));
        text.extend_from_slice(b"x\nb\n");
        let error = survey(&mut text.as_slice()).unwrap_err().to_string();
        assert!(error.starts_with("line 2 "), "{error}");
        let results: Vec<_> = Lines::new(text.as_slice()).collect();
        assert_eq!(results.len(), 2);
        assert!(matches!(results[1], Err(LinesError::TooLong { line: 2 })));
    }
}
