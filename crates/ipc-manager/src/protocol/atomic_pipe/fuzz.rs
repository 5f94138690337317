// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stream of a FIFO: whatever is in it, what is whole comes out.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;

use super::codec::{self, Writer};
use super::stream::Stream;
use crate::fuzz::target;

/// Most bytes of a message.
const LIMIT: usize = 64 << 10;

/// A stream, and the pipe that it reads.
struct Pipe {
    stream: Stream,
    reader: std::io::PipeReader,
    writer: std::io::PipeWriter,
}

impl Pipe {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let flags = rustix::fs::fcntl_getfl(&reader).expect("it has flags");
        rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK).expect("it need not wait");
        Self { stream: Stream::new(LIMIT), reader, writer }
    }

    /// Puts pieces into the pipe, each at once as a writer does it, and takes every message out of the stream.
    fn pass<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut taken, mut waiting) = (Vec::new(), 0);
        for piece in pieces {
            self.writer.write_all(piece).expect("there is room");
            waiting += piece.len();
            // Sometimes more than one is there to be read, and never more than a pipe has room for.
            if piece.len() % 3 > 0 || waiting > 32 << 10 {
                self.drain(&mut taken);
                waiting = 0;
            }
        }
        self.drain(&mut taken);
        taken
    }

    fn drain(&mut self, taken: &mut Vec<Vec<u8>>) {
        loop {
            while self.stream.next().is_some() {
                taken.extend(self.stream.take(|payload, _| payload.to_vec()));
            }
            if !self.stream.fill(self.reader.as_fd()).expect("it can be read") {
                break;
            }
        }
    }
}

fn frames(writer: Writer, payload: &[u8]) -> Vec<Vec<u8>> {
    let part = |index| {
        let mut frame = Vec::new();
        codec::write_part(writer, payload, index, &mut frame);
        frame
    };
    (0..codec::part_count(payload)).map(part).collect()
}

/// A writer in a process that is there.
fn alive(tid: i32) -> Writer {
    Writer { pid: rustix::process::getpid().as_raw_nonzero().get(), tid }
}

const SOUND: Writer = Writer { pid: 1, tid: 77 };

#[test]
fn what_comes_after_junk_arrives() {
    let long = vec![b'x'; 9000];
    target("pipe-stream")
        .memory(2 << 20, 64)
        .seed(frames(SOUND, b"{}").concat())
        .seed([frames(SOUND, &long).concat(), frames(Writer { pid: 2, tid: -1 }, b"[1]").concat()].concat())
        .seed(frames(SOUND, &long)[1].clone())
        .bytes(|input| {
            let mut pipe = Pipe::new();
            let taken: usize = pipe.pass(input.chunks(4096)).iter().map(Vec::len).sum();
            assert!(taken <= input.len());
            // Another writer than any that the junk may have named.
            let fresh = Writer { pid: i32::MAX, tid: 0x1234_5678 };
            for payload in [&b"small"[..], &long] {
                assert_eq!(pipe.pass(frames(fresh, payload).iter().map(Vec::as_slice)), [payload]);
            }
            for error in pipe.stream.take_damage() {
                assert!(!error.to_string().is_empty());
            }
        });
}

/// Reads an input as a programme: who writes a part next, and where junk is in between. Junk begins with no pid that a
/// process can have, wherever one looks into it.
#[test]
fn interleaved_messages_arrive_in_order_around_junk() {
    target("pipe-writers").memory(8 << 20, 4 << 10).seed([0, 1, 2, 3, 0, 0, 1, 0x70]).seed([1, 0xff, 2, 0x81]).bytes(
        |programme| {
            let programme = &programme[..programme.len().min(200)];
            let (mut pieces, mut expected) = (Vec::new(), BTreeMap::<u8, Vec<Vec<u8>>>::new());
            let mut under_way: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
            let mut step =
                |who: u8, under_way: &mut BTreeMap<u8, Vec<Vec<u8>>>, size: u8, pieces: &mut Vec<Vec<u8>>| {
                    let parts = under_way.entry(who).or_default();
                    if parts.is_empty() {
                        let sent = expected.entry(who).or_default();
                        let mut payload = format!("{{\"who\":{who},\"n\":{}}}", sent.len()).into_bytes();
                        payload.resize(payload.len() + usize::from(size) * 100, b'.');
                        *parts = frames(alive(i32::from(who)), &payload);
                        sent.push(payload);
                    }
                    pieces.push(parts.remove(0));
                };
            for op in programme {
                match op {
                    0x80.. => pieces.push(vec![0xff; usize::from(op & 0x7f)]),
                    op => step(op % 4, &mut under_way, op / 4 * 4, &mut pieces),
                }
            }
            for who in 0..4 {
                while under_way.get(&who).is_some_and(|parts| !parts.is_empty()) {
                    step(who, &mut under_way, 0, &mut pieces);
                }
            }
            let mut got = BTreeMap::<u8, Vec<Vec<u8>>>::new();
            for payload in Pipe::new().pass(pieces.iter().map(Vec::as_slice)) {
                got.entry(payload[7] - b'0').or_default().push(payload);
            }
            assert!(got == expected, "{:?} of {:?}", counts(&got), counts(&expected));
        },
    );
}

#[test]
fn a_message_between_two_pieces_of_junk_arrives() {
    for junk in [&[0xff; 9][..], &[0; 40]] {
        let frame = frames(alive(7), b"{}").concat();
        let bytes = [junk, &frame, junk, &frame, junk].concat();
        assert_eq!(Pipe::new().pass([&bytes[..]]), [b"{}", b"{}"]);
    }
}

#[test]
fn headers_that_look_like_others_in_between_cost_nothing() {
    // The end of an empty frame's header and the pid of the next writer read as a header of process 1.
    let empty: Vec<u8> = [9_999_i32, 1, 0, 0].into_iter().flat_map(i32::to_ne_bytes).collect();
    for pid in [2, 100, 763, 4_000] {
        let frame = |payload| frames(Writer { pid, tid: 1 }, payload).concat();
        let bytes = [empty.clone(), frame(b"{}"), frame(&[b'x'; 300])].concat();
        assert_eq!(Pipe::new().pass([&bytes[..]]), [b"{}".to_vec(), vec![b'x'; 300]], "pid {pid}");
    }
}

fn counts(all: &BTreeMap<u8, Vec<Vec<u8>>>) -> Vec<(u8, usize)> {
    all.iter().map(|(who, sent)| (*who, sent.len())).collect()
}
