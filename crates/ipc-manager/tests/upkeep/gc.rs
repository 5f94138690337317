// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cleaning up after killed owners and peers, over every protocol whose buses are in the temporary directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ipc_manager::{Client, Fate, Gc, LeftoverKind, PeerState, Spawn, Suspend};
use ipc_manager_testkit::servers::Engine;
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Test, eventually};
use serde_json::json;

use super::{PROTOCOLS, contents_of, dry, fates, gc, owner, peer, store_of};

pub fn tests() -> Vec<Test> {
    let mut tests = ipc_manager_testkit::tests![
        t16_a_bus_stays_while_a_peer_lives_and_goes_when_none_does,
        t16_the_next_spawn_of_any_protocol_leaves_nothing,
        t16_a_full_directory_is_cleaned_before_the_next_bus_is_made,
        what_is_not_guarded_stays,
        what_is_unknown_stays_with_all_that_is_beside_it,
        what_only_looks_like_a_store_stays,
        a_removal_that_was_cut_short_is_finished,
        a_bus_that_is_named_is_swept_or_removed,
        a_suspended_peer_of_a_bus_that_is_named_stays,
    ];
    let servers = ipc_manager_testkit::tests![a_private_server_without_owner_and_keeper_goes];
    tests.extend(
        servers.into_iter().map(|test| test.only_if(|| ipc_manager_testkit::servers::can_start(Engine::PostgreSQL))),
    );
    tests
}

fn t16_a_bus_stays_while_a_peer_lives_and_goes_when_none_does(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let dir = sandbox.dir();
        let (mut killed, info) = owner(protocol, dir);
        let mut b = peer("b", &info, dir);
        assert!(gc(dir).leftovers.is_empty(), "{protocol}: its owner lives");
        killed.kill();
        assert!(dry(dir).leftovers.is_empty() && gc(dir).leftovers.is_empty(), "{protocol}: a peer lives");
        // It works as before.
        let mut a = ipc_manager::connect("a", &info).unwrap();
        a.send("b", "still here").unwrap();
        assert_eq!(b.recv_count(1)[0].content, "still here");
        a.disconnect().unwrap();
        drop(a);
        b.kill();
        let before = contents_of(&sandbox);
        let report = dry(dir);
        assert_eq!(contents_of(&sandbox), before, "{protocol}: a dry run changed something");
        assert_eq!(fates(&report), [&Fate::Found], "{protocol}");
        let left = &gc(dir).leftovers[..];
        assert_eq!((left.len(), left[0].kind, &left[0].fate), (1, LeftoverKind::Bus, &Fate::Removed), "{protocol}");
        assert_eq!(left[0].protocol.as_deref(), Some(protocol));
        assert_eq!(left[0].path, store_of(&info, dir));
        assert!(sandbox.listing().is_empty(), "{protocol}: {:?}", sandbox.listing());
        assert!(gc(dir).leftovers.is_empty());
    }
}

fn t16_the_next_spawn_of_any_protocol_leaves_nothing(_: &Sandbox) {
    let sandbox = Sandbox::short();
    for (at, protocol) in PROTOCOLS.into_iter().enumerate() {
        let (mut killed, info) = owner(protocol, sandbox.dir());
        let mut b = peer("b", &info, sandbox.dir());
        b.send("b", "unread").unwrap();
        b.kill();
        killed.kill();
        let (next, _) = owner(PROTOCOLS[(at + 1) % PROTOCOLS.len()], sandbox.dir());
        next.end();
        assert!(sandbox.listing().is_empty(), "{protocol}: {:?}", sandbox.listing());
    }
}

fn t16_a_full_directory_is_cleaned_before_the_next_bus_is_made(_: &Sandbox) {
    let sandbox = Sandbox::short();
    // More than are removed in passing by one spawn go with the next ones.
    let mut owners: Vec<_> = (0..20).map(|_| owner("MessageFiles", sandbox.dir()).0).collect();
    owners.iter_mut().for_each(Puppet::kill);
    let mut rounds = 0;
    eventually("all to be gone", || {
        rounds += 1;
        owner("AtomicPipe", sandbox.dir()).0.end();
        sandbox.listing().is_empty()
    });
    assert!(rounds > 1, "a spawn may only take so long");
}

fn what_is_not_guarded_stays(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let mut kept = Puppet::start(&Subject::new(protocol), "", sandbox.dir());
        kept.must(&json!({"op": "spawn", "protocol": protocol, "guard": false}));
        kept.kill();
        let before = contents_of(&sandbox);
        assert!(gc(sandbox.dir()).leftovers.is_empty(), "{protocol}");
        assert_eq!(contents_of(&sandbox), before, "{protocol}");
    }
}

