// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names: which can be had, and who has them.

use ipc_manager::ErrorKind;
use serde_json::{Value, json};

use crate::context::{contents, names};
use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "names.taken",
        text: "A name that a live peer holds is refused as `name_in_use`, and its holder keeps everything.",
        source: &["BUS-15", "STO-08", "T15", "A1"],
        needs: &[],
        run: taken,
    },
    Clause {
        id: "names.no_takeover",
        text: "A name that a live peer holds cannot be continued by another, and its holder keeps everything.",
        source: &["T15", "A2"],
        needs: &[],
        run: no_takeover,
    },
    Clause {
        id: "names.unknown_reconnect",
        text: "A name that was never there cannot be continued: `no_such_peer`.",
        source: &["SUS-02"],
        needs: &[],
        run: unknown_reconnect,
    },
    Clause {
        id: "names.bad",
        text: "A name that some peer could not handle is refused as `invalid_name`, and nothing changes.",
        source: &["CLI-02", "T10", "A3", "C12", "C15", "C16"],
        needs: &[],
        run: bad,
    },
    Clause {
        id: "names.odd",
        text: "Names with blanks, slashes and hundreds of characters work everywhere and are shown as they are.",
        source: &["FS-10", "T10"],
        needs: &[],
        run: odd,
    },
    Clause {
        id: "names.case",
        text: "Names that differ in letter case are different names.",
        source: &["C14"],
        needs: &[],
        run: case,
    },
    Clause {
        id: "names.free_again",
        text: "A name is free again when its holder left, and the next holder starts with an empty mailbox.",
        source: &["PEER-03"],
        needs: &[],
        run: free_again,
    },
    Clause {
        id: "names.two_processes",
        text: "A name taken in one process is taken for all others.",
        source: &["T15"],
        needs: &[Need::Processes],
        run: two_processes,
    },
    Clause {
        id: "names.no_users",
        text: "Where there is no server to ask for them, a user and a password are refused as `unsupported`.",
        source: &["STO-03"],
        needs: &[Need::NoCredentials],
        run: no_users,
    },
];

fn taken(context: &Context<'_>) {
    let bus = context.bus();
    let (mut holder, mut other) = (bus.client("holder"), bus.puppet("other"));
    let count = context.at_most_unread(5);
    for number in 0..count {
        other.send("holder", number).unwrap();
    }
    holder.write_stats().unwrap();
    let before = holder.all_stats().unwrap();
    let error = bus.try_client("holder").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse);
    assert_eq!(error.place().peer(), Some("holder"));
    assert_eq!(bus.idle_puppet().try_connect("holder").unwrap_err().code(), "name_in_use");
    assert_eq!(holder.all_stats().unwrap(), before);
    keeps_everything(&mut holder, &mut other, count);
}

