// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of a connection, however they are cut, and its first frame.

use super::codec::{self, Frames, Front};
use crate::fuzz::target;
use crate::serializer::{Json, Serializer};

/// Most bytes of a frame.
const LIMIT: usize = 64 << 10;

/// The payloads in a stream that comes in pieces, and what is at its front then.
fn split(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Front) {
    let (mut frames, mut spare, mut payloads) = (Frames::default(), Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        frames.room(&mut spare).extend_from_slice(piece);
        while let Front::Whole(size) = frames.front(LIMIT) {
            payloads.push(frames.payload(size).to_vec());
            frames.advance(size);
        }
        frames.give_away(&mut spare);
    }
    (payloads, frames.front(LIMIT))
}

fn joined(payloads: &[Vec<u8>]) -> Vec<u8> {
    let frame = |payload: &Vec<u8>| [&codec::header(payload).expect("it is short")[..], payload].concat();
    payloads.iter().flat_map(frame).collect()
}

#[test]
fn frames_are_the_same_however_they_are_cut() {
    target("stream-frames")
        .memory(2 << 20, 128)
        .seed(joined(&[b"{\"hello\":\"a\"}".to_vec(), vec![], b"{}".to_vec()]))
        .seed(joined(&[vec![b'x'; 3000], b"[]".to_vec()]))
        .bytes(|input| {
            let (payloads, front) = split(input, usize::MAX);
            let written = joined(&payloads);
            assert!(input.starts_with(&written));
            assert_eq!(front == Front::Empty, written.len() == input.len());
            for piece in [1, 3, 1000] {
                assert!(split(input, piece) == (payloads.clone(), split(input, usize::MAX).1), "cut every {piece}");
            }
        });
}

#[test]
fn hellos() {
    let plain = Json::new();
    target("hello").seed(r#"{"hello":"a"}"#).seed(r#"{"hello":17,"more":[]}"#).bytes(|input| {
        let is_bare = codec::is_bare_hello(input, &plain);
        let Ok(name) = codec::name_in_hello(input, &plain) else { return };
        let frame = codec::hello(&name, &plain as &dyn Serializer).expect("it can be written");
        let payload = &frame[codec::HEADER_BYTES..];
        if payload.len() <= codec::HELLO_BYTES {
            assert_eq!(codec::name_in_hello(payload, &plain).expect("it can be read"), name);
        }
        assert!(!is_bare || input.len() <= codec::HELLO_BYTES);
    });
}
