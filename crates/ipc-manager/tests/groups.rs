// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses that a group of users shares: two users of it, and one who is in another.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_manager::{Client, ConnectionString, ErrorKind, Gc, Group, Observer, Origin, Registry, Spawn};
use ipc_manager_testkit::{Failure, PATIENCE, Puppet, Sandbox, Subject, Test, User, eventually};
use rustix::process::{Gid, Uid};
use serde_json::json;

use crate::upkeep::{PROTOCOLS, assert_out_of_reach, can_be_another};

const ANN: u32 = 61_001;
const BEN: u32 = 61_002;
const EVE: u32 = 61_003;
/// The group that Ann and Ben are in.
const GROUP: u32 = 61_100;
/// A group that Eve is in.
const OTHERS: u32 = 61_200;
/// What they may take off the modes of what they make: everything for others, and nothing.
const UMASKS: [u32; 2] = [0o077, 0o000];

pub fn tests() -> Vec<Test> {
    let as_root = ipc_manager_testkit::tests![
        t22_users_of_a_group_talk_and_take_over,
        t22_what_is_kept_for_a_group_is_any_members,
        t22_members_join_and_leave_at_once,
        t22_who_is_not_in_the_group_is_refused_everything,
        t22_who_does_not_name_the_group_is_told_to,
        t22_a_directory_that_is_not_the_groups_alone_is_no_bus_of_it,
        t22_a_shared_bus_of_a_killed_owner_is_cleaned_up,
        t22_who_cannot_remove_a_shared_bus_changes_nothing,
    ];
    let as_anybody = ipc_manager_testkit::tests![t22_what_cannot_be_shared_says_so];
    as_root.into_iter().map(|test| test.only_if(can_be_another)).chain(as_anybody).collect()
}

fn user(uid: u32, umask: u32) -> User {
    // Each has a group of its own, as on many systems.
    let group = if uid == EVE { OTHERS } else { GROUP };
    User { uid, gid: uid, groups: vec![group], umask }
}

/// A directory that every user can make things in, as the temporary directory is.
fn everybodys() -> Sandbox {
    let sandbox = Sandbox::short();
    fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o1777)).unwrap();
    sandbox
}

/// A process of a user that joins buses of a group.
fn process(user: &User, info: &str, protocol: &str, sandbox: &Sandbox, group: Option<u32>) -> Puppet {
    let mut puppet = Puppet::start_as(user, &Subject::new(protocol), info, sandbox.dir());
    puppet.set_group(group);
    puppet
}

/// A peer of the group's.
fn peer(name: &str, user: &User, info: &ConnectionString, sandbox: &Sandbox) -> Puppet {
    let mut peer = process(user, &info.to_string(), &info.protocol().short(), sandbox, Some(GROUP));
    peer.try_connect(name).unwrap_or_else(|failure| panic!("{info} as {user:?}: {failure:?}"));
    peer
}

/// A process of a user that owns a fresh bus of the group's.
fn owner(user: &User, protocol: &str, sandbox: &Sandbox) -> (Puppet, ConnectionString) {
    let mut owner = process(user, "", protocol, sandbox, Some(GROUP));
    let spawned = owner.must(&json!({"op": "spawn", "protocol": protocol, "group": GROUP, "signal": "TERM"}));
    let info: ConnectionString = spawned["info"].as_str().unwrap().parse().unwrap();
    assert!(Path::new(info.route().as_str()).starts_with(sandbox.dir()), "{info}");
    (owner, info)
}

/// Asserts that all that is in a store is the group's, and nobody else's.
#[track_caller]
fn assert_shared(sandbox: &Sandbox, context: &str) {
    let listing = sandbox.listing();
    assert!(!listing.is_empty());
    for path in listing {
        let found = fs::symlink_metadata(sandbox.dir().join(&path)).unwrap();
        let expected = if found.is_dir() { 0o2770 } else { 0o660 };
        let is = (found.permissions().mode() & 0o7777, found.gid());
        assert_eq!(is, (expected, GROUP), "{context}: {} has mode {:04o}", path.display(), is.0);
    }
}

