// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the bytes of a FIFO to messages: frames are put together by writer, and nothing that a frame says is believed
//! before it was checked.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::codec::{HEADER_BYTES, Header, PART_BYTES, Writer};
use crate::error::{Error, ErrorKind};
use crate::system::{pipe, process};

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// Most bytes of unfinished messages, of all writers together.
const MOST_UNFINISHED_BYTES: usize = 256 << 20;
/// Most writers with an unfinished message.
const MOST_UNFINISHED: usize = 1_024;
/// An unfinished message of which nothing came for so long is given up.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A writer of which something came within this time is alive.
const MOMENT: Duration = Duration::from_secs(2);
/// How often to ask whether the writers of unfinished messages are alive.
const ASK_FOR_DEATH: Duration = Duration::from_secs(1);

/// A message of which not all parts are there.
#[derive(Debug)]
struct Unfinished {
    /// The part that must come next.
    next: u32,
    payload: Vec<u8>,
    /// Where the last part begins.
    last: usize,
    /// It was refused; its parts are let pass.
    is_refused: bool,
    changed: Instant,
}

/// What is at the front of the stream.
#[derive(Debug)]
enum Front {
    /// A whole message in one frame, of so many bytes, still in the buffer.
    InBuffer(usize),
    /// A message put together from parts, and where the last one begins.
    Apart(Vec<u8>, usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stream {
    buffer: Box<[u8]>,
    /// What of the buffer is filled and not consumed.
    begin: usize,
    end: usize,
    front: Option<Front>,
    unfinished: HashMap<Writer, Unfinished>,
    unfinished_bytes: usize,
    /// Largest payload that is believed.
    most_bytes: usize,
    /// Bytes passed over since the last sound frame.
    passed_over: usize,
    /// Whether the last read took all that there was.
    has_emptied: bool,
    asked: Instant,
    damage: Vec<Error>,
}

impl Stream {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            buffer: vec![0; READ_BYTES].into(),
            begin: 0,
            end: 0,
            front: None,
            unfinished: HashMap::new(),
            unfinished_bytes: 0,
            most_bytes,
            passed_over: 0,
            has_emptied: false,
            asked: Instant::now(),
            damage: Vec::new(),
        }
    }

