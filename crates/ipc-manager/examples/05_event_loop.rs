// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for messages and for something of one's own at once: the descriptors of a client fit into any event loop.
//!
//! > from the socket: tick
//! > from the bus: "hello"
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ipc_manager::Spawn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn main() -> Result<(), Box<dyn Error>> {
    let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
    let mut client = bus.connect("client")?;
    let mut other = bus.connect("other")?;
    let (mut near, mut far) = UnixStream::pair()?;

    far.write_all(b"tick")?;
    wait(&client, &near)?;
    let mut buffer = [0; 16];
    let length = near.read(&mut buffer)?;
    println!("from the socket: {}", String::from_utf8_lossy(&buffer[..length]));

    other.send("client", "hello")?;
    loop {
        // A wake-up is a hint: something may have come. Receiving clears it.
        if let Some(message) = client.try_recv()? {
            println!("from the bus: {}", message.content());
            return Ok(());
        }
        wait(&client, &near)?;
    }
}

/// Sleeps until the bus or the socket has something, or it is time to look all the same.
fn wait(client: &ipc_manager::Client, socket: &UnixStream) -> Result<(), Box<dyn Error>> {
    let wake = client.wake()?;
    let mut polled: Vec<PollFd<'_>> =
        wake.descriptors.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let socket = socket.as_fd();
    polled.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
    let most = Timespec { tv_sec: i64::try_from(wake.look_every.as_secs())?, tv_nsec: 0 };
    poll(&mut polled, Some(&most))?;
    Ok(())
}
