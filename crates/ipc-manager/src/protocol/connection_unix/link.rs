// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection to one other process.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::codec::{Frames, Front, HEADER_BYTES};
use crate::message::MessageId;
use crate::name::PeerName;
use crate::system::stream;

/// Up to so many bytes a payload is copied behind its header, which costs less than to hand the kernel two parts.
const JOINED_BYTES: usize = 4 << 10;

/// What is known of the process at the other end and the name that it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The process holds the name.
    Holder,
    /// It cannot be told which process holds the name.
    Unknown,
    /// Nobody holds the name; its holder may have left since.
    Nobody,
    /// Another process holds the name.
    Stranger,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    /// `None` once it was read to its end; what came before is still handed out.
    stream: Option<OwnedFd>,
    /// Whom it was opened to, or who said hello.
    pub(super) name: Option<PeerName>,
    pub(super) pid: Option<u32>,
    pub(super) standing: Standing,
    /// Whether the peer lets connections be closed at any time and opens another one then.
    pub(super) is_kin: bool,
    /// Whether the peer can be connected to.
    pub(super) is_listener: bool,
    pub(super) is_opened_here: bool,
    pub(super) has_received: bool,
    /// Whether it was closed here for good reason, so that whoever was in the middle of a frame sends that again.
    pub(super) is_retired: bool,
    /// Whether the other end still takes what is sent.
    pub(super) can_send: bool,
    /// What must go out before all else: the hello of whoever opened the connection.
    greeting: Vec<u8>,
    /// Room to put a header and a payload together.
    joined: Vec<u8>,
    half_out: Option<HalfOut>,
    pub(super) incoming: Frames,
    pub(super) made: Instant,
    /// When something was last sent, or a whole frame came.
    pub(super) used: Instant,
    /// When the standing was last looked at.
    pub(super) checked: Instant,
    /// The last claim of a sender that was compared with the process, and what came of it.
    pub(super) compared: Option<(PeerName, Standing)>,
}

/// A frame of which a part is out.
#[derive(Debug)]
struct HalfOut {
    id: MessageId,
    sent: usize,
}

/// What became of an attempt to send frames.
#[derive(Debug)]
pub(super) struct Sent {
    /// How many are out as a whole.
    pub(super) whole: usize,
    /// Why the others are not.
    pub(super) error: Option<io::Error>,
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Bytes,
    Nothing,
    End,
}

