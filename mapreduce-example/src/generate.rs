//! Gigabytes of text from a seed.
//!
//! The words are made up, and are as frequent as those of a real text are: a few of them make up half of it, and most of the
//! many are rare (Zipf's law). The same arguments give the same bytes, on all machines.

#![allow(
    clippy::cast_possible_truncation,
    reason = "bits of a draw, and numbers below the number of words"
)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How many different words there are.
const WORDS: usize = 100_000;
/// Flattens the most frequent words a little, as in real texts (Mandelbrot).
const RANK_SHIFT: f64 = 2.7;
/// The longest line ends after the word that reaches it, in bytes.
const LINE_BYTES_MAX: u64 = 120;
/// Five syllables of five letters fit.
const SLOT_BYTES: usize = 31;
/// A line with the word that ends it, what is around that word in its slot, and the line feed.
const LINE_BYTES: usize = LINE_BYTES_MAX as usize + 2 * SLOT_BYTES;
const BUFFER_BYTES: usize = 1 << 20;

/// Writes `files` files of exactly `bytes_each` bytes, `text-00000.txt` and so on, into the folder `dir`, which is created.
/// Returns their paths. Neither synced nor atomic: it is nobody's data.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn generate(dir: &Path, files: u32, bytes_each: u64, seed: u64) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    let vocabulary = Vocabulary::new(seed);
    let mut paths = Vec::new();
    for number in 0..files {
        let path = dir.join(format!("text-{number:05}.txt"));
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path)?);
        // Each file has a stream of its own, whatever is written of the others.
        let mut chance = Chance(seed ^ (u64::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        vocabulary.write(&mut chance, bytes_each, &mut out)?;
        out.flush()?;
        paths.push(path);
    }
    Ok(paths)
}

/// A word in a slot of its own.
#[derive(Copy, Clone)]
struct Word {
    letters: [u8; SLOT_BYTES],
    len: u8,
}

impl Word {
    fn new(word: &str) -> Word {
        let mut letters = [0; SLOT_BYTES];
        let len = word.len().min(SLOT_BYTES);
        letters[..len].copy_from_slice(&word.as_bytes()[..len]);
        Word { letters, len: len as u8 }
    }
}

/// The words, and how frequent each is.
struct Vocabulary {
    words: Vec<Word>,
    /// For each word how likely it is that a draw of its number means it, as a part of 2³², and else which other (the alias
    /// method: one look-up a draw).
    draws: Vec<(u32, u32)>,
}

impl Vocabulary {
    fn new(seed: u64) -> Vocabulary {
        let mut chance = Chance(seed);
        let mut seen = HashSet::new();
        let mut words = Vec::with_capacity(WORDS);
        while words.len() < WORDS {
            // Frequent words are short.
            let syllables =
                1 + words.len().checked_ilog10().unwrap_or(0) as usize / 2 + chance.below(2);
            let word: String = (0..syllables).map(|_| syllable(&mut chance)).collect();
            // Where all short ones are taken, a longer one will do.
            let word = if seen.contains(&word) { word + &syllable(&mut chance) } else { word };
            let slot = Word::new(&word);
            if seen.insert(word) {
                words.push(slot);
            }
        }
        Vocabulary { words, draws: draws() }
    }

    /// Writes text of exactly `bytes` bytes, which ends with a line feed.
    fn write(&self, chance: &mut Chance, bytes: u64, out: &mut impl Write) -> io::Result<()> {
        let mut left = bytes;
        let mut line = [0; LINE_BYTES];
        while left > 0 {
            // Now and then a line is empty, and most are of some length.
            let target = (chance.next() % LINE_BYTES_MAX) as usize;
            let mut len = 0;
            while len < target {
                let draw = chance.next();
                let word = self.draw(draw);
                // All of the slot, so that its length is known here: that is several times as fast.
                line[len..len + SLOT_BYTES].copy_from_slice(&word.letters);
                len += usize::from(word.len);
                // The bits that the draw has not used.
                let mark = match draw >> 57 {
                    0..8 => b',',
                    8..14 => b'.',
                    14 => b';',
                    15.. => b' ',
                };
                line[len..len + 2].copy_from_slice(&[mark, b' ']);
                len += if mark == b' ' { 1 } else { 2 };
            }
            let len = (len as u64).min(left - 1) as usize;
            line[len] = b'\n';
            out.write_all(&line[..=len])?;
            left -= len as u64 + 1;
        }
        Ok(())
    }

