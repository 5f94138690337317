// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cleaning up while others start: whoever joined has a bus that stays, and whoever did not is told that there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipc_manager::Fate;
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Test};
use serde_json::json;

use super::{PROTOCOLS, gc, owner, store_of};

/// How often each protocol is tried. One round takes some milliseconds.
const ROUNDS: u32 = 16;
/// How many stores are left at once.
const STORES: usize = 12;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        whoever_joins_as_a_bus_is_removed_has_it_or_is_refused,
        buses_that_come_and_go_are_left_alone,
        several_who_clean_up_at_once_do_not_get_in_each_others_way,
    ]
}

fn whoever_joins_as_a_bus_is_removed_has_it_or_is_refused(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let dir = sandbox.dir();
        let (mut joined, mut refused) = (0, 0);
        let mut owners = Puppet::start(&Subject::new(protocol), "", dir);
        for round in 0..ROUNDS {
            // Its owner lives until the peer is ready, so that only the two race.
            let (mut killed, info) = owner(protocol, dir);
            let mut peer = Puppet::start(&Subject::new(protocol), &info.to_string(), dir);
            peer.must(&json!({"op": "version"}));
            killed.kill();
            peer.post(&json!({"op": "connect", "name": "b", "info": info.to_string()}));
            // From before the peer has begun to after it is done.
            let head_start = Duration::from_micros(u64::from(round) * 120);
            let begun = Instant::now();
            while begun.elapsed() < head_start {
                std::hint::spin_loop();
            }
            let report = gc(dir);
            let answer = peer.answer();
            let context = format!("{protocol}, round {round}: {answer:?}, {report:?}");
            match answer {
                Ok(_) => {
                    joined += 1;
                    assert!(report.leftovers.is_empty() && store_of(&info, dir).is_dir(), "{context}");
                    let mut a = ipc_manager::connect("a", &info).unwrap_or_else(|error| panic!("{context}: {error}"));
                    a.send("b", &round).unwrap_or_else(|error| panic!("{context}: {error}"));
                    peer.must(&json!({"op": "recv", "timeout": PATIENCE.as_secs_f64()}));
                    a.disconnect().unwrap();
                    drop(peer);
                    assert_eq!(gc(dir).leftovers.len(), 1, "{context}");
                }
                Err(failure) => {
                    refused += 1;
                    assert_eq!(failure.code(), "no_such_bus", "{context}");
                    assert_eq!(report.leftovers[0].fate, Fate::Removed, "{context}");
                }
            }
            assert!(sandbox.listing().is_empty(), "{context}: {:?}", sandbox.listing());
        }
        println!("{protocol}: {joined} joined, {refused} refused");
        owners.must(&json!({"op": "version"}));
    }
}

fn buses_that_come_and_go_are_left_alone(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let dir = sandbox.dir();
        let over = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            let cleaner = scope.spawn(|| {
                let mut found = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    found.extend(gc(dir).leftovers);
                }
                found
            });
            let mut puppet = Puppet::start(&Subject::new(protocol), "", dir);
            for _ in 0..ROUNDS {
                let spawned = puppet.must(&json!({"op": "spawn", "protocol": protocol, "guard": true}));
                let (bus, info) = (&spawned["bus"], &spawned["info"]);
                let client = puppet.must(&json!({"op": "connect", "name": "b", "info": info}));
                let client = &client["client"];
                puppet.must(&json!({"op": "send", "client": client, "to": "b", "content": 1}));
                puppet.must(&json!({"op": "recv", "client": client, "timeout": PATIENCE.as_secs_f64()}));
                puppet.must(&json!({"op": "disconnect", "client": client}));
                puppet.must(&json!({"op": "shutdown", "bus": bus}));
            }
            puppet.end();
            over.store(true, Ordering::Relaxed);
            cleaner.join().unwrap()
        });
        assert_eq!(found, [], "{protocol}");
        assert!(sandbox.listing().is_empty(), "{protocol}");
    }
}

fn several_who_clean_up_at_once_do_not_get_in_each_others_way(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let dir = sandbox.dir();
        let mut puppet = Puppet::start(&Subject::new(protocol), "", dir);
        for _ in 0..STORES {
            puppet.must(&json!({"op": "spawn", "protocol": protocol, "guard": true}));
        }
        puppet.kill();
        let found: Vec<_> = std::thread::scope(|scope| {
            let cleaners: Vec<_> = (0..4).map(|_| scope.spawn(|| gc(dir).leftovers)).collect();
            cleaners.into_iter().flat_map(|cleaner| cleaner.join().unwrap()).collect()
        });
        assert!(found.iter().all(|left| left.fate == Fate::Removed), "{protocol}: {found:?}");
        assert!((STORES..=2 * STORES).contains(&found.len()), "{protocol}: {found:?}");
        assert!(sandbox.listing().is_empty(), "{protocol}: {:?}", sandbox.listing());
    }
}
