// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who holds a name in a store that knows pids only: what we add to the pid, and what follows from both.

use std::ffi::OsString;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::protocol::{Mode, PeerState};
use crate::system::doorbell::{Doorbell, Porch};
use crate::system::process::{self, Alive, Identity};

/// The process that holds a name, as it stands in the store in a place that the reference implementation ignores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::protocol) struct Holder {
    #[serde(flatten)]
    pub(in crate::protocol) identity: Identity,
    /// The name of its doorbell, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bell: Option<String>,
    /// Device and inode number of the folder that the bell is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    porch: Option<(u64, u64)>,
    /// It is on its way out: unreachable, its mailbox not yet empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leaving: bool,
    /// It continued a mailbox that was there, rather than beginning an empty one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

/// What the store says of a name, in the reference implementation's terms and ours.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::protocol) struct Standing {
    /// Whether the reference implementation takes it for registered.
    pub(in crate::protocol) is_active: bool,
    pub(in crate::protocol) pid: Option<u32>,
    /// When it was registered.
    pub(in crate::protocol) since: Option<SystemTime>,
    pub(in crate::protocol) until: Option<SystemTime>,
    pub(in crate::protocol) holder: Option<Holder>,
}

impl Holder {
    /// This process, with its doorbell, that takes a name so.
    pub(in crate::protocol) fn own(bell: Option<&Doorbell>, mode: Mode) -> Self {
        let porch = bell.map(|bell| bell.porch().identity());
        let bell = bell.and_then(|bell| bell.name().to_str()).map(str::to_owned);
        let continues = mode == Mode::Reconnect;
        Self { identity: Identity::own(), bell, porch, leaving: false, continues }
    }

    pub(in crate::protocol) fn leaving(&self) -> Self {
        Self { leaving: true, ..self.clone() }
    }

    pub(in crate::protocol) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(in crate::protocol) fn to_json(&self) -> String {
        // Numbers and strings only, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name of its doorbell. Only one that can be a bell: a store may hold anything.
    pub(in crate::protocol) fn bell(&self) -> Option<OsString> {
        let name = OsString::from(self.bell.as_deref()?);
        let is_harmless = name.len() < 80 && !name.as_encoded_bytes().contains(&b'/');
        (is_harmless && Porch::is_bell(&name)).then_some(name)
    }

    /// Whether its process is there; unknown counts as alive.
    pub(in crate::protocol) fn is_alive(&self, porch: Option<&Porch>) -> bool {
        let hung_here = porch.filter(|porch| self.rings_at(porch)).zip(self.bell());
        match (self.identity.alive(), hung_here) {
            (Alive::No, _) => false,
            // The process may have become another program, which took the bell with it.
            (Alive::Yes, Some((porch, bell))) => !porch.is_deserted(&bell),
            // In another pid namespace the bell knows.
            (Alive::Unknown, Some((porch, bell))) => porch.is_answered(&bell) != Some(false),
            (_, None) => true,
        }
    }

    /// Whether its bell hangs in this folder: in another one, under the same path, it would not be found.
    fn rings_at(&self, porch: &Porch) -> bool {
        self.bell.is_some() && self.porch == Some(porch.identity())
    }
}

impl Standing {
    /// The holder, if it is the one that the rest of the record is about: a peer of the reference implementation that
    /// took the name since does not know of this field.
    pub(in crate::protocol) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref().filter(|holder| match self.is_active {
            true => !holder.leaving && self.pid == Some(holder.identity.pid),
            false => holder.leaving && self.pid.is_none(),
        })
    }

    /// What the holder of the name is up to; `None` if nobody has it.
    pub(in crate::protocol) fn state(&self, porch: Option<&Porch>) -> Option<PeerState> {
        let dead_or = |is_alive: bool, state| Some(if is_alive { state } else { PeerState::Dead });
        match (self.is_active, self.pid, self.holder()) {
            (false, _, Some(holder)) => dead_or(holder.is_alive(porch), PeerState::Leaving),
            (false, _, None) => None,
            (true, None, _) => Some(PeerState::Suspended { until: self.until }),
            (true, Some(_), Some(holder)) => dead_or(holder.is_alive(porch), PeerState::Active),
            (true, Some(pid), None) => dead_or(process::pid_is_alive(pid), PeerState::Active),
        }
    }

    /// Whether whoever has the name continued the mailbox; `None` where only a holder of ours would say.
    pub(in crate::protocol) fn continues(&self) -> Option<bool> {
        self.holder().map(|holder| holder.continues)
    }