fn no_takeover(context: &Context<'_>) {
    let bus = context.bus();
    let (mut holder, mut other) = (bus.client("holder"), bus.puppet("other"));
    let count = context.at_most_unread(5);
    for number in 0..count {
        other.send("holder", number).unwrap();
    }
    assert_eq!(bus.try_reconnect("holder").unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(bus.idle_puppet().try_reconnect("holder").unwrap_err().code(), "name_in_use");
    keeps_everything(&mut holder, &mut other, count);
}

/// After attempts on its name: the holder has its messages and is reached as before.
fn keeps_everything(holder: &mut ipc_manager::Client, other: &mut crate::Puppet, count: usize) {
    let got = contents(&holder.get_messages().unwrap());
    assert_eq!(got, (0..count).map(Value::from).collect::<Vec<_>>());
    assert!(other.peer("holder").active);
    other.send("holder", "still there").unwrap();
    assert_eq!(holder.recv_timeout(PATIENCE).unwrap().content(), "still there");
    holder.send("other", "and back").unwrap();
    assert_eq!(other.recv_count(1)[0].content, "and back");
}

fn unknown_reconnect(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    assert_eq!(bus.try_reconnect("nobody").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    assert_eq!(bus.idle_puppet().try_reconnect("nobody").unwrap_err().code(), "no_such_peer");
    assert!(a.peers().unwrap().is_empty() && a.peer("nobody").unwrap().is_none());
}

fn bad(context: &Context<'_>) {
    let sandbox = context.sandbox();
    let canary = sandbox.dir().join("canary");
    std::fs::write(&canary, "sings").unwrap();
    let bus = context.bus();
    let mut a = bus.client("a");
    let before = sandbox.listing();
    let long = "n".repeat(513);
    let bad = [
        "",
        ".",
        "..",
        "0",
        "_x",
        ".x",
        "a\nb",
        "a\0b",
        "\u{7f}",
        " a",
        "a ",
        "\u{e9}",
        "\u{1F511}",
        "x.pid",
        "x.name",
        "x.stats",
        "x.resume",
        "x.suspend",
        "x.pend",
        "x.ready",
        &long,
    ];
    for name in bad {
        assert_eq!(bus.try_client(name).unwrap_err().kind(), ErrorKind::InvalidName, "{name:?}");
        let error = bus.try_reconnect(name).unwrap_err().kind();
        assert!(matches!(error, ErrorKind::InvalidName | ErrorKind::NoSuchPeer), "{name:?}: {error}");
    }
    assert_eq!(sandbox.listing(), before, "a refused name changed something");
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "sings");
    assert!(a.peers().unwrap().is_empty());
    assert!(a.all_peers().unwrap().is_empty());
}

fn odd(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let (at_limit, past_it, long) = ("n".repeat(200), "n".repeat(201), "L".repeat(270));
    let longest = "z".repeat(512);
    let odd = ["a b", "with/slash", "back\\slash", "h-x", "h-", "~", "x.y", "00", &at_limit, &past_it, &long, &longest];
    for name in odd {
        let mut peer = bus.puppet(name);
        assert_eq!(names(&a.peers().unwrap()), [name]);
        let record = a.peer(name).unwrap().expect("it is registered");
        assert_eq!((record.name.as_str(), record.pid), (name, Some(peer.pid())));
        a.send(name, "there").unwrap();
        let seen = peer.recv_count(1).remove(0);
        assert_eq!((seen.to.as_str(), seen.content), (name, json!("there")));
        peer.send("a", "back").unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().from().as_str(), name);
        peer.must(&json!({"op": "write_stats"}));
        assert!(a.all_stats().unwrap().keys().any(|known| known.as_str() == name), "{name}");
        peer.disconnect();
        assert!(a.peers().unwrap().is_empty());
    }
}

fn case(context: &Context<'_>) {
    let bus = context.bus();
    let (mut lower, mut upper) = (bus.client("case"), bus.puppet("CASE"));
    lower.send("CASE", &1).unwrap();
    assert_eq!(upper.recv_count(1)[0].to, "CASE");
    assert!(lower.get_messages().unwrap().is_empty());
}

fn free_again(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    for round in 0..3 {
        let mut b = bus.puppet("b");
        assert!(b.recv_now().is_empty(), "a message of an earlier holder in round {round}");
        a.send("b", &round).unwrap();
        b.disconnect();
        assert_eq!(a.send("b", "nobody is there").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    }
}

fn no_users(context: &Context<'_>) {
    let bus = context.bus();
    let builder = || ipc_manager::Client::builder("a", bus.info()).registry(context.subject().registry());
    for builder in [builder().user("somebody"), builder().password("secret")] {
        let error = builder.connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!format!("{error:?}{builder:?}").contains("secret"));
    }
    assert!(bus.client("a").peers().unwrap().is_empty());
}

fn two_processes(context: &Context<'_>) {
    let bus = context.bus();
    let (mut first, mut second) = (bus.puppet("x"), bus.idle_puppet());
    assert_eq!(second.try_connect("x").unwrap_err().code(), "name_in_use");
    assert_eq!(second.try_reconnect("x").unwrap_err().code(), "name_in_use");
    second.try_connect("y").unwrap();
    second.send("x", 1).unwrap();
    assert_eq!(first.recv_count(1)[0].from, "y");
}
