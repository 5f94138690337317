// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the transport knows of who really sent a message.

/// What the kernel says of where a message came from, beside what the message [claims](crate::Message::from).
///
/// ```
/// use ipc_manager::{Message, Origin};
/// let message = Message::builder("a").to("b").content("x")?.build()?;
/// assert_eq!(message.origin(), Origin::Unknown, "nobody has carried it yet");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origin {
    /// The transport does not know; the sender's name is a claim and nothing more.
    #[default]
    Unknown,
    /// It came from this process of the same user, which holds the name that the message claims.
    Confirmed {
        /// The sending process.
        pid: u32,
    },
    /// It came from this process of the same user, which does not hold the name that the message claims.
    Mismatch {
        /// The sending process.
        pid: u32,
    },
}
