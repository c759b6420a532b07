//! What a word is.

/// Calls `found` with each word of a text: a run of letters (those of Unicode), as long as it goes. What is not UTF-8 has no
/// letters.
#[inline]
pub fn words(text: &[u8], mut found: impl FnMut(&str)) {
    match std::str::from_utf8(text) {
        Ok(text) => words_of(text, &mut found),
        // Slower: it looks at each byte for itself.
        Err(_) => text.utf8_chunks().for_each(|chunk| words_of(chunk.valid(), &mut found)),
    }
}

#[inline]
fn words_of(text: &str, found: &mut impl FnMut(&str)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let letter = letter_bytes(text, at);
        if letter == 0 {
            at += char_bytes(bytes[at]);
            continue;
        }
        let begin = at;
        at += letter;
        while at < bytes.len() {
            let letter = letter_bytes(text, at);
            if letter == 0 {
                break;
            }
            at += letter;
        }
        found(&text[begin..at]);
    }
}

/// How many bytes the letter has that begins here; 0 if it is none.
#[inline]
fn letter_bytes(text: &str, at: usize) -> usize {
    let byte = text.as_bytes()[at];
    if byte.is_ascii() {
        return usize::from(byte.is_ascii_alphabetic());
    }
    beyond_ascii(text, at)
}

#[cold]
fn beyond_ascii(text: &str, at: usize) -> usize {
    match text[at..].chars().next() {
        Some(letter) if letter.is_alphabetic() => letter.len_utf8(),
        Some(_) | None => 0,
    }
}

/// How many bytes the character has that begins with this one.
#[inline]
fn char_bytes(first: u8) -> usize {
    match first {
        0..0xC0 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0..=0xFF => 4,
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn all(text: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        words(text, |word| all.push(word.to_owned()));
        all
    }

    #[test]
    fn a_word_is_a_run_of_letters_of_any_script() {
        assert_eq!(
            all(b"Don't panic, K.Iohn 42 x2y\r\n"),
            ["Don", "t", "panic", "K", "Iohn", "x", "y"]
        );
        assert_eq!(all("Größe, 東京–Δx…".as_bytes()), ["Größe", "東京", "Δx"]);
        assert_eq!(all(b"a\xFFb \xE6\x9D\nc"), ["a", "b", "c"]);
        assert!(all(b"").is_empty());
    }

    quickcheck! {
        fn words_are_what_is_between_characters_that_are_no_letters(text: String) -> bool {
            let between = text.split(|c: char| !c.is_alphabetic());
            all(text.as_bytes()) == between.filter(|word| !word.is_empty()).collect::<Vec<_>>()
        }
    }
}
