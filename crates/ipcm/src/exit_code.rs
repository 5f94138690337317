// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the exit status of the command means: one table.

use ipc_manager::ErrorKind;

/// Done.
pub const DONE: u8 = 0;
/// A failure that has no code of its own.
pub const FAILURE: u8 = 1;
/// The command line, or what was given to send, is wrong.
pub const USAGE: u8 = 2;
/// Nothing was there: an empty mailbox, nobody to send to.
pub const NOTHING: u8 = 3;
/// The time was up first.
pub const TIMEOUT: u8 = 4;
/// No such peer.
pub const NO_PEER: u8 = 5;
/// A peer was gone before it finished.
pub const PEER_GONE: u8 = 6;
/// The service answered with an error.
pub const SERVICE: u8 = 7;
/// Refused: full, too large, or it would block.
pub const REFUSED: u8 = 8;
/// The bus cannot be reached, or its connection string is not valid.
pub const BUS: u8 = 9;
/// Permission or identity refused.
pub const PERMISSION: u8 = 10;
/// What was sent and what was read do not add up.
pub const AUDIT: u8 = 11;
/// The protocol does not work on this machine.
pub const NOT_VIABLE: u8 = 12;
/// What is added to the number of the signal that ended the command.
pub const SIGNAL_BASE: u8 = 128;

/// The exit status for a kind of error.
///
/// ```
/// use ipc_manager::ErrorKind;
/// assert_eq!(ipcm::exit_code::of(ErrorKind::NoSuchPeer), 5);
/// assert_eq!(ipcm::exit_code::of(ErrorKind::NoSuchBus), 9);
/// ```
#[must_use]
pub fn of(kind: ErrorKind) -> u8 {
    listed(kind).unwrap_or(FAILURE)
}

/// The table itself; `None` for a kind that it does not know.
fn listed(kind: ErrorKind) -> Option<u8> {
    Some(match kind {
        ErrorKind::Usage | ErrorKind::InvalidName => USAGE,
        ErrorKind::Timeout => TIMEOUT,
        ErrorKind::NoSuchPeer | ErrorKind::NotListening => NO_PEER,
        ErrorKind::PeerGone => PEER_GONE,
        ErrorKind::ServiceError => SERVICE,
        ErrorKind::TooLarge | ErrorKind::WouldBlock => REFUSED,
        ErrorKind::InvalidInfo | ErrorKind::UnknownProtocol | ErrorKind::UnknownSerializer | ErrorKind::NoSuchBus => {
            BUS
        }
        ErrorKind::NameInUse | ErrorKind::Permission => PERMISSION,
        ErrorKind::NotViable => NOT_VIABLE,
        ErrorKind::UnreadMessages
        | ErrorKind::Corrupt
        | ErrorKind::Serialize
        | ErrorKind::Deserialize
        | ErrorKind::WrongProcess
        | ErrorKind::Disconnected
        | ErrorKind::Unsupported
        | ErrorKind::UnexpectedResponse
        | ErrorKind::Store => FAILURE,
        _ => return None,
    })
}

/// The exit status of a command that a signal ended.
///
/// ```
/// assert_eq!(ipcm::exit_code::of_signal(15), 143);
/// ```
#[must_use]
pub fn of_signal(signal: i32) -> u8 {
    SIGNAL_BASE.saturating_add(u8::try_from(signal).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_is_in_the_table() {
        for kind in ErrorKind::ALL {
            assert!(listed(*kind).is_some(), "{kind} has no exit code");
        }
    }
}
