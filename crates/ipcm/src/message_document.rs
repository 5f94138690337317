// SPDX-License-Identifier: MIT OR Apache-2.0
//! A message as `ipcm recv` and the coprocess print it. Its field names are a contract.

use ipc_manager::Message;
use serde::Serialize;
use serde_json::value::RawValue;

/// A message, as documents tell of it.
#[derive(Serialize)]
pub(crate) struct MessageDocument<'a> {
    id: &'a str,
    from: &'a str,
    to: Option<&'a str>,
    stamp: f64,
    broadcast: bool,
    content: &'a RawValue,
}

impl<'a> MessageDocument<'a> {
    /// Takes a message apart. `None` if its content is no JSON, which the library does not let happen.
    pub(crate) fn new(message: &'a Message) -> Option<Self> {
        Some(Self {
            id: message.id().as_str(),
            from: message.from().as_str(),
            to: message.to().map(|to| to.as_str()),
            stamp: message.stamp().as_seconds(),
            broadcast: message.is_broadcast(),
            content: serde_json::from_str(message.raw_content().as_json()).ok()?,
        })
    }
}