#[track_caller]
fn exchange(one: (&str, &mut Puppet), other: (&str, &mut Puppet)) {
    let long = "x".repeat(50_000);
    for _ in 0..2 {
        for content in ["short", &long] {
            one.1.send(other.0, content).unwrap();
            other.1.send(one.0, content).unwrap();
            for (from, to) in [(one.0, &mut *other.1), (other.0, &mut *one.1)] {
                let seen = to.recv_count(1);
                assert_eq!((seen[0].from.as_str(), seen[0].content.as_str()), (from, Some(content)));
            }
        }
    }
}

fn t22_users_of_a_group_talk_and_take_over(_: &Sandbox) {
    for (protocol, umask) in PROTOCOLS.into_iter().flat_map(|protocol| UMASKS.map(|umask| (protocol, umask))) {
        let context = format!("{protocol}, umask {umask:03o}");
        let sandbox = everybodys();
        let (ann, ben) = (user(ANN, umask), user(BEN, umask));
        let (mut owner, info) = owner(&ann, protocol, &sandbox);
        // Each joins first once: what the first makes the other must be able to use.
        let (mut b, mut a) = (peer("b", &ben, &info, &sandbox), peer("a", &ann, &info, &sandbox));
        assert_shared(&sandbox, &context);
        exchange(("a", &mut a), ("b", &mut b));
        assert_eq!((a.peers(), b.peers()), (vec!["b".to_owned()], vec!["a".to_owned()]), "{context}");
        let pids = (a.pid(), b.pid());
        for (asked, other, pid) in [(&mut a, "b", pids.1), (&mut b, "a", pids.0)] {
            let seen = asked.peer(other);
            assert!(seen.exists && seen.active && seen.pid == Some(pid), "{context}: {seen:?}");
        }
        assert_shared(&sandbox, &context);
        origin_is_told(&info, &mut b);
        // A name that is held by another user's live process is nobody else's.
        let mut late = process(&ann, &info.to_string(), protocol, &sandbox, Some(GROUP));
        assert_eq!(late.try_connect("b").unwrap_err().code(), "name_in_use", "{context}");
        // What a killed process of one user leaves is another's to sweep and to take over.
        b.kill();
        eventually("the death to be seen", || !a.peer("b").active);
        late.try_connect("b").unwrap_or_else(|failure| panic!("{context}: {failure:?}"));
        exchange(("a", &mut a), ("b", &mut late));
        let mut c = peer("c", &ben, &info, &sandbox);
        late.kill();
        a.kill();
        eventually("the deaths to be seen", || !c.peer("a").active && !c.peer("b").active);
        assert_eq!(c.must(&json!({"op": "reap"}))["removed"], 2, "{context}");
        assert!(c.peers().is_empty(), "{context}");
        assert_shared(&sandbox, &context);
        c.disconnect();
        owner.must(&json!({"op": "shutdown"}));
        assert!(sandbox.listing().is_empty(), "{context}: {:?}", sandbox.listing());
    }
}

/// Who sent something is told, whichever user's it is.
fn origin_is_told(info: &ConnectionString, b: &mut Puppet) {
    let group = Group::from_gid(GROUP).unwrap();
    let mut root = Client::builder("root", info).group(group).connect().unwrap();
    b.send("root", "me").unwrap();
    let message = root.recv_timeout(PATIENCE).unwrap();
    match info.protocol().short().as_str() {
        "UnixSocket" | "ConnectionUnix" => assert_eq!(message.origin(), Origin::Confirmed { pid: b.pid() }),
        _ => assert_eq!(message.origin(), Origin::Unknown),
    }
    root.disconnect().unwrap();
}

