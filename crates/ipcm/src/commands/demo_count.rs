// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the workers of `ipcm demo` are given, and what they find.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

/// How many lines make a piece at first, so that a short text makes several.
const LINES: usize = 4;
/// After how many pieces they grow, and to what: a long text should not take longer for being sent in crumbs.
const SMALL_PIECES: u64 = 64;
const MORE_LINES: usize = 256;
/// Most bytes of a piece; a longer line is cut between two words.
const PIECE_BYTES: usize = 1 << 20;
/// Most bytes of a word; a longer one is cut and counts as several. Escaped six-fold it still fits in a message.
const WORD_BYTES: usize = 8 << 20;

/// A piece of the text, on its way to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Piece {
    /// Which one it is.
    pub(super) number: u64,
    /// The text; bytes that are no UTF-8 are replaced.
    pub(super) text: String,
    /// How many bytes it has in the file.
    pub(super) bytes: u64,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is there.
    Ready,
    /// It has counted a piece.
    Counted(u64, Count),
}

/// What was counted.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Count {
    /// Ends of lines.
    pub(super) lines: u64,
    /// Words: runs of what is no white space.
    pub(super) words: u64,
    /// Bytes.
    pub(super) bytes: u64,
    /// How often each word is there, in lower case and without the punctuation around it.
    pub(super) each: BTreeMap<String, u64>,
}

impl Count {
    /// Counts a piece.
    pub(super) fn of(piece: &Piece) -> Self {
        let mut count = Self { bytes: piece.bytes, ..Self::default() };
        count.lines = piece.text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        for word in piece.text.split_whitespace() {
            count.words += 1;
            let word = word.trim_matches(|c: char| !c.is_alphanumeric());
            if !word.is_empty() {
                *count.each.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        count
    }

    /// Adds another count.
    pub(super) fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
        for (word, count) in other.each {
            *self.each.entry(word).or_default() += count;
        }
    }

    /// The most frequent words: by count, then by the alphabet.
    pub(super) fn top(&self, most: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> = self.each.iter().map(|(word, count)| (word.as_str(), *count)).collect();
        words.sort_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
        words.truncate(most);
        words
    }
}

/// Cuts a text into pieces.
pub(super) struct Pieces<R> {
    input: R,
    number: u64,
    /// The beginning of a word that the last piece had no room for.
    begun: Vec<u8>,
    /// Whether the last piece ended in the middle of a line.
    pub(super) open_line: bool,
}

impl<R: BufRead> Pieces<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, begun: Vec::new(), open_line: false }
    }

    /// The next piece, or `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        let lines = if self.number < SMALL_PIECES { LINES } else { MORE_LINES };
        let mut bytes = std::mem::take(&mut self.begun);
        for _ in 0..lines {
            let room = PIECE_BYTES.saturating_sub(bytes.len());
            if self.read_line(room, &mut bytes)? == 0 {
                break;
            }
        }
        self.end_with_a_word(&mut bytes)?;
        let Some(last) = bytes.last() else { return Ok(None) };
        self.open_line = *last != b'\n';
        self.number += 1;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(Piece { number: self.number, text, bytes: bytes.len() as u64 }))
    }

    fn read_line(&mut self, room: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.input.by_ref().take(room as u64).read_until(b'\n', bytes)
    }

    /// Leaves the beginning of a word for the next piece, or takes in the rest of one that fills the whole piece.
    fn end_with_a_word(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while bytes.len() >= PIECE_BYTES && bytes.len() < WORD_BYTES && bytes.last().is_some_and(|last| *last != b'\n')
        {
            if let Some(blank) = bytes.iter().rposition(u8::is_ascii_whitespace) {
                self.begun = bytes.split_off(blank + 1);
                break;
            }
            if self.read_line(PIECE_BYTES, bytes)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &[u8]) -> (Count, u64) {
        let mut pieces = Pieces::new(text);
        let (mut total, mut number) = (Count::default(), 0);
        while let Some(piece) = pieces.next().unwrap() {
            number += 1;
            assert_eq!(piece.number, number);
            total.add(Count::of(&piece));
        }
        total.lines += u64::from(pieces.open_line);
        (total, number)
    }

    #[test]
    fn counts_do_not_depend_on_the_pieces() {
        let (none, pieces) = count(b"");
        assert_eq!((none, pieces), (Count::default(), 0));
        let (some, pieces) = count(b"One, two.\ntwo\n\xff\n\n(three) -\nTHREE three");
        assert_eq!((some.lines, some.words, some.bytes, pieces), (6, 8, 38, 2));
        assert_eq!(some.top(2), [("three", 3), ("two", 2)]);
        let long = b"word\n".repeat(1000);
        let (total, pieces) = count(&long);
        assert_eq!((total.lines, total.words, total.bytes, pieces), (1000, 1000, 5000, 67));
        let (total, pieces) = count(&b"x".repeat(PIECE_BYTES + 1));
        assert_eq!((total.lines, total.words, total.bytes, pieces), (1, 1, PIECE_BYTES as u64 + 1, 1));
        let (total, _) = count(&b"of five ".repeat(PIECE_BYTES));
        assert_eq!((total.lines, total.words, total.bytes), (1, 2 * PIECE_BYTES as u64, 8 * PIECE_BYTES as u64));
    }
}