fn what_is_unknown_stays_with_all_that_is_beside_it(_: &Sandbox) {
    for protocol in PROTOCOLS {
        for place in ["", "inside"] {
            let sandbox = Sandbox::short();
            let (mut killed, info) = owner(protocol, sandbox.dir());
            peer("b", &info, sandbox.dir()).kill();
            killed.kill();
            let store = store_of(&info, sandbox.dir());
            // Beside what is the bus's, and within what it made there, where it made a directory.
            let inside = ["b", "bus.sqlite.ipcm", "bus.json.ipcm"].into_iter().find(|name| store.join(name).is_dir());
            let canary = match (place, inside) {
                ("", _) => store.join("canary"),
                (_, Some(inside)) => store.join(inside).join("canary"),
                (_, None) => continue,
            };
            fs::write(&canary, "sings").unwrap();
            let before = contents_of(&sandbox);
            for report in [dry(sandbox.dir()), gc(sandbox.dir())] {
                let [Fate::Kept(reason)] = fates(&report)[..] else { panic!("{protocol}: {report:?}") };
                assert!(reason.contains("canary") || reason.contains("`b`"), "{protocol}: {reason}");
                assert_eq!(contents_of(&sandbox), before, "{protocol}");
            }
            fs::remove_file(&canary).unwrap();
            assert_eq!(fates(&gc(sandbox.dir())), [&Fate::Removed], "{protocol}");
            assert!(sandbox.listing().is_empty());
        }
    }
}

fn what_only_looks_like_a_store_stays(sandbox: &Sandbox) {
    let outside = Sandbox::new();
    fs::write(outside.dir().join("canary"), "sings").unwrap();
    let (mut killed, info) = owner("MessageFiles", sandbox.dir());
    killed.kill();
    let store = store_of(&info, sandbox.dir());
    let suffix = "0123456789abcdef0123456789abcdef";
    let at = |name: &str| sandbox.dir().join(name);
    // A copy has another inode, a link is not followed, and somebody's files are somebody's.
    let copy = at(&format!("ipcm-4000001-{suffix}"));
    fs::create_dir(&copy).unwrap();
    for name in [".ipcm-made", ".ipcm-owner"] {
        fs::copy(store.join(name), copy.join(name)).unwrap();
    }
    symlink(outside.dir(), at(&format!("ipcm-4000002-{suffix}"))).unwrap();
    symlink(&store, at(&format!("ipcm-4000003-{suffix}"))).unwrap();
    fs::create_dir(at("ipcm-mine")).unwrap();
    fs::write(at(&format!("ipcm-4000004-{suffix}")), "a file").unwrap();
    fs::create_dir(at(&format!("ipcm-4000005-{suffix}"))).unwrap();
    fs::write(at(&format!("ipcm-4000005-{suffix}")).join("notes"), "mine").unwrap();
    fs::write(at("canary"), "sings").unwrap();
    let mut expected = contents_of(sandbox);
    expected.retain(|path, _| !sandbox.dir().join(path).starts_with(&store));
    let report = gc(sandbox.dir());
    assert_eq!(report.leftovers.iter().map(|left| &left.path).collect::<Vec<_>>(), [&store]);
    assert_eq!(contents_of(sandbox), expected);
    assert_eq!(fs::read_to_string(outside.dir().join("canary")).unwrap(), "sings");
}

fn a_removal_that_was_cut_short_is_finished(_: &Sandbox) {
    for protocol in PROTOCOLS {
        // Each time somebody has come one step further: moved it aside, then removed one more thing.
        for removed in 0..12 {
            let sandbox = Sandbox::short();
            let (mut killed, info) = owner(protocol, sandbox.dir());
            peer("b", &info, sandbox.dir()).kill();
            killed.kill();
            let store = store_of(&info, sandbox.dir());
            let aside = sandbox.dir().join("ipcm-dead-0123456789abcdef0123456789abcdef");
            fs::rename(&store, &aside).unwrap();
            let is_over = !remove_first(&aside, removed);
            // Without the notes it could be one that is just being made, and that is waited for.
            let has_notes = || sandbox.listing().iter().any(|path| path.ends_with(".ipcm-owner"));
            if !has_notes() {
                break;
            }
            assert_eq!(fates(&gc(sandbox.dir())), [&Fate::Removed], "{protocol}, {removed}: {:?}", sandbox.listing());
            assert!(sandbox.listing().is_empty(), "{protocol}, {removed}");
            if is_over {
                break;
            }
        }
    }
}

