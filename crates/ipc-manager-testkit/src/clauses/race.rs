// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several at once after one name.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{Clause, Context, Need};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "race.one_winner",
        text: "Of several that take one name at once exactly one gets it, and it works.",
        source: &["T15"],
        needs: &[],
        run: one_winner,
    },
    Clause {
        id: "race.after_a_crash",
        text: "Of several that take the name of a dead peer at once exactly one gets it, and it works.",
        source: &["T15", "A1"],
        needs: &[Need::Processes],
        run: after_a_crash,
    },
    Clause {
        id: "race.one_continues",
        text: "Of several that continue a suspended name at once exactly one gets it, with every message.",
        source: &["T15"],
        needs: &[Need::Suspend],
        run: one_continues,
    },
];

/// How often each race is run.
const ROUNDS: usize = 20;

/// Lets two puppets take one name at once; returns which got it.
fn race(puppets: &mut [crate::Puppet; 2], op: &str, name: &str, info: &str) -> usize {
    for puppet in puppets.iter_mut() {
        puppet.post(&json!({"op": op, "name": name, "info": info}));
    }
    let mut winners = Vec::new();
    for (number, puppet) in puppets.iter_mut().enumerate() {
        match puppet.answer() {
            Ok(_) => winners.push(number),
            Err(failure) => assert_eq!(failure.code(), "name_in_use", "{failure:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "winners of the race for {name}: {winners:?}");
    winners[0]
}

fn one_winner(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let mut puppets = [bus.idle_puppet(), bus.idle_puppet()];
    let info = bus.info().to_string();
    for round in 0..ROUNDS {
        let name = format!("name-{round}");
        let winner = race(&mut puppets, "connect", &name, &info);
        assert!(a.peer(&name).unwrap().is_some_and(|record| record.pid == Some(puppets[winner].pid())));
        a.send(&name, &round).unwrap();
        assert_eq!(puppets[winner].recv_count(1)[0].content, round);
        puppets[winner].must(&json!({"op": "send", "to": "a", "content": round}));
        assert_eq!(a.recv_timeout(crate::PATIENCE).unwrap().content(), round);
        puppets[winner].disconnect();
        assert!(a.peers().unwrap().is_empty());
    }
}

fn after_a_crash(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let mut puppets = [bus.idle_puppet(), bus.idle_puppet()];
    let info = bus.info().to_string();
    for round in 0..ROUNDS {
        let mut holder = bus.puppet("contested");
        holder.send("a", round).unwrap();
        holder.kill();
        let winner = race(&mut puppets, "connect", "contested", &info);
        a.send("contested", &round).unwrap();
        assert_eq!(puppets[winner].recv_count(1)[0].content, round);
        puppets[winner].disconnect();
        let got = a.recv_timeout(crate::PATIENCE).unwrap();
        assert_eq!(got.content(), round, "a message of the dead peer was lost");
    }
}

fn one_continues(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let mut puppets = [bus.idle_puppet(), bus.idle_puppet()];
    let info = bus.info().to_string();
    let mut all = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut sleeper = bus.puppet("sleeper");
        sleeper.suspend().unwrap();
        a.send("sleeper", &round).unwrap();
        let winner = race(&mut puppets, "reconnect", "sleeper", &info);
        let seen = puppets[winner].recv_count(1).remove(0);
        assert_eq!(seen.content, round);
        assert!(all.insert(seen.id), "a message came twice");
        puppets[winner].disconnect();
    }
}
