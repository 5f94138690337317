// SPDX-License-Identifier: MIT OR Apache-2.0
//! What peers do, one thing a line.

use std::fmt;
use std::str::FromStr;

use proptest::prelude::{Strategy, any, prop_oneof};

/// The names that peers have.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// One of the names.
pub type Peer = usize;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    Connect(Peer),
    Reconnect(Peer),
    /// Sends a content of so many bytes.
    Send(Peer, Peer, usize),
    Broadcast(Peer),
    Receive(Peer),
    /// Receives one message and acknowledges it.
    Acknowledge(Peer),
    /// Receives one to be acknowledged, and puts it back.
    PutBack(Peer),
    /// Takes one, and puts it back in front.
    Requeue(Peer),
    /// Sends without waiting until some are held back, which then are read.
    Overfill(Peer, Peer),
    Suspend(Peer),
    Disconnect(Peer),
    Kill(Peer),
    Reap(Peer),
    /// Asks who is there.
    Peers(Peer),
}

#[derive(Debug, Clone)]
pub struct Script(pub Vec<Op>);

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, peer) = match *self {
            Self::Send(from, to, size) => return write!(f, "send {} {} {size}", NAMES[from], NAMES[to]),
            Self::Overfill(from, to) => return write!(f, "overfill {} {}", NAMES[from], NAMES[to]),
            Self::Connect(peer) => ("connect", peer),
            Self::Reconnect(peer) => ("reconnect", peer),
            Self::Broadcast(peer) => ("broadcast", peer),
            Self::Receive(peer) => ("receive", peer),
            Self::Acknowledge(peer) => ("acknowledge", peer),
            Self::PutBack(peer) => ("put_back", peer),
            Self::Requeue(peer) => ("requeue", peer),
            Self::Suspend(peer) => ("suspend", peer),
            Self::Disconnect(peer) => ("disconnect", peer),
            Self::Kill(peer) => ("kill", peer),
            Self::Reap(peer) => ("reap", peer),
            Self::Peers(peer) => ("peers", peer),
        };
        write!(f, "{verb} {}", NAMES[peer])
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let peer = |name: &str| NAMES.iter().position(|known| *known == name).ok_or_else(|| line.to_owned());
        Ok(match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["send", from, to, size] => Self::Send(peer(from)?, peer(to)?, size.parse().map_err(|_| line.to_owned())?),
            ["connect", name] => Self::Connect(peer(name)?),
            ["reconnect", name] => Self::Reconnect(peer(name)?),
            ["broadcast", name] => Self::Broadcast(peer(name)?),
            ["overfill", from, to] => Self::Overfill(peer(from)?, peer(to)?),
            ["receive", name] => Self::Receive(peer(name)?),
            ["acknowledge", name] => Self::Acknowledge(peer(name)?),
            ["put_back", name] => Self::PutBack(peer(name)?),
            ["requeue", name] => Self::Requeue(peer(name)?),
            ["suspend", name] => Self::Suspend(peer(name)?),
            ["disconnect", name] => Self::Disconnect(peer(name)?),
            ["kill", name] => Self::Kill(peer(name)?),
            ["reap", name] => Self::Reap(peer(name)?),
            ["peers", name] => Self::Peers(peer(name)?),
            _ => return Err(line.to_owned()),
        })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Any script. Each begins with peers that are there.
pub fn scripts() -> impl Strategy<Value = Script> {
    let peer = || 0..NAMES.len();
    let size = prop_oneof![4 => 0..40_usize, 1 => 4_000..4_200_usize, 1 => 0..9_000_usize];
    let op = prop_oneof![
        3 => peer().prop_map(Op::Connect),
        2 => peer().prop_map(Op::Reconnect),
        8 => (peer(), peer(), size).prop_map(|(from, to, size)| Op::Send(from, to, size)),
        2 => peer().prop_map(Op::Broadcast),
        3 => peer().prop_map(Op::Receive),
        2 => peer().prop_map(Op::Acknowledge),
        2 => peer().prop_map(Op::PutBack),
        2 => peer().prop_map(Op::Requeue),
        1 => (peer(), peer()).prop_map(|(from, to)| Op::Overfill(from, to)),
        1 => peer().prop_map(Op::Suspend),
        1 => peer().prop_map(Op::Disconnect),
        2 => peer().prop_map(Op::Kill),
        1 => peer().prop_map(Op::Reap),
        1 => peer().prop_map(Op::Peers),
    ];
    (any::<[bool; 3]>(), proptest::collection::vec(op, 1..32)).prop_map(|(there, ops)| {
        let begin = (0..NAMES.len()).filter(|peer| there[*peer]).map(Op::Connect);
        Script(begin.chain(ops).collect())
    })
}