impl Link {
    pub(super) fn new(stream: OwnedFd, pid: Option<u32>, name: Option<PeerName>, greeting: Vec<u8>) -> Self {
        let now = Instant::now();
        Self {
            stream: Some(stream),
            is_opened_here: name.is_some(),
            name,
            pid,
            standing: Standing::Unknown,
            is_kin: false,
            is_listener: false,
            has_received: false,
            is_retired: false,
            can_send: true,
            greeting,
            joined: Vec::new(),
            half_out: None,
            incoming: Frames::default(),
            made: now,
            used: now,
            checked: now,
            compared: None,
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// Whether there is something in the buffer that can be dealt with.
    pub(super) fn has_whole_frame(&self, limit: usize) -> bool {
        matches!(self.incoming.front(limit), Front::Whole(_) | Front::TooLong(_))
    }

    /// Whether a frame, or the hello, is out in part.
    pub(super) fn is_half_out(&self) -> bool {
        self.half_out.is_some() || !self.greeting.is_empty()
    }

    /// Whether a part of another frame than this message's is out: then nothing more can be sent on it.
    pub(super) fn is_busy_with_another(&self, id: &MessageId) -> bool {
        self.half_out.as_ref().is_some_and(|half| half.id != *id)
    }

    /// Sends as many frames as there is room for, each given as its message, header and payload, all in one call. Goes
    /// on in the first where an earlier attempt stopped.
    pub(super) fn send(&mut self, frames: &[(&MessageId, [u8; HEADER_BYTES], &[u8])]) -> Sent {
        let Some(stream) = &self.stream else {
            return Sent { whole: 0, error: Some(io::ErrorKind::NotConnected.into()) };
        };
        let begun = self.half_out.as_ref().map_or(0, |half| half.sent);
        let sent = match frames {
            // The common case, without an allocation.
            [(_, header, payload)] if begun == 0 && self.greeting.is_empty() && payload.len() <= JOINED_BYTES => {
                self.joined.clear();
                self.joined.extend_from_slice(header);
                self.joined.extend_from_slice(payload);
                stream::send_one(stream.as_fd(), &self.joined)
            }
            [(_, header, payload)] if begun == 0 && self.greeting.is_empty() => {
                stream::send(stream.as_fd(), &[IoSlice::new(header), IoSlice::new(payload)])
            }
            _ => {
                let mut parts = Vec::with_capacity(frames.len() * 2 + 1);
                parts.push(IoSlice::new(&self.greeting));
                for (_, header, payload) in frames {
                    parts.extend([IoSlice::new(header), IoSlice::new(payload)]);
                }
                let mut rest = &mut parts[1..];
                IoSlice::advance_slices(&mut rest, begun);
                if self.greeting.is_empty() {
                    stream::send(stream.as_fd(), rest)
                } else {
                    stream::send(stream.as_fd(), &parts)
                }
            }
        };
        match sent {
            Ok(bytes) => self.account(bytes, begun, frames),
            Err(error) => Sent { whole: 0, error: Some(error) },
        }
    }

    /// Notes what a number of bytes that went out was.
    fn account(&mut self, bytes: usize, begun: usize, frames: &[(&MessageId, [u8; HEADER_BYTES], &[u8])]) -> Sent {
        let of_greeting = bytes.min(self.greeting.len());
        self.greeting.drain(..of_greeting);
        let mut left = bytes - of_greeting + begun;
        self.half_out = None;
        for (whole, (id, header, payload)) in frames.iter().enumerate() {
            let size = header.len() + payload.len();
            if left < size {
                if left > 0 {
                    self.half_out = Some(HalfOut { id: (*id).clone(), sent: left });
                }
                return Sent { whole, error: Some(io::ErrorKind::WouldBlock.into()) };
            }
            left -= size;
        }
        Sent { whole: frames.len(), error: None }
    }

    /// Reads what is there, once.
    pub(super) fn read(&mut self, spare: &mut Vec<Vec<u8>>) -> io::Result<Read> {
        let Some(stream) = &self.stream else { return Ok(Read::End) };
        match stream::receive(stream.as_fd(), self.incoming.room(spare)) {
            Ok(0) => Ok(Read::End),
            Ok(_) => Ok(Read::Bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Nothing),
            Err(error) if stream::is_broken(&error) => Ok(Read::End),
            Err(error) => Err(error),
        }
    }

    /// Lets nothing in any more; what came before can still be read.
    pub(super) fn refuse_more(&mut self) {
        self.can_send = false;
        self.is_retired = true;
        if let Some(stream) = &self.stream {
            stream::refuse_more(stream);
        }
    }

    /// Closes it; what was read before is still handed out.
    pub(super) fn close(&mut self) {
        self.can_send = false;
        self.stream = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn link() -> Link {
        let (here, _there) = UnixStream::pair().unwrap();
        Link::new(here.into(), None, None, b"hello".to_vec())
    }

    #[test]
    fn what_is_out_is_counted_by_whole_frames() {
        let id = MessageId::new("x").unwrap();
        let frames = [(&id, [0; 4], &b"abcdef"[..]), (&id, [0; 4], &b""[..])];
        let mut link = link();
        assert_eq!(link.account(3, 0, &frames).whole, 0);
        assert!(link.is_half_out() && link.half_out.is_none(), "a part of the hello is out");
        assert_eq!(link.account(2 + 7, 0, &frames).whole, 0);
        assert_eq!(link.half_out.as_ref().unwrap().sent, 7);
        assert_eq!(link.account(3 + 1, 7, &frames).whole, 1);
        assert_eq!(link.half_out.as_ref().unwrap().sent, 1);
        let sent = link.account(3, 1, &frames[1..]);
        assert!(sent.whole == 1 && sent.error.is_none() && !link.is_half_out());
    }
}
