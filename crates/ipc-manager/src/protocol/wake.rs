// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection gives to be waited for.

use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What somebody waits for.
///
/// ```
/// use ipc_manager::Wanted;
/// assert!(Wanted::MESSAGES.messages && !Wanted::MESSAGES.peers);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Messages in the own mailbox.
    pub messages: bool,
    /// Peers that come and go, while they are watched.
    pub peers: bool,
}

impl Wanted {
    /// Messages only.
    pub const MESSAGES: Self = Self { messages: true, peers: false };
    /// Peers only.
    pub const PEERS: Self = Self { messages: false, peers: true };
}

/// What to poll.
///
/// ```
/// use rustix::event::{PollFd, PollFlags, Timespec, poll};
/// let bus = ipc_manager::Spawn::builder().protocol("MessageFiles").spawn()?;
/// let (mut a, mut b) = (bus.connect("a")?, bus.connect("b")?);
/// a.send("b", "hello")?;
/// let wake = b.wake()?;
/// let mut polled: Vec<_> = wake.descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
/// let look = Timespec::try_from(wake.look_every).expect("it is not long");
/// poll(&mut polled, Some(&look)).expect("poll(2) is there"); // it tells at once that there is something
/// assert_eq!(b.try_recv()?.expect("it is there").content(), "hello");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Wake<'a> {
    /// Descriptors that become readable.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// When to look all the same: slowly where descriptors tell, often where nothing does.
    pub look_every: Duration,
}
