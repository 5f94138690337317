// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inputs that are nearly sound: sound ones, changed in a few places.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;

/// Lengths and counts that code is wrong about, and bytes that mean something in most formats.
const TOKENS: &[&[u8]] = &[
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\x01",
    b"\x01\0\0\0",
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"%",
    b"=",
    b";",
    b"/",
    b"../",
    b"null",
    b"true",
    b"-0",
    b"1e400",
    b"18446744073709551616",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\xff",
];

/// Most bytes of an input.
const LONGEST: usize = 64 << 10;

/// One change. Places are shares of whatever length there is then.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Token(Index, &'static [u8]),
    Over(Index, &'static [u8]),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
    /// A piece of another input.
    Splice(Index, Index, Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let length = || prop_oneof![4 => 1..9_usize, 1 => 1..400_usize];
    let token = || proptest::sample::select(TOKENS);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), token()).prop_map(|(at, token)| Mutation::Token(at, token)),
        (at(), token()).prop_map(|(at, token)| Mutation::Over(at, token)),
        (at(), length()).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (at(), length(), prop_oneof![8 => 1..4_usize, 1 => 1..200_usize])
            .prop_map(|(at, length, times)| Mutation::Repeat(at, length, times)),
        at().prop_map(Mutation::Cut),
        (at(), at(), at(), length()).prop_map(|(at, which, from, length)| Mutation::Splice(at, which, from, length)),
    ]
}

/// Inputs made from these, of which there must be one.
pub(super) fn of(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), prop_oneof![1 => Just(0..2), 6 => Just(0..4), 2 => Just(0..24)]).prop_flat_map(
        move |(which, changes)| {
            let seeds = seeds.clone();
            vec(mutation(), changes).prop_map(move |mutations| {
                let mut bytes = which.get(&seeds).clone();
                for mutation in &mutations {
                    apply(mutation, &mut bytes, &seeds);
                    bytes.truncate(LONGEST);
                }
                bytes
            })
        },
    )
}

fn apply(mutation: &Mutation, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    // Places to put something at: before each byte, and behind the last.
    let gap = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    match mutation {
        Mutation::Set(at, byte) => {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
        }
        Mutation::Flip(at, bit) => {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
        }
        Mutation::Insert(at, inserted) => drop(bytes.splice(gap(at, bytes)..gap(at, bytes), inserted.iter().copied())),
        Mutation::Token(at, token) => drop(bytes.splice(gap(at, bytes)..gap(at, bytes), token.iter().copied())),
        Mutation::Over(at, token) => {
            let at = gap(at, bytes);
            let end = bytes.len().min(at + token.len());
            drop(bytes.splice(at..end, token.iter().copied()));
        }
        Mutation::Remove(at, length) => {
            let at = gap(at, bytes);
            let end = bytes.len().min(at + length);
            drop(bytes.drain(at..end));
        }
        Mutation::Repeat(at, length, times) => {
            let at = gap(at, bytes);
            let piece = bytes[at..bytes.len().min(at + length)].repeat(*times);
            drop(bytes.splice(at..at, piece));
        }
        Mutation::Cut(at) => bytes.truncate(gap(at, bytes)),
        Mutation::Splice(at, which, from, length) => {
            let other = which.get(seeds);
            let from = gap(from, other);
            let piece = other[from..other.len().min(from + length)].to_vec();
            let at = gap(at, bytes);
            drop(bytes.splice(at..at, piece));
        }
    }
}