fn t22_what_is_kept_for_a_group_is_any_members(_: &Sandbox) {
    for (protocol, umask) in
        ["MessageFiles", "SQLite", "JSONFile"].into_iter().flat_map(|protocol| UMASKS.map(|umask| (protocol, umask)))
    {
        let context = format!("{protocol}, umask {umask:03o}");
        let sandbox = everybodys();
        let (ann, ben) = (user(ANN, umask), user(BEN, umask));
        let (_owner, info) = owner(&ann, protocol, &sandbox);
        let (mut a, mut b) = (peer("a", &ann, &info, &sandbox), peer("b", &ben, &info, &sandbox));
        a.send("b", 1).unwrap();
        a.send("b", 2).unwrap();
        b.suspend().unwrap();
        a.send("b", 3).unwrap();
        assert_shared(&sandbox, &context);
        let mut next = process(&ann, &info.to_string(), protocol, &sandbox, Some(GROUP));
        next.try_reconnect("b").unwrap_or_else(|failure| panic!("{context}: {failure:?}"));
        let taken = next.recv_count(3);
        assert_eq!(taken.iter().map(|seen| seen.content.clone()).collect::<Vec<_>>(), [1, 2, 3], "{context}");
        // And of one that was killed with something unread.
        a.send("b", 4).unwrap();
        next.kill();
        b.try_reconnect("b").unwrap_or_else(|failure| panic!("{context}: {failure:?}"));
        assert_eq!(b.recv_count(1)[0].content, 4, "{context}");
        assert_shared(&sandbox, &context);
    }
}

/// What one has just made is never met by the other before it is the group's.
fn t22_members_join_and_leave_at_once(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = everybodys();
        let (ann, ben) = (user(ANN, 0o077), user(BEN, 0o022));
        let (_owner, info) = owner(&ann, protocol, &sandbox);
        let text = info.to_string();
        let mut all: Vec<_> = [("a", &ann), ("b", &ben), ("c", &ann), ("d", &ben)]
            .map(|(name, user)| (name, process(user, &text, protocol, &sandbox, Some(GROUP))))
            .into();
        for round in 0..15 {
            let mut done = |requests: &dyn Fn(&str, &str) -> serde_json::Value, clients: &[String]| {
                for ((name, puppet), client) in all.iter_mut().zip(clients) {
                    puppet.post(&requests(name, client));
                }
                let answers = all.iter_mut().map(|(name, puppet)| {
                    puppet.answer().unwrap_or_else(|failure| panic!("{protocol}, {round}, {name}: {failure:?}"))
                });
                answers.collect::<Vec<_>>()
            };
            let connect = |name: &str, _: &str| json!({"op": "connect", "name": name, "info": text, "group": GROUP});
            let joined = done(&connect, &[const { String::new() }; 4]);
            let clients: Vec<String> = joined.iter().map(|one| one["client"].as_str().unwrap().to_owned()).collect();
            let send = |_: &str, client: &str| json!({"op": "send", "client": client, "to": "a", "content": round});
            done(&send, &clients);
            let leave = |_: &str, client: &str| json!({"op": "disconnect", "client": client, "unread": "discard"});
            done(&leave, &clients);
        }
        assert_shared(&sandbox, protocol);
    }
}

fn t22_who_is_not_in_the_group_is_refused_everything(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = everybodys();
        let (ann, eve) = (user(ANN, 0), user(EVE, 0));
        let (_owner, info) = owner(&ann, protocol, &sandbox);
        let (mut a, mut b) = (peer("a", &ann, &info, &sandbox), peer("b", &ann, &info, &sandbox));
        a.send("b", "for us").unwrap();
        for group in [None, Some(GROUP), Some(OTHERS)] {
            let mut stranger = process(&eve, &info.to_string(), protocol, &sandbox, group);
            for refused in [stranger.try_connect("e"), stranger.try_connect("b"), stranger.try_reconnect("b")] {
                let code = refused.unwrap_err().code().to_owned();
                assert!(matches!(&*code, "permission" | "store"), "{protocol}, {group:?}: {code}");
            }
            let refused = stranger.call(&json!({"op": "spawn", "protocol": protocol, "group": GROUP})).unwrap_err();
            assert_eq!(refused.code(), "permission", "{protocol}: {refused:?}");
        }
        assert_out_of_reach(&sandbox);
        assert_eq!(b.recv_count(1)[0].content, "for us");
    }
}

