// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes on a connection: frames of a big-endian length and a payload, the first of them a hello.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::name::PeerName;
use crate::serializer::Serializer;

/// The length before each payload, without itself.
pub(super) const HEADER_BYTES: usize = 4;
/// Most bytes of a hello: a name and little else.
pub(super) const HELLO_BYTES: usize = 64 << 10;
/// How much room a read finds at least.
const READ_BYTES: usize = 128 << 10;
/// A buffer that is empty keeps no more room than this.
const KEPT_BYTES: usize = 512 << 10;
/// How many buffers without a connection are kept.
const MOST_SPARE: usize = 2;

/// What goes before a payload.
pub(super) fn header(payload: &[u8]) -> Result<[u8; HEADER_BYTES]> {
    let length = u32::try_from(payload.len()).map_err(|_| {
        let detail = format!("the encoded message has {} bytes, and a frame holds 4 GiB", payload.len());
        Error::new(ErrorKind::TooLarge, detail)
    })?;
    Ok(length.to_be_bytes())
}

/// The frame with which whoever opens a connection says who that is.
pub(super) fn hello(name: &PeerName, serializer: &dyn Serializer) -> Result<Vec<u8>> {
    let mut text = String::from("{\"hello\":");
    json::to_wire(name.as_str(), &Limits::DEFAULT, &mut text)?;
    text.push('}');
    let mut payload = Vec::new();
    serializer.encode(&text, &mut payload)?;
    let mut frame = header(&payload)?.to_vec();
    frame.append(&mut payload);
    Ok(frame)
}

/// Who says hello in the first frame of a connection.
pub(super) fn name_in_hello(payload: &[u8], serializer: &dyn Serializer) -> Result<PeerName> {
    let named = match hello_in(payload, serializer)?.get("hello") {
        Some(Value::String(name)) => name.clone(),
        // Languages that do not tell numbers from strings may write either.
        Some(Value::Number(name)) => name.to_string(),
        _ => return Err(Error::new(ErrorKind::Corrupt, "the first frame of a connection does not say whose it is")),
    };
    PeerName::foreign(&named).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "the first frame of a connection names nobody").with_source(error)
    })
}

/// Whether a later frame is nothing but a hello, which is of no interest.
pub(super) fn is_bare_hello(payload: &[u8], serializer: &dyn Serializer) -> bool {
    hello_in(payload, serializer)
        .is_ok_and(|value| value.as_object().is_some_and(|fields| fields.len() == 1 && fields.contains_key("hello")))
}

fn hello_in(payload: &[u8], serializer: &dyn Serializer) -> Result<Value> {
    if payload.len() > HELLO_BYTES {
        return Err(Error::new(ErrorKind::TooLarge, format!("a hello has {} bytes", payload.len())));
    }
    let limits = Limits { decoded_bytes: HELLO_BYTES, json_depth: 16, ..Limits::DEFAULT };
    let text = serializer.decode(payload, limits.decoded_bytes)?;
    json::parse_value(&json::normalise(&text, &limits)?)
}

/// What stands at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// Nothing.
    Empty,
    /// The beginning of a frame.
    Part,
    /// A frame with a payload of so many bytes.
    Whole(usize),
    /// A length that is past the limit: nothing behind it can be found.
    TooLong(usize),
}

/// What came over a connection and was not handed out.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
}

impl Frames {
    /// What is at the front, if payloads may have so many bytes.
    pub(super) fn front(&self, limit: usize) -> Front {
        let waiting = self.waiting();
        let Some((length, after)) = waiting.split_first_chunk::<HEADER_BYTES>() else {
            return if waiting.is_empty() { Front::Empty } else { Front::Part };
        };
        match usize::try_from(u32::from_be_bytes(*length)) {
            Ok(length) if length > limit => Front::TooLong(length),
            Ok(length) if after.len() >= length => Front::Whole(length),
            Ok(_) => Front::Part,
            Err(_) => Front::TooLong(usize::MAX),
        }
    }

    /// The payload of this size at the front.
    pub(super) fn payload(&self, size: usize) -> &[u8] {
        self.waiting().get(HEADER_BYTES..HEADER_BYTES.saturating_add(size)).unwrap_or_default()
    }

    /// Drops the frame with a payload of this size at the front.
    pub(super) fn advance(&mut self, size: usize) {
        self.start = self.buffer.len().min(self.start.saturating_add(HEADER_BYTES + size));
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Gives an empty buffer away: a connection on which nothing comes holds none.
    pub(super) fn give_away(&mut self, spare: &mut Vec<Vec<u8>>) {
        if self.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            if spare.len() < MOST_SPARE && (1..=KEPT_BYTES).contains(&buffer.capacity()) {
                spare.push(buffer);
            }
        }
    }

    /// The buffer, with room behind what waits. It grows with what really came, never with what a length claims.
    pub(super) fn room(&mut self, spare: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = spare.pop().unwrap_or_default();
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::Serializers;

    fn filled(bytes: &[u8]) -> Frames {
        let mut frames = Frames::default();
        frames.room(&mut vec![]).extend_from_slice(bytes);
        frames
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let stream = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03cde";
        for cut in 0..=stream.len() {
            let (mut frames, mut got) = (filled(&stream[..cut]), Vec::new());
            for more in [&b""[..], &stream[cut..]] {
                frames.room(&mut vec![]).extend_from_slice(more);
                while let Front::Whole(size) = frames.front(3) {
                    got.push(frames.payload(size).to_vec());
                    frames.advance(size);
                }
            }
            assert_eq!(got, [&b"ab"[..], b"", b"cde"], "cut at {cut}");
            assert_eq!(frames.front(3), Front::Empty);
        }
    }

    #[test]
    fn a_length_past_the_limit_is_seen_at_once() {
        assert_eq!(filled(b"\xff\xff\xff\xff").front(64 << 20), Front::TooLong(0xFFFF_FFFF));
        assert_eq!(filled(b"\0\0\0\x04").front(3), Front::TooLong(4));
        assert_eq!(filled(b"\0\0\0\x04").front(4), Front::Part);
        assert_eq!(filled(b"\0\0").front(0), Front::Part);
    }

    #[test]
    fn hellos_are_read_as_written_and_bad_ones_name_nobody() {
        let serializer = Serializers::standard().resolve(&"JSON".parse().unwrap()).unwrap();
        let frame = hello(&PeerName::new("a").unwrap(), &*serializer).unwrap();
        assert_eq!(frame, b"\0\0\0\x0d{\"hello\":\"a\"}");
        assert_eq!(name_in_hello(&frame[HEADER_BYTES..], &*serializer).unwrap().as_str(), "a");
        assert_eq!(name_in_hello(b"{\"hello\":17,\"more\":[]}", &*serializer).unwrap().as_str(), "17");
        for bad in
            [&b""[..], b"[]", b"{}", b"null", b"{\"hello\":\"\"}", b"{\"hello\":null}", b"{\"hello\":\"_x\"}", b"{"]
        {
            assert!(name_in_hello(bad, &*serializer).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(is_bare_hello(b"{\"hello\":\"x\"}", &*serializer));
        assert!(!is_bare_hello(b"{\"hello\":\"x\",\"from\":\"a\"}", &*serializer));
    }
}
