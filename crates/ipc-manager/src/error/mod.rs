// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one public error: what kind, doing what, where, may I retry, was it stored.

mod place;

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

pub use place::Place;
pub(crate) use place::{Escaped, redacted};

/// Something of a higher layer that an error carries and knows nothing of.
pub(crate) type HandedBack = Box<dyn std::any::Any + Send + Sync>;

/// The result of every fallible call of this crate.
///
/// ```
/// fn hello() -> ipc_manager::Result<usize> {
///     let bus = ipc_manager::Spawn::builder().protocol("LocalMemory").spawn()?;
///     let mut a = bus.connect("a")?;
///     a.send("a", "hello to myself")?;
///     Ok(a.get_messages()?.len())
/// }
/// assert_eq!(hello()?, 1);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $code:literal,)*) => {
        /// What went wrong, named by what a caller can do about it.
        ///
        /// Each kind has one [`code`](ErrorKind::code), which is the error code that the command `ipcm` reports.
        ///
        /// ```
        /// assert_eq!(ipc_manager::ErrorKind::NoSuchPeer.code(), "no_such_peer");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $kind,)*
        }

        impl ErrorKind {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The stable, snake-case name of this kind.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$kind => $code,)*
                }
            }
        }
    };
}

kinds! {
    /// The call itself is wrong: something required is missing, or an option is unknown.
    Usage => "usage",
    /// The connection string cannot be understood.
    InvalidInfo => "invalid_info",
    /// A peer name, message id or route breaks the rules for such a name.
    InvalidName => "invalid_name",
    /// No protocol of that name is registered.
    UnknownProtocol => "unknown_protocol",
    /// No serializer of that name is registered.
    UnknownSerializer => "unknown_serializer",
    /// The protocol cannot work on this machine.
    NotViable => "not_viable",
    /// There is no bus at this route.
    NoSuchBus => "no_such_bus",
    /// No peer of that name is registered on the bus.
    NoSuchPeer => "no_such_peer",
    /// A live or suspended peer holds the name.
    NameInUse => "name_in_use",
    /// The peer is registered, but its process is gone, and with it everything that was sent to it; or it went away
    /// before it did what was awaited of it.
    PeerGone => "peer_gone",
    /// The peer takes no connections, and has not opened one to us.
    NotListening => "not_listening",
    /// The message is larger than a limit.
    TooLarge => "too_large",
    /// The call would have to wait, and was told not to.
    WouldBlock => "would_block",
    /// The deadline passed first.
    Timeout => "timeout",
    /// Unread messages were waiting when the client left; they are in [`Error::messages`].
    UnreadMessages => "unread_messages",
    /// Stored data is not what it must be.
    Corrupt => "corrupt",
    /// A value could not be turned into a payload.
    Serialize => "serialize",
    /// Sound data does not have the shape that the caller asked for.
    Deserialize => "deserialize",
    /// A handle was used in another process than the one that made it.
    WrongProcess => "wrong_process",
    /// The client has left the bus.
    Disconnected => "disconnected",
    /// The protocol does not offer this.
    Unsupported => "unsupported",
    /// The operating system or a rule of ours denies access.
    Permission => "permission",
    /// The file system or database refused; its words are the source.
    Store => "store",
    /// A service, or a callback of one, failed; its words are the detail or the source.
    ServiceError => "service_error",
    /// A response came that nobody waits for.
    UnexpectedResponse => "unexpected_response",
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Whether a message whose sending failed may arrive all the same.
///
/// ```
/// use ipc_manager::{Spawn, Stored};
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let error = bus.connect("a")?.send("nobody", "x").unwrap_err();
/// assert_eq!(error.stored(), Some(Stored::No), "it can be sent again without care");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was refused: it will never arrive.
    No,
    /// In doubt: it may arrive. Sending it again under the same id is safe where ids are unique.
    Maybe,
}