/// Removes so many things, in the order in which a removal does. Returns whether there were so many.
fn remove_first(dir: &Path, count: usize) -> bool {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let rank = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let last = ["-x", ".ipcm", ".ipcm-owner", ".ipcm-made", ".ipcm-lock"];
        let at = last.iter().position(|suffix| name.ends_with(suffix));
        (at.map_or(usize::from(name.starts_with('.') || name.contains(".pid")), |at| at + 2), name)
    };
    paths.sort_by_key(rank);
    for path in paths.iter().take(count) {
        if path.is_dir() {
            let _ = fs::remove_dir_all(path);
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    paths.len() > count
}

fn a_bus_that_is_named_is_swept_or_removed(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let mut killed = Puppet::start(&Subject::new(protocol), "", sandbox.dir());
        let route = sandbox.dir().join("bus");
        let spawn = json!({"op": "spawn", "protocol": protocol, "guard": true, "route": route.to_str().unwrap()});
        let info: ipc_manager::ConnectionString = killed.must(&spawn)["info"].as_str().unwrap().parse().unwrap();
        let mut a = ipc_manager::connect("a", &info).unwrap();
        peer("b", &info, sandbox.dir()).kill();
        let dead = |a: &mut Client| a.peer("b").unwrap().map(|peer| peer.state);
        assert_eq!(dead(&mut a), Some(PeerState::Dead), "{protocol}");
        let named = Gc::of_bus(&info);
        let report = named.clone().dry_run(true).run().unwrap();
        assert_eq!((report.peers.len(), report.leftovers.len()), (1, 0), "{protocol}: {report:?}");
        assert_eq!(dead(&mut a), Some(PeerState::Dead), "{protocol}: a dry run swept");
        let report = named.run().unwrap();
        assert_eq!(report.peers[0].as_str(), "b", "{protocol}");
        assert_eq!(dead(&mut a), None, "{protocol}");
        a.send("a", "to itself").unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "to itself");
        // It is in none of the places where it would be looked for, so it must be named.
        killed.kill();
        a.disconnect().unwrap();
        assert!(gc(sandbox.dir()).leftovers.is_empty());
        assert_eq!(fates(&named.clone().dry_run(true).run().unwrap()), [&Fate::Found], "{protocol}");
        assert!(route.exists());
        assert_eq!(fates(&named.run().unwrap()), [&Fate::Removed], "{protocol}");
        assert!(sandbox.listing().is_empty(), "{protocol}: {:?}", sandbox.listing());
        assert_eq!(named.run().unwrap_err().kind(), ipc_manager::ErrorKind::NoSuchBus);
    }
}

fn a_suspended_peer_of_a_bus_that_is_named_stays(sandbox: &Sandbox) {
    for (protocol, route) in [("MessageFiles", "bus"), ("SQLite", "bus.sqlite"), ("JSONFile", "bus.json")] {
        let route = sandbox.dir().join(route);
        let builder = Spawn::builder().protocol(protocol).route(route.to_str().unwrap());
        let mut bus = builder.spawn().unwrap();
        bus.connect("b").unwrap().suspend(Suspend::open_ended()).unwrap();
        bus.connect("a").unwrap().send("b", "for later").unwrap();
        assert!(Gc::of_bus(bus.info()).run().unwrap().peers.is_empty(), "{protocol}");
        assert_eq!(bus.reconnect("b").unwrap().recv_timeout(PATIENCE).unwrap().content(), "for later");
        bus.unspawn().unwrap();
    }
}

fn a_private_server_without_owner_and_keeper_goes(_: &Sandbox) {
    let sandbox = Sandbox::short();
    // The account of the server must be able to pass.
    fs::set_permissions(sandbox.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut killed = Puppet::start(&Subject::new("PostgreSQL"), "", sandbox.dir());
    killed.must(&json!({"op": "spawn", "protocol": "PostgreSQL", "guard": true}));
    let server = |name: &str| name.starts_with("ipcm-db-");
    let names = || fs::read_dir(sandbox.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let path = sandbox.dir().join(names().find(|name| server(name)).expect("the server is elsewhere"));
    let servers = processes_of(|command| command.contains(&*path.to_string_lossy()));
    assert!(servers.len() > 1, "{servers:?}");
    assert!(gc(sandbox.dir()).leftovers.is_empty(), "its owner lives");
    super::strangers::assert_out_of_reach(&sandbox);
    let keepers =
        processes_of(|command| command.contains("ipcm-server-keeper") && command.contains(&*path.to_string_lossy()));
    assert_eq!(keepers.len(), 1);
    let keeper = rustix::process::Pid::from_raw(keepers[0]).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    killed.kill();
    assert_eq!(fates(&dry(sandbox.dir())), [&Fate::Found]);
    let report = gc(sandbox.dir());
    assert_eq!((report.leftovers[0].kind, fates(&report)), (LeftoverKind::Server, vec![&Fate::Removed]));
    assert!(sandbox.listing().is_empty(), "{:?}", sandbox.listing());
    assert_eq!(processes_of(|command| command.contains(&*path.to_string_lossy())), [0; 0]);
}

/// The processes whose command line is wanted.
fn processes_of(is_wanted: impl Fn(&str) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let command = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.filter(|pid| is_wanted(&command(pid))).collect()
}
