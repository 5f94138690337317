// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker of `ipcm demo`: counts the pieces that it is sent, until it is told to end or nobody is left to tell it.

use ipc_manager::{Client, ErrorKind, Result, Wait, WaitFor};

use super::demo::DISPATCHER;
use super::demo_count::{Answer, Count, Piece};
use crate::args::{BusArgs, NameArgs};
use crate::bus_choice;
use crate::context::Context;
use crate::exit_code;
use crate::failure::Outcome;

pub(crate) fn run(context: &mut Context) -> Outcome {
    let info = context.choose_bus(&BusArgs::default())?;
    let choice = bus_choice::name(&NameArgs::default())?;
    let mut client = Client::builder(&choice.name, &info).registry(context.registry.clone()).connect()?;
    let worked = work(&mut client);
    let left = client.disconnect();
    for result in [worked.map(|()| exit_code::DONE), left.map(|()| exit_code::DONE)] {
        match result {
            // Whoever gave the work is gone, and said what there was to say.
            Err(error) if matches!(error.kind(), ErrorKind::NoSuchPeer | ErrorKind::NoSuchBus) => {
                return Ok(exit_code::PEER_GONE);
            }
            Err(error) if error.kind() != ErrorKind::UnreadMessages => return Err(error.into()),
            _ => {}
        }
    }
    Ok(exit_code::DONE)
}

fn work(client: &mut Client) -> Result<()> {
    client.send(DISPATCHER, &Answer::Ready)?;
    let wanted = WaitFor::message().or_gone(DISPATCHER)?;
    loop {
        while let Some(message) = client.try_recv()? {
            if message.is_terminate() {
                return Ok(());
            }
            let piece: Piece = message.parse()?;
            client.send(message.from().as_str(), &Answer::Counted(piece.number, Count::of(&piece)))?;
        }
        match client.wait_for(&wanted)? {
            Wait::PeerGone(_) | Wait::BusClosed => return Ok(()),
            _ => {}
        }
    }
}