fn t22_who_does_not_name_the_group_is_told_to(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = everybodys();
        let (_owner, info) = owner(&user(ANN, 0o022), protocol, &sandbox);
        let before = sandbox.listing();
        for uid in [ANN, BEN] {
            let mut member = process(&user(uid, 0o022), &info.to_string(), protocol, &sandbox, None);
            let refused = [member.try_connect("a"), member.try_reconnect("a")];
            for failure in refused.map(Result::unwrap_err) {
                let Failure::Refused { code, error } = failure else { panic!("it is gone") };
                let message = error["message"].as_str().unwrap_or_default();
                assert_eq!(code, "permission", "{protocol}: {error}");
                assert!(message.contains(&format!("shared by the group {GROUP}")), "{protocol}: {message}");
            }
        }
        // Nor is what one user made for himself joined as a group's.
        let mut own = process(&user(ANN, 0), "", protocol, &sandbox, None);
        let spawned = own.must(&json!({"op": "spawn", "protocol": protocol}));
        let alone = spawned["info"].as_str().unwrap().to_owned();
        let mut member = process(&user(ANN, 0), &alone, protocol, &sandbox, Some(GROUP));
        let Failure::Refused { code, error } = member.try_connect("a").unwrap_err() else { panic!("it is gone") };
        assert!(code == "permission" && error.to_string().contains("not shared by the group"), "{protocol}: {error}");
        own.must(&json!({"op": "shutdown"}));
        assert_eq!(sandbox.listing(), before, "{protocol}: something was made");
    }
}

fn t22_a_directory_that_is_not_the_groups_alone_is_no_bus_of_it(_: &Sandbox) {
    let group = Group::from_gid(GROUP).unwrap();
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let dir = sandbox.dir().join("shared");
        let is_file = matches!(protocol, "SQLite" | "JSONFile");
        // As an administrator makes one.
        fs::create_dir(&dir).unwrap();
        let set = |mode, gid| {
            std::os::unix::fs::chown(&dir, Some(ANN), Some(gid)).unwrap();
            fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        };
        let route = if is_file { dir.join("bus") } else { dir.clone() };
        let builder = Spawn::builder().protocol(protocol).route(route.to_str().unwrap()).guard(false).group(group);
        for (mode, gid) in [(0o770, GROUP), (0o2750, GROUP), (0o2775, GROUP), (0o2772, GROUP), (0o2770, OTHERS)] {
            set(mode, gid);
            let refused = builder.spawn().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Permission, "{protocol}, {mode:04o}, {gid}: {refused}");
            assert!(refused.to_string().contains("not shared by the group"), "{refused}");
        }
        set(0o2770, GROUP);
        let bus = builder.spawn().unwrap();
        let join = || Client::builder("a", bus.info()).group(group).connect();
        join().unwrap().disconnect().unwrap();
        for (mode, gid) in [(0o2777, GROUP), (0o2770, OTHERS)] {
            set(mode, gid);
            assert_eq!(join().unwrap_err().kind(), ErrorKind::Permission, "{protocol}, {mode:04o}");
        }
        set(0o2770, GROUP);
        join().unwrap().disconnect().unwrap();
        // Nobody says whose it is that is made where all can make directories of that group.
        fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o1777)).unwrap();
        join().unwrap().disconnect().unwrap();
        fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o3777)).unwrap();
        let refused = join().unwrap_err();
        assert!(refused.kind() == ErrorKind::Permission && refused.to_string().contains("every user"), "{refused}");
        fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o700)).unwrap();
        // A link leads nowhere.
        let link = sandbox.dir().join("link");
        std::os::unix::fs::symlink(&route, &link).unwrap();
        let linked: ConnectionString =
            bus.info().to_string().replace(route.to_str().unwrap(), link.to_str().unwrap()).parse().unwrap();
        assert!(Client::builder("a", &linked).group(group).connect().is_err(), "{protocol}");
    }
}