    /// The process that holds or held the name.
    pub(in crate::protocol) fn pid(&self) -> Option<u32> {
        self.holder().map(|holder| holder.identity.pid).or(self.pid.filter(|_| self.is_active))
    }

    /// Whether a peer is behind it that does not ring the bells of this user: it knows none, or they hang elsewhere.
    pub(in crate::protocol) fn is_foreign(&self, porch: Option<&Porch>) -> bool {
        let rings = |holder: &Holder| porch.is_some_and(|porch| holder.rings_at(porch));
        self.is_active && self.pid.is_some() && !self.holder().is_some_and(rings)
    }
}

/// Seconds since the epoch as a point in time; `None` for what cannot be one.
pub(in crate::protocol) fn time(seconds: f64) -> Option<SystemTime> {
    let since = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// A point in time as seconds since the epoch.
pub(in crate::protocol) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::access::Access;

    fn standing(is_active: bool, pid: Option<u32>, holder: Option<Holder>) -> Standing {
        Standing { is_active, pid, holder, ..Standing::default() }
    }

    #[test]
    fn what_a_record_says() {
        let own = Holder { bell: Some("bell-1".into()), ..Holder::own(None, Mode::Connect) };
        let pid = own.identity.pid;
        let ended = Holder {
            identity: serde_json::from_str(r#"{"boot":"x","pid_ns":0,"pid":1,"start":1}"#).unwrap(),
            ..own.clone()
        };
        let state = |standing: Standing| standing.state(None);
        assert_eq!(state(standing(true, Some(pid), Some(own.clone()))), Some(PeerState::Active));
        assert_eq!(state(standing(true, Some(pid), None)), Some(PeerState::Active));
        assert_eq!(state(standing(true, Some(1), Some(ended.clone()))), Some(PeerState::Dead));
        assert_eq!(state(standing(true, Some(u32::MAX), None)), Some(PeerState::Dead));
        assert_eq!(state(standing(true, None, None)), Some(PeerState::Suspended { until: None }));
        assert_eq!(state(standing(false, None, None)), None);
        assert_eq!(state(standing(false, None, Some(own.leaving()))), Some(PeerState::Leaving));
        assert_eq!(state(standing(false, None, Some(ended.leaving()))), Some(PeerState::Dead));
        // A peer that does not know of the field took the name, or left, and did not touch it.
        assert_eq!(state(standing(true, Some(pid), Some(ended.clone()))), Some(PeerState::Active));
        assert_eq!(state(standing(false, None, Some(ended))), None);
        assert!(standing(true, Some(pid), None).is_foreign(None));
    }

    #[test]
    fn a_bell_that_hangs_elsewhere_says_nothing() {
        let path = std::env::temp_dir().join(format!("ipct-holder-{}", crate::system::files::random_suffix()));
        std::fs::create_dir(&path).unwrap();
        let porch = Porch::new(crate::system::files::open_dir(&path).unwrap(), path.clone(), Access::Private).unwrap();
        // As a process leaves it that has become another program.
        drop(std::os::unix::net::UnixDatagram::bind(path.join("bell-1")).unwrap());
        let (device, inode) = porch.identity();
        let holder =
            |porch| Holder { bell: Some("bell-1".into()), porch: Some(porch), ..Holder::own(None, Mode::Connect) };
        let is_alive = |at| holder(at).is_alive(Some(&porch));
        assert_eq!((is_alive((device, inode)), is_alive((device, inode + 1))), (false, true));
        std::fs::remove_file(path.join("bell-1")).unwrap();
        assert!(is_alive((device, inode)), "somebody may have tidied");
        std::fs::remove_dir(path).unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let holder = Holder { bell: Some("bell-1".into()), porch: Some((1, 2)), ..Holder::own(None, Mode::Connect) };
        assert_eq!(Holder::parse(&holder.to_json()), Some(holder.clone()));
        assert_eq!(Holder::parse(&holder.leaving().to_json()), Some(holder.leaving()));
        let continuing = Holder::own(None, Mode::Reconnect);
        assert_eq!(Holder::parse(&continuing.to_json()), Some(continuing.clone()));
        let (pid, at) = (holder.identity.pid, |pid, holder| standing(true, Some(pid), Some(holder)));
        assert_eq!(at(pid, continuing.clone()).continues(), Some(true));
        assert_eq!(at(pid, holder.clone()).continues(), Some(false));
        assert_eq!(at(1, continuing).continues(), None, "another took the name");
        assert!(Holder::parse("{}").is_none() && Holder::parse("nonsense").is_none());
        let elsewhere = Holder { bell: Some("bell-/../../x".into()), ..Holder::own(None, Mode::Connect) };
        assert_eq!(elsewhere.bell(), None);
    }
}
