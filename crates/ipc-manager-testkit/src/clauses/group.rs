// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses that a group of users shares. That others are kept out takes other users: the tests of the library have them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use ipc_manager::{Client, ErrorKind, Group, Observer};

use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "group.joined_by_name",
        text: "A bus that is made for a group is joined by who names that group, and by nobody who does not.",
        source: &["T22"],
        needs: &[Need::Groups],
        run: joined_by_name,
    },
    Clause {
        id: "group.refused",
        text: "Where buses cannot be for a group, naming one is refused, and changes nothing.",
        source: &["T22"],
        needs: &[Need::NoGroups],
        run: refused,
    },
];

/// A group that nobody is in.
const NOBODYS: u32 = 61_100;

/// A group that can be shared with: as root any, else one that this process is in beside its user's own.
fn group() -> Option<Group> {
    let own = rustix::process::geteuid();
    let mut groups = rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw);
    let shared = groups.find(|gid| *gid != 0 && *gid != own.as_raw());
    shared.or(own.is_root().then_some(NOBODYS)).map(|gid| Group::from_gid(gid).unwrap())
}

fn joined_by_name(context: &Context<'_>) {
    let dir = context.sandbox().dir().join("shared");
    fs::create_dir(&dir).unwrap();
    let owner = context.route_in(&dir).map_or_else(|| context.owner(), |route| context.owner().route(&route));
    let Some(group) = group() else {
        let error = owner.group(Group::from_gid(NOBODYS).unwrap()).spawn().unwrap_err();
        return assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    };
    chown(&dir, None, Some(group.gid())).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o2770)).unwrap();
    let mut bus = owner.group(group).spawn().unwrap();
    assert_eq!(bus.group(), Some(group));
    let registry = context.subject().registry();
    let client = |name| Client::builder(name, bus.info()).registry(registry.clone());
    for error in [client("b").connect().unwrap_err(), client("b").reconnect().unwrap_err()] {
        assert!(error.kind() == ErrorKind::Permission && error.to_string().contains("name that group"), "{error}");
    }
    let mut a = bus.connect("a").unwrap();
    let mut b = client("b").group(group).connect().unwrap();
    a.send("b", "for us").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "for us");
    if context.capabilities().observable {
        assert_eq!(Observer::with_registry(bus.info(), &registry).unwrap_err().kind(), ErrorKind::Permission);
        let mut observer = Observer::with_registry(bus.info(), &registry.clone().with_group(group)).unwrap();
        assert_eq!(observer.peers().unwrap().len(), 2);
    }
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    assert!(bus.shutdown().unwrap().is_balanced());
}

fn refused(context: &Context<'_>) {
    let group = Group::from_gid(NOBODYS).unwrap();
    let before = context.sandbox().listing();
    assert_eq!(context.owner().group(group).spawn().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(context.sandbox().listing(), before);
    let bus = context.bus();
    let registry = context.subject().registry();
    let refused = Client::builder("b", bus.info()).registry(registry).group(group).connect().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(bus.client("a").all_peers().unwrap().is_empty());
}
