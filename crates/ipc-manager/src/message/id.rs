// SPDX-License-Identifier: MIT OR Apache-2.0
//! Message ids.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::fmt::Hyphenated;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::limits::MESSAGE_ID_BYTES;
use crate::short_text::ShortText;

mod maker;

/// The id of a message. Made ids are UUIDs of version 7 in upper case, which sort by time; treat all as opaque.
///
/// Some stores hand ids back in lower case, so ids compare without regard to the case of ASCII letters.
///
/// ```
/// use ipc_manager::MessageId;
/// assert_eq!(MessageId::new("order-17")?, MessageId::new("ORDER-17")?);
/// assert!(MessageId::new("../x").is_err());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Clone)]
pub struct MessageId(ShortText<{ Hyphenated::LENGTH }>);

impl MessageId {
    /// Makes a fresh id.
    #[must_use]
    pub fn generate() -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::made_at(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Makes a fresh id at so many milliseconds since the epoch.
    pub(super) fn made_at(millis: u64) -> Self {
        let id = maker::next(millis);
        Self((&*id.hyphenated().encode_upper(&mut [0; Hyphenated::LENGTH])).into())
    }

    /// Parses an id to send under: 1 to 64 of the characters `0-9 A-Z a-z _ -`. An id is a file name on some
    /// protocols.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if it is anything else.
    pub fn new(id: &str) -> Result<Self> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        if id.is_empty() || id.len() > MESSAGE_ID_BYTES || !id.bytes().all(allowed) {
            let detail = format!(
                "\"{}\" cannot be a message id: it must be 1 to {MESSAGE_ID_BYTES} letters, digits, `_` or `-`",
                Escaped(id)
            );
            return Err(Error::new(ErrorKind::InvalidName, detail));
        }
        Ok(Self(id.into()))
    }

    /// Takes an id that another implementation may have chosen: any text of 1 to 255 bytes without control characters.
    pub(crate) fn foreign(id: &str) -> Option<Self> {
        let is_printable = |id: &str| id.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_allowed = is_printable(id) || !id.chars().any(char::is_control);
        (!id.is_empty() && id.len() <= 255 && is_allowed).then(|| Self(id.into()))
    }

    /// Whether this thread made it. Ids of one thread sort in the order of their making.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        uuid::Uuid::try_parse(self.as_str()).is_ok_and(maker::is_of_this_thread)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str().eq_ignore_ascii_case(other.as_str())
    }
}

impl Eq for MessageId {}

impl std::hash::Hash for MessageId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for byte in self.as_str().bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageId").field(&self.as_str()).finish()
    }
}