/// What went wrong, doing what, and where.
///
/// `Display` is one sentence; the cause, if there is one, is in [`source`](StdError::source) and not repeated.
///
/// ```
/// let error = ipc_manager::ConnectionString::parse("not json").unwrap_err();
/// assert_eq!(error.kind(), ipc_manager::ErrorKind::InvalidInfo);
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    detail: String,
    place: Place,
    stored: Option<Stored>,
    retryable: Option<bool>,
    is_away: bool,
    handed_back: Option<HandedBack>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of a kind, with a sentence that says what was wrong. For implementers of protocols and
    /// serializers; place, source and the rest are added with the other methods.
    #[must_use]
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: "",
            detail: detail.into(),
            place: Place::default(),
            stored: None,
            retryable: None,
            is_away: false,
            handed_back: None,
            source: None,
        }))
    }

    /// Makes an error out of a refusal of the operating system. Denied access is
    /// [`Permission`](ErrorKind::Permission), all else [`Store`](ErrorKind::Store).
    #[must_use]
    pub fn system(error: impl Into<std::io::Error>, detail: impl Into<String>) -> Self {
        let error = error.into();
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Store,
        };
        Self::new(kind, detail).with_source(error)
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable name of the kind: the error code of the command `ipcm`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// The operation that failed, such as `send`; empty where it is not known.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Where it happened.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What happened, without where.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// For an error of sending: whether the message may arrive all the same.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        self.0.stored
    }

    /// Whether the same call may succeed later without anything being mended first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0
            .retryable
            .unwrap_or(matches!(self.0.kind, ErrorKind::WouldBlock | ErrorKind::Timeout | ErrorKind::NoSuchPeer))
    }

    /// Whether the store cannot be reached for now, as a server that restarts: the same call succeeds once it is back.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.0.is_away
    }

    /// Says that the store cannot be reached for now, which is worth another attempt. Calls that may wait make it by
    /// themselves.
    #[must_use]
    pub fn with_store_away(mut self) -> Self {
        (self.0.is_away, self.0.retryable) = (true, Some(true));
        self
    }

    /// Says what was being done. The first one stays: it is the closest to the cause.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation;
        }
        self
    }

    /// Adds the protocol, unless one is known.
    #[must_use]
    pub fn in_protocol(mut self, protocol: &str) -> Self {
        self.0.place.protocol.get_or_insert_with(|| protocol.to_owned());
        self
    }

    /// Adds the route, unless one is known; without a password that somebody may have put there.
    #[must_use]
    pub fn on_route(mut self, route: &str) -> Self {
        self.0.place.route.get_or_insert_with(|| redacted(route).into_owned());
        self
    }

    /// Adds the peer, unless one is known.
    #[must_use]
    pub fn about_peer(mut self, peer: &str) -> Self {
        // An empty name says nothing of the place.
        if !peer.is_empty() {
            self.0.place.peer.get_or_insert_with(|| peer.to_owned());
        }
        self
    }

    /// Adds the message's id, unless one is known.
    #[must_use]
    pub fn about_message(mut self, id: &str) -> Self {
        self.0.place.message_id.get_or_insert_with(|| id.to_owned());
        self
    }

    /// Adds the file, unless one is known.
    #[must_use]
    pub fn at_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.place.path.get_or_insert_with(|| path.into());
        self
    }

    /// Adds the table of a database, unless one is known.
    #[must_use]
    pub fn in_table(mut self, table: &str) -> Self {
        self.0.place.table.get_or_insert_with(|| table.to_owned());
        self
    }

    /// Adds the byte offset, unless one is known.
    #[must_use]
    pub fn at_offset(mut self, offset: usize) -> Self {
        self.0.place.offset.get_or_insert(offset);
        self
    }

    /// Says whether the message of a failed send may arrive all the same.
    #[must_use]
    pub fn with_stored(mut self, stored: Stored) -> Self {
        self.0.stored = Some(stored);
        self
    }

    /// Overrules the advice that the kind gives about trying again.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = Some(retryable);
        self
    }

    /// What is handed back to the caller; `message/handed_back.rs` says that it is messages.
    pub(crate) fn handed_back(&self) -> Option<&HandedBack> {
        self.0.handed_back.as_ref()
    }

    pub(crate) fn into_handed_back(self) -> Option<HandedBack> {
        self.0.handed_back
    }

    pub(crate) fn handing_back(mut self, handed_back: HandedBack) -> Self {
        self.0.handed_back = Some(handed_back);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Replaces the kind, when a caller knows better what the failure means.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.operation.is_empty() {
            write!(f, "{}: ", self.0.operation)?;
        }
        f.write_str(&self.0.detail)?;
        let place = self.0.place.to_string();
        if place.is_empty() { Ok(()) } else { write!(f, " ({place})") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("detail", &self.0.detail)
            .field("place", &self.0.place)
            .field("stored", &self.0.stored)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
