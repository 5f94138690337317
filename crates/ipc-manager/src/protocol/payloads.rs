// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way of a message that is bytes already.

use super::Receipt;
use crate::message::MessageId;
use crate::name::PeerName;

/// Stores single messages that were encoded already, where nothing stands in the way.
///
/// ```
/// use ipc_manager::{MessageId, Payloads, PeerName, Receipt};
/// /// All that goes to one peer, up to so many bytes.
/// struct Buffer(PeerName, Vec<u8>, usize);
///
/// impl Payloads for Buffer {
///     fn deliver(&mut self, to: &PeerName, _: &MessageId, payload: &[u8]) -> Option<Receipt> {
///         let fits = *to == self.0 && self.1.len() + payload.len() <= self.2;
///         fits.then(|| self.1.extend_from_slice(payload))?;
///         Some(Receipt::Delivered)
///     }
/// }
///
/// let (to, id) = (PeerName::new("b")?, MessageId::generate());
/// let mut buffer = Buffer(to.clone(), Vec::new(), 4);
/// assert_eq!(buffer.deliver(&to, &id, b"{}"), Some(Receipt::Delivered));
/// assert_eq!(buffer.deliver(&to, &id, b"[1]"), None);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub trait Payloads {
    /// Stores one message if that can be done at once: the way to its recipient is open, and there is room. `None` leaves
    /// it to [`Connection::deliver`](super::Connection::deliver), which is given the message next, before any other to that
    /// recipient; a part of it may be out.
    fn deliver(&mut self, to: &PeerName, id: &MessageId, payload: &[u8]) -> Option<Receipt>;
}
