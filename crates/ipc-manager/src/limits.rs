// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every limit on input, in one place.

/// The limits that a client puts on what it sends and on what it believes.
///
/// A peer is never trusted to stay within them: what goes past a limit on the way in is set aside as damaged,
/// what goes past it on the way out is refused as [`TooLarge`](crate::ErrorKind::TooLarge) before a byte is stored.
///
/// ```
/// let limits = ipc_manager::Limits { encoded_bytes: 1 << 20, ..Default::default() };
/// assert_eq!(limits.json_depth, 128);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload in the store, in bytes, as the serializer made it.
    pub encoded_bytes: usize,
    /// Largest JSON text of one message, in bytes, after decompression.
    pub decoded_bytes: usize,
    /// Deepest nesting of arrays and objects in a message, in both directions; 128 at most.
    pub json_depth: usize,
    /// Most keys and array elements in one message.
    pub json_elements: usize,
    /// Most messages that one call hands out.
    pub batch_messages: usize,
    /// Most payload bytes that one call hands out; one message always fits.
    pub batch_bytes: usize,
    /// Most messages that a client holds back for lack of room; what goes past it would block.
    pub outbox_messages: usize,
    /// Most bytes of content that a client holds back for lack of room.
    pub outbox_bytes: usize,
    /// High-water mark: most unread messages in one mailbox of a store that would keep any number of them; a send past it
    /// would block. `None` for no limit. Each sender counts for itself and not at every send, so several at once may
    /// pass it by [some](Self::UNCOUNTED) each.
    pub unread_messages: Option<usize>,
    /// Most times that a message is handed out by [`Client::receive`](crate::Client::receive) without being acknowledged;
    /// then it is set aside as [dead](crate::Dead).
    pub delivery_attempts: u32,
}

impl Limits {
    /// The limits that hold unless something else was said.
    pub const DEFAULT: Self = Self {
        encoded_bytes: 64 << 20,
        decoded_bytes: 64 << 20,
        json_depth: 128,
        json_elements: 1_000_000,
        batch_messages: 1_000,
        batch_bytes: 64 << 20,
        outbox_messages: 10_000,
        outbox_bytes: 64 << 20,
        unread_messages: None,
        delivery_attempts: 5,
    };

    /// How many messages a sender stores at most before it counts again how many are unread.
    pub const UNCOUNTED: usize = 32;
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Longest connection string accepted, in bytes.
pub(crate) const CONNECTION_STRING_BYTES: usize = 64 << 10;
/// Longest peer name that this implementation creates, in bytes.
pub(crate) const PEER_NAME_BYTES: usize = 512;
/// Longest message id that this implementation sends, in bytes. An id is a file name on some protocols.
pub(crate) const MESSAGE_ID_BYTES: usize = 64;
