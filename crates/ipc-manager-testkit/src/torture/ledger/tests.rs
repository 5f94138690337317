// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts, of journals that are written by hand.

use serde_json::json;

use super::super::actor::{Actor, Life};
use super::super::plan::{Back, Part};
use super::*;
use crate::Sandbox;

/// What a sender says that got all of these acknowledged, in this order.
fn sender(ids: &[&str]) -> Vec<Value> {
    let said = |(number, id): (usize, &&str)| [json!(["try", id, "r0", number + 1, 5]), json!(["ack", id])];
    ids.iter().enumerate().flat_map(said).collect()
}

fn got(id: &str, number: u64) -> Value {
    json!(["got", id, "s0", number, true])
}

/// The sums of one sender and of a reader that had these lives, each with whether it was killed.
fn sums(sent: &[Value], read: &[(&[Value], bool, Back)], is_durable: bool) -> Sums {
    let sandbox = Sandbox::new();
    let write = |name: &str, records: &[Value]| {
        let path = sandbox.dir().join(name);
        std::fs::write(&path, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
        path
    };
    let life = |journal, was_killed, back| Life { back, journal, ended: 10, was_killed, stops: vec![(100, 200)] };
    let (mut s0, mut r0) = (Actor::new("s0", Part::Sender), Actor::new("r0", Part::Reader));
    s0.lives.push(life(write("s0", sent), false, Back::Afresh));
    for (number, (records, was_killed, back)) in read.iter().enumerate() {
        r0.lives.push(life(write(&format!("r0-{number}"), records), *was_killed, *back));
    }
    add_up(&[s0, r0], &Weather::default(), is_durable, true)
}

const NEXT: (&[Value], bool, Back) = (&[], false, Back::Continued);

#[test]
fn what_arrives_once_is_in_order() {
    let sums = sums(&sender(&["a", "b"]), &[(&[got("a", 1), got("b", 2)], false, Back::Afresh)], true);
    assert_eq!((sums.acked, sums.once, sums.lost), (2, 2, 0));
    assert!(sums.violations.is_empty(), "{:?}", sums.violations);
}

#[test]
fn a_loss_without_a_kill_is_one() {
    let sums = sums(&sender(&["a", "b"]), &[(&[got("b", 2)], false, Back::Afresh)], true);
    assert_eq!((sums.lost, sums.violations.len()), (1, 1));
}

#[test]
fn a_killed_reader_takes_what_was_in_hand_and_no_more() {
    let killed: (&[Value], bool, Back) = (&[json!(["batch", 1])], true, Back::Afresh);
    let sums = sums(&sender(&["a", "b"]), &[killed, NEXT], true);
    assert_eq!((sums.excused.values().sum::<usize>(), sums.lost), (1, 1));
}

#[test]
fn a_kernel_mailbox_goes_with_its_reader_but_what_was_overtaken_does_not() {
    let lost = |read: &[Value]| sums(&sender(&["a", "b", "c"]), &[(read, true, Back::Afresh), NEXT], false).lost;
    assert_eq!(lost(&[got("a", 1)]), 0);
    assert_eq!(lost(&[got("b", 2)]), 1);
}

#[test]
fn what_is_thrown_away_must_have_been_counted() {
    let killed: (&[Value], bool, Back) = (&[], true, Back::Afresh);
    let lost = |count: u64| {
        let afresh: &[Value] = &[json!(["joined", count, 7])];
        sums(&sender(&["a", "b"]), &[killed, (afresh, false, Back::Afresh)], true).lost
    };
    assert_eq!([lost(2), lost(1), lost(0)], [0, 1, 2]);
}

#[test]
fn doubled_damaged_misplaced_and_refused_ones_show() {
    let damaged = json!(["got", "b", "s0", 2, false]);
    let twice = sums(&sender(&["a"]), &[(&[got("a", 1), got("a", 1)], false, Back::Afresh)], true);
    let whole = sums(&sender(&["a", "b"]), &[(&[got("a", 1), damaged], false, Back::Afresh)], true);
    let order = sums(&sender(&["a", "b"]), &[(&[got("b", 2), got("a", 1)], false, Back::Afresh)], true);
    assert_eq!((twice.doubled, whole.corrupt, order.out_of_order), (1, 1, 1));
    let refused = [json!(["try", "a", "r0", 1, 5]), json!(["refused", "a", "store", ""])];
    let came = sums(&refused, &[(&[got("a", 1)], false, Back::Afresh)], true);
    assert_eq!(came.violations.len(), 1);
}

#[test]
fn a_call_is_late_only_in_its_own_time() {
    let late = |begun: u64, ended: u64| {
        let sent = [json!(["late", "send", begun, ended, 50])];
        sums(&sent, &[], true).late
    };
    // Stopped from 100 to 200.
    assert_eq!([late(90, 210), late(90, 260), late(300, 360)], [0, 1, 1]);
}