    fn draw(&self, draw: u64) -> &Word {
        let number = (((draw & 0xFFF_FFFF) * WORDS as u64) >> 28) as usize;
        let threshold = (draw >> 25) as u32 & !0x7;
        let (own, other) = self.draws[number];
        if threshold < own { &self.words[number] } else { &self.words[other as usize] }
    }
}

/// Vose's construction: each word's surplus fills up what the rare ones lack.
fn draws() -> Vec<(u32, u32)> {
    let weights: Vec<f64> = (0..WORDS).map(|rank| 1.0 / (rank as f64 + RANK_SHIFT)).collect();
    let mean = weights.iter().sum::<f64>() / WORDS as f64;
    let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
    let (mut rare, mut frequent): (Vec<usize>, Vec<usize>) =
        (0..WORDS).partition(|rank| shares[*rank] < 1.0);
    let mut draws = vec![(u32::MAX, 0); WORDS];
    while let (Some(one), Some(other)) = (rare.pop(), frequent.pop()) {
        draws[one] = ((shares[one] * f64::from(u32::MAX)) as u32, other as u32);
        shares[other] -= 1.0 - shares[one];
        if shares[other] < 1.0 { rare.push(other) } else { frequent.push(other) }
    }
    draws
}

fn syllable(chance: &mut Chance) -> String {
    const ONSETS: [&str; 20] = [
        "b", "br", "c", "d", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t",
        "th", "v", "w",
    ];
    const NUCLEI: [&str; 8] = ["a", "e", "i", "o", "u", "ea", "ou", "y"];
    const CODAS: [&str; 8] = ["", "", "", "n", "r", "s", "l", "t"];
    let mut syllable = ONSETS[chance.below(ONSETS.len())].to_owned();
    syllable += NUCLEI[chance.below(NUCLEI.len())];
    syllable + CODAS[chance.below(CODAS.len())]
}

/// SplitMix64: small, fast, and good enough for text.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (((self.next() >> 32) * bound as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::jobs::words;

    #[test]
    fn the_same_seed_gives_the_same_text_of_exactly_the_size() {
        let dir = tempfile::tempdir().unwrap();
        let text = |folder: &str, seed| {
            let paths = generate(&dir.path().join(folder), 3, 10_001, seed).unwrap();
            paths.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
        };
        let one = text("one", 1);
        assert_eq!(one, text("again", 1));
        assert_ne!(one, text("other", 2));
        assert_ne!(one[0], one[1]);
        assert!(one.iter().all(|text| text.len() == 10_001 && text.ends_with(b"\n")));
    }

    #[test]
    fn few_words_are_frequent_and_many_are_rare() {
        let dir = tempfile::tempdir().unwrap();
        let paths = generate(dir.path(), 1, 2_000_000, 1).unwrap();
        let mut counts = HashMap::new();
        words(&fs::read(&paths[0]).unwrap(), |word| {
            *counts.entry(word.to_owned()).or_insert(0_u64) += 1;
        });
        let mut counts: Vec<u64> = counts.into_values().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(*count));
        let all: u64 = counts.iter().sum();
        assert!(counts.len() > 20_000, "{} words", counts.len());
        let hundred: u64 = counts[..100].iter().sum();
        assert!(hundred * 4 > all && hundred * 2 < all, "the first hundred are {hundred} of {all}");
    }
}
