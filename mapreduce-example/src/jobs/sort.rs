//! All lines in order.

use std::io::{self, Write};

use bytes::Bytes;

use crate::job::{Argument, Arguments, Emitter, Job, Kind, Piece, Sample};

/// All lines in the order of their bytes, each as often as it occurs. The partitions are ranges of lines, so that their results
/// one after the other are in order, too.
#[derive(Clone, Debug)]
pub struct Sort {
    /// Where the next partition begins, in order; one less than there are partitions.
    boundaries: Vec<Bytes>,
}

/// A boundary need not be a whole line.
const BOUNDARY_BYTES_MAX: usize = 32;
const BOUNDARIES: &str = "boundaries";

impl Sort {
    /// With the lines at which new partitions begin.
    #[must_use]
    pub fn new(mut boundaries: Vec<Bytes>) -> Sort {
        boundaries.sort();
        Sort { boundaries }
    }
}

pub(super) fn kind() -> Kind {
    let boundaries = Argument {
        name: BOUNDARIES,
        about: "where partitions begin, in hexadecimal digits, with commas between; else by a sample",
        required: false,
    };
    Kind::new("sort", "all lines in the order of their bytes", |arguments| {
        let text = arguments.get(BOUNDARIES).map_or("", String::as_str);
        let boundaries: Option<Vec<Bytes>> =
            text.split(',').filter(|digits| !digits.is_empty()).map(from_hex).collect();
        let boundaries = boundaries.ok_or("boundaries are hexadecimal digits, two a byte")?;
        Ok(Sort::new(boundaries))
    })
    .with_argument(boundaries)
    .with_preparation(|sample, arguments| Ok(prepare(sample, arguments)))
}

/// Boundaries at equal distances in the sample.
fn prepare(sample: &Sample, arguments: &Arguments) -> Arguments {
    if arguments.contains_key(BOUNDARIES) {
        return Arguments::new();
    }
    let mut lines = sample.lines.clone();
    lines.sort();
    let reducers = sample.reducers as usize;
    let mut boundaries: Vec<String> = (1..reducers)
        .filter_map(|at| lines.get(at * lines.len() / reducers))
        .map(|line| to_hex(&line[..line.len().min(BOUNDARY_BYTES_MAX)]))
        .collect();
    // Equal ones would leave partitions empty in between.
    boundaries.dedup();
    Arguments::from([(BOUNDARIES.to_owned(), boundaries.join(","))])
}

impl Job for Sort {
    type Key = Bytes;
    /// How often the line occurs.
    type Value = u64;
    type Output = u64;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        for (_, line) in piece.lines() {
            emit.emit_owned(Bytes::copy_from_slice(line), 1);
        }
        Ok(())
    }

    fn reduce(&self, _line: &Bytes, counts: &mut dyn Iterator<Item = u64>) -> Result<u64, String> {
        Ok(counts.sum())
    }

    fn partition(&self, line: &Bytes, reducers: u32) -> u32 {
        let before = self.boundaries.partition_point(|boundary| boundary <= line);
        u32::try_from(before).unwrap_or(u32::MAX).min(reducers.saturating_sub(1))
    }

    fn line(&self, line: &Bytes, count: &u64, out: &mut dyn Write) -> io::Result<()> {
        for _ in 0..*count {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> = digits
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