    /// What was lost since last asked, each once.
    pub(super) fn take_damage(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.damage)
    }

    /// Whether a message is at the front, without looking for one.
    pub(super) fn has_front(&self) -> bool {
        self.front.is_some()
    }

    /// Whether everything that was in the FIFO is read and handed out: to read once more would find out nothing.
    pub(super) fn has_emptied(&self) -> bool {
        self.has_emptied && self.begin == self.end && self.unfinished.is_empty()
    }

    /// Whether a part of a message is there and the rest is not.
    pub(super) fn has_unfinished(&self) -> bool {
        self.unfinished.values().any(|unfinished| !unfinished.is_refused)
    }

    /// Finds the next whole message in what was read, and says how many bytes it has.
    pub(super) fn next(&mut self) -> Option<usize> {
        loop {
            match &self.front {
                Some(Front::InBuffer(size)) => return Some(*size),
                Some(Front::Apart(payload, _)) => return Some(payload.len()),
                None => {}
            }
            match Header::read(&self.buffer[self.begin..self.end])? {
                Ok(header) if self.end - self.begin < HEADER_BYTES + header.size => return None,
                Ok(header) => self.take_frame(header),
                Err(why) => {
                    if !self.resynchronise(why) {
                        return None;
                    }
                }
            }
        }
    }

    /// Takes the message at the front: its payload, and the last part of it where it came in several. That may be a
    /// whole message of its own: a writer that was killed within one, and whose pid and tid are used again, leaves half a
    /// one that nothing in the format tells from the beginning of this one.
    pub(super) fn take<T>(&mut self, use_it: impl FnOnce(&[u8], Option<&[u8]>) -> T) -> Option<T> {
        match self.front.take()? {
            Front::InBuffer(size) => {
                let begin = self.begin;
                self.begin += size;
                Some(use_it(&self.buffer[begin..begin + size], None))
            }
            Front::Apart(payload, last) => Some(use_it(&payload, payload.get(last..))),
        }
    }

    /// Reads more. `false` if nothing more is there.
    pub(super) fn fill(&mut self, fifo: BorrowedFd<'_>) -> io::Result<bool> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < HEADER_BYTES + PART_BYTES {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let room = self.buffer.len() - self.end;
        let read = pipe::read(fifo, &mut self.buffer[self.end..])?;
        self.end += read.unwrap_or(0);
        self.has_emptied = read.is_none_or(|read| read < room);
        if read.is_none() {
            self.is_drained();
        }
        Ok(read.is_some())
    }

    /// A frame is written in one piece, so half a one at the end of all that there is will never be whole.
    fn is_drained(&mut self) {
        if self.front.is_none() && self.begin < self.end {
            self.passed_over += self.end - self.begin;
            self.begin = self.end;
        }
        self.report_passed_over("half a frame is at its end");
        if !self.unfinished.is_empty() && self.asked.elapsed() >= ASK_FOR_DEATH {
            self.drop_orphans(MOMENT);
        }
    }

    /// Gives up the unfinished messages of processes that are gone, and of those that say no more. A process of which
    /// something came within the last moment is not asked for: in another pid namespace it has another number.
    pub(super) fn drop_orphans(&mut self, moment: Duration) {
        self.asked = Instant::now();
        let is_orphan = |writer: &Writer, unfinished: &Unfinished| {
            let pause = unfinished.changed.elapsed();
            pause > LONGEST_PAUSE || (pause >= moment && !u32::try_from(writer.pid).is_ok_and(process::pid_is_alive))
        };
        let orphans: Vec<Writer> =
            self.unfinished.iter().filter(|(writer, one)| is_orphan(writer, one)).map(|(writer, _)| *writer).collect();
        for writer in orphans {
            self.give_up(writer, "its writer is gone, or has paused for too long");
        }
    }

    fn give_up(&mut self, writer: Writer, why: &str) {
        let Some(unfinished) = self.unfinished.remove(&writer) else { return };
        self.unfinished_bytes -= unfinished.payload.len();
        if !unfinished.is_refused {
            let (bytes, pid) = (unfinished.payload.len(), writer.pid);
            self.report(format!("a message of process {pid} was left unfinished after {bytes} bytes: {why}"));
        }
    }

    fn report(&mut self, detail: String) {
        self.damage.push(Error::new(ErrorKind::Corrupt, detail));
    }

    fn take_frame(&mut self, header: Header) {
        self.report_passed_over("its header cannot be one");
        let Header { writer, part, size } = header;
        let follows = self.unfinished.get(&writer).is_some_and(|unfinished| unfinished.next == part);
        if !follows {
            self.give_up(writer, "what came next is no part of it");
            if part == 0 {
                self.begin += HEADER_BYTES;
                self.front = Some(Front::InBuffer(size));
                return;
            }
        }
        let frame = self.begin + HEADER_BYTES..self.begin + HEADER_BYTES + size;
        self.begin = frame.end;
        if !follows {
            let refused = self.refusal(writer, part, size);
            let fresh = Unfinished {
                next: part,
                payload: Vec::new(),
                last: 0,
                is_refused: refused.is_some(),
                changed: Instant::now(),
            };
            self.unfinished.insert(writer, fresh);
            if let Some(error) = refused {
                self.damage.push(error);
            }
        }
        let is_over = self.unfinished_bytes + size > MOST_UNFINISHED_BYTES;
        let Some(unfinished) = self.unfinished.get_mut(&writer) else { return };
        unfinished.changed = Instant::now();
        if !unfinished.is_refused && (is_over || unfinished.payload.len() + size > self.most_bytes) {
            unfinished.is_refused = true;
            self.unfinished_bytes -= std::mem::take(&mut unfinished.payload).len();
            self.damage.push(too_large(writer, self.most_bytes));
        }
        if !unfinished.is_refused {
            unfinished.last = unfinished.payload.len();
            unfinished.payload.extend_from_slice(&self.buffer[frame]);
            self.unfinished_bytes += size;
        }
        if part > 0 {
            unfinished.next = part - 1;
        } else if let Some(finished) = self.unfinished.remove(&writer) {
            self.unfinished_bytes -= finished.payload.len();
            self.front = (!finished.is_refused).then_some(Front::Apart(finished.payload, finished.last));
        }
    }

    /// Why the first part of a message is not believed: with so many parts it would be too large, or too many writers
    /// have unfinished ones.
    fn refusal(&self, writer: Writer, part: u32, size: usize) -> Option<Error> {
        let parts = usize::try_from(part).unwrap_or(usize::MAX);
        if parts.saturating_sub(1).saturating_mul(PART_BYTES).saturating_add(size + 1) > self.most_bytes {
            return Some(too_large(writer, self.most_bytes));
        }
        (self.unfinished.len() >= MOST_UNFINISHED).then(|| {
            let detail = format!("more than {MOST_UNFINISHED} writers have unfinished messages");
            Error::new(ErrorKind::TooLarge, detail)
        })
    }

    /// Passes over bytes that are no frame until there may be one again. `false` if there is none in what was read.
    fn resynchronise(&mut self, why: &'static str) -> bool {
        let filled = &self.buffer[self.begin..self.end];
        let sound = (1..filled.len()).find(|offset| self.is_plausible(&filled[*offset..]));
        // Where nothing is sound, the last bytes may be the beginning of a header.
        let passed = sound.unwrap_or_else(|| filled.len().saturating_sub(HEADER_BYTES - 1)).max(1);
        self.passed_over += passed;
        self.begin += passed;
        if sound.is_some() {
            self.report_passed_over(why);
        }
        sound.is_some()
    }

    /// Whether a frame may begin here: a header that can be one, and behind its payload another one or the end; or one of a
    /// process that is there, which bytes without a meaning hardly ever name. What is behind that may be junk again, but
    /// within it there is no frame: the end of one header and the beginning of the next may look like one of process 1.
    fn is_plausible(&self, bytes: &[u8]) -> bool {
        let Some(Ok(header)) = Header::read(bytes) else { return false };
        let inside = || 1..(HEADER_BYTES + header.size).min(bytes.len());
        is_followed(bytes)
            || self.unfinished.get(&header.writer).is_some_and(|unfinished| unfinished.next == header.part)
            || (u32::try_from(header.writer.pid).is_ok_and(process::pid_is_alive)
                && !inside().any(|offset| is_followed(&bytes[offset..])))
    }

    fn report_passed_over(&mut self, why: &str) {
        let bytes = std::mem::take(&mut self.passed_over);
        if bytes > 0 {
            self.report(format!("{bytes} bytes in the FIFO are no frame: {why}"));
        }
    }
}

/// Whether a header that can be one stands here, and behind its payload another one or the end.
fn is_followed(bytes: &[u8]) -> bool {
    let Some(Ok(header)) = Header::read(bytes) else { return false };
    match bytes.get(HEADER_BYTES + header.size..) {
        None => false,
        Some([]) => true,
        Some(after) => Header::read(after).is_none_or(|header| header.is_ok()),
    }
}

fn too_large(writer: Writer, limit: usize) -> Error {
    let detail = format!("a message of process {} is larger than the limit of {limit} bytes", writer.pid);
    Error::new(ErrorKind::TooLarge, detail)
}