fn t22_a_shared_bus_of_a_killed_owner_is_cleaned_up(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = everybodys();
        let (ann, ben) = (user(ANN, 0o077), user(BEN, 0o077));
        let (mut killed, info) = owner(&ann, protocol, &sandbox);
        let mut b = peer("b", &ben, &info, &sandbox);
        killed.kill();
        let made = || PathBuf::from(info.route().as_str()).exists();
        let passing = |user: &User| {
            // A spawn removes in passing what killed owners of the same user left.
            let mut other = process(user, "", protocol, &sandbox, None);
            other.must(&json!({"op": "spawn", "protocol": protocol}));
            other.must(&json!({"op": "shutdown"}));
        };
        passing(&ann);
        assert!(made(), "{protocol}: it was removed while another user's peer is on it");
        b.send("b", 1).unwrap();
        assert_eq!(b.recv_count(1)[0].content, 1);
        b.kill();
        passing(&ben);
        assert!(Gc::of_places([sandbox.dir()]).run().unwrap().leftovers.is_empty(), "{protocol}");
        assert!(made(), "{protocol}: another user's was removed");
        passing(&ann);
        assert!(sandbox.listing().is_empty(), "{protocol}: {:?}", sandbox.listing());
    }
}

/// Does something as another user, in a thread that ends with it.
fn done_as<T: Send + 'static>(user: &User, work: impl FnOnce() -> T + Send + 'static) -> T {
    let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = move || {
        rustix::thread::set_thread_groups(&groups).unwrap();
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    };
    std::thread::spawn(become_it).join().unwrap()
}

fn t22_who_cannot_remove_a_shared_bus_changes_nothing(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = everybodys();
        let (ann, ben) = (user(ANN, 0), user(BEN, 0));
        let (mut owner, info) = owner(&ann, protocol, &sandbox);
        let mut b = peer("b", &ben, &info, &sandbox);
        let before = sandbox.listing();
        let registry = Registry::standard().with_group(Group::from_gid(GROUP).unwrap());
        let refused = done_as(&ben, move || Spawn::adopt_with(&info, registry).unwrap().unspawn().unwrap_err());
        assert_eq!(refused.kind(), ErrorKind::Permission, "{protocol}: {refused}");
        assert_eq!(sandbox.listing(), before, "{protocol}");
        // Its owner ends it: another user's process is asked, also where it may not be signalled.
        owner.must(&json!({"op": "terminate"}));
        assert_eq!(b.recv_count(1)[0].content, json!({"terminate": 1}), "{protocol}");
        b.disconnect();
        owner.must(&json!({"op": "shutdown"}));
        assert!(sandbox.listing().is_empty(), "{protocol}: {:?}", sandbox.listing());
    }
}

fn t22_what_cannot_be_shared_says_so(_: &Sandbox) {
    let own = rustix::process::geteuid().as_raw();
    for gid in [0, own] {
        let error = Spawn::builder().group(Group::from_gid(gid).unwrap()).spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    let group = Group::from_gid(GROUP).unwrap();
    let refused = |error: ipc_manager::Error| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    };
    refused(Spawn::builder().protocol("LocalMemory").group(group).spawn().unwrap_err());
    let bus = Spawn::builder().protocol("LocalMemory").spawn().unwrap();
    refused(Client::builder("a", bus.info()).group(group).connect().unwrap_err());
    let registry = ipc_manager::Registry::standard();
    let named = registry.credentials().clone().with_group(group);
    refused(Observer::with_registry(bus.info(), &registry.clone().with_credentials(named.clone())).unwrap_err());
    for server in registry.protocols().filter(|protocol| protocol.capabilities().credentials) {
        let name = server.name().short();
        let error = Spawn::builder().protocol(&name).group(group).spawn().unwrap_err();
        assert!(error.to_string().contains("tables"), "{error}");
        refused(error);
        let info: ConnectionString = json!([name, "JSON", "dbi:x:dbname=nowhere"]).to_string().parse().unwrap();
        refused(Client::builder("a", &info).group(group).connect().unwrap_err());
    }
    // What is picked can be shared; by who is in the group.
    match Spawn::builder().group(group).spawn() {
        Ok(picked) => assert!(registry.find(picked.protocol()).unwrap().capabilities().groups),
        Err(error) => assert_eq!((error.kind(), group.has_this_process()), (ErrorKind::Permission, false), "{error}"),
    }
}
