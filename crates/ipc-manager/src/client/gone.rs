// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection that is none, to stand where the real one was taken out.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{
    Connection, Connections, Deliveries, Directory, Envelope, Inbox, Leave, Payloads, PeerRecord, Receipt, Wake, Wanted,
};
use crate::stats::Stats;

/// See the module. Every call is an error.
#[derive(Debug)]
pub(super) struct Gone;

fn gone<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Disconnected, "the client has left the bus"))
}

impl Connection for Gone {
    fn deliver(&mut self, _: &[Envelope<'_>], _: &mut Vec<Receipt>) -> Result<()> {
        gone()
    }

    fn room(&self, _: &PeerName) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: Duration::MAX }
    }

    fn collect(&mut self, _: usize, _: usize, _: &mut Inbox) -> Result<()> {
        gone()
    }

    fn is_ready(&mut self) -> Result<bool> {
        gone()
    }

    fn is_pending(&mut self) -> Result<bool> {
        gone()
    }

    fn put_back(&mut self, _: &[Message]) -> Result<()> {
        gone()
    }

    fn wake(&self, _: Wanted) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: Duration::MAX }
    }

    fn directory(&mut self) -> &mut dyn Directory {
        self
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
    }

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        None
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        None
    }

    fn unlist(&mut self) -> Result<()> {
        gone()
    }

    fn seal(&mut self, _: &mut Inbox) -> Result<()> {
        gone()
    }

    fn close(&mut self, _: Leave, _: &Stats) -> Result<()> {
        gone()
    }
}

impl Directory for Gone {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        gone()
    }

    fn peer(&mut self, _: &PeerName) -> Result<Option<PeerRecord>> {
        gone()
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        gone()
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        gone()
    }

    fn save_stats(&mut self, _: &PeerName, _: &Stats) -> Result<()> {
        gone()
    }

    fn watch_peers(&mut self, _: bool) {}

    fn wake(&self) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: Duration::MAX }
    }
}
