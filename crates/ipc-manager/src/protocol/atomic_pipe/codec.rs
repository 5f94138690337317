// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames: a message in parts, each small enough to go into a pipe in one piece. The format is in `docs/formats.md`,
//! "AtomicPipe".

use crate::system::pipe;

/// Bytes of a frame before its payload: pid, tid, part id and size, four each, in the byte order of the machine.
pub(super) const HEADER_BYTES: usize = 16;
/// Most payload of one frame.
pub(super) const PART_BYTES: usize = pipe::ATOMIC_BYTES - HEADER_BYTES;

/// Who wrote a frame. Frames of different writers interleave; those of one are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) pid: i32,
    /// Tells the writers of one process apart.
    pub(super) tid: i32,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) writer: Writer,
    /// How many parts of the message come after this one.
    pub(super) part: u32,
    pub(super) size: usize,
}

impl Header {
    /// Reads a header. `None` if fewer bytes are there than it has, `Err` if it can be none: no process has that pid, or
    /// no frame that size.
    pub(super) fn read(bytes: &[u8]) -> Option<Result<Self, &'static str>> {
        let (fields, _) = bytes.split_first_chunk::<HEADER_BYTES>()?.0.as_chunks::<4>();
        let [pid, tid, part, size] = *fields else { return None };
        let size = usize::try_from(u32::from_ne_bytes(size)).unwrap_or(usize::MAX);
        let (pid, tid) = (i32::from_ne_bytes(pid), i32::from_ne_bytes(tid));
        Some(if pid < 1 {
            Err("its pid is none")
        } else if size == 0 || size > PART_BYTES {
            Err("its size is none that a frame can have")
        } else {
            Ok(Self { writer: Writer { pid, tid }, part: u32::from_ne_bytes(part), size })
        })
    }

    /// Appends a frame with this payload.
    fn write(self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.writer.pid.to_ne_bytes());
        out.extend_from_slice(&self.writer.tid.to_ne_bytes());
        out.extend_from_slice(&self.part.to_ne_bytes());
        // Never more than a part has, which is far below 32 bits.
        out.extend_from_slice(&u32::try_from(self.size).unwrap_or(u32::MAX).to_ne_bytes());
        out.extend_from_slice(payload);
    }
}

/// How many frames a payload takes.
pub(super) fn part_count(payload: &[u8]) -> usize {
    payload.len().div_ceil(PART_BYTES).max(1)
}

/// Appends the frame with the part of this index, from 0, to `out`.
pub(super) fn write_part(writer: Writer, payload: &[u8], index: usize, out: &mut Vec<u8>) {
    let rest = payload.get(index * PART_BYTES..).unwrap_or_default();
    let part = rest.get(..PART_BYTES).unwrap_or(rest);
    // The parts of a message of 64 MiB are counted in 15 bits.
    let left = u32::try_from(part_count(payload).saturating_sub(index + 1)).unwrap_or(u32::MAX);
    Header { writer, part: left, size: part.len() }.write(part, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: Writer = Writer { pid: 42, tid: -7 };

    fn frames(payload: &[u8]) -> Vec<(u32, usize)> {
        let mut out = Vec::new();
        for index in 0..part_count(payload) {
            write_part(WRITER, payload, index, &mut out);
        }
        let (mut rest, mut frames) = (&out[..], Vec::new());
        while let Some(header) = Header::read(rest) {
            let header = header.unwrap();
            assert_eq!(header.writer, WRITER);
            frames.push((header.part, header.size));
            rest = &rest[HEADER_BYTES + header.size..];
        }
        assert!(rest.is_empty());
        frames
    }

    #[test]
    fn parts_at_the_borders() {
        if PART_BYTES != 4080 {
            return;
        }
        assert_eq!(frames(&[1; 4080]), [(0, 4080)]);
        assert_eq!(frames(&[1; 4081]), [(1, 4080), (0, 1)]);
        assert_eq!(frames(&[1; 8160]), [(1, 4080), (0, 4080)]);
        assert_eq!(frames(&[1; 8161]), [(2, 4080), (1, 4080), (0, 1)]);
    }

    #[test]
    fn what_is_no_header() {
        let mut frame = Vec::new();
        write_part(WRITER, b"x", 0, &mut frame);
        assert!(Header::read(&frame[..15]).is_none());
        for (offset, bytes) in [(12, [0; 4]), (12, [0xff; 4]), (0, [0; 4]), (0, [0xff; 4])] {
            let mut broken = frame.clone();
            broken[offset..offset + 4].copy_from_slice(&bytes);
            assert!(Header::read(&broken).unwrap().is_err());
        }
    }
}
