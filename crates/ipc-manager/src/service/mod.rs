// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services: clients with an event loop that answer requests, ways to start them, and ways to ask them.

mod activity;
mod answering;
mod asking;
mod builder;
mod callback;
mod describe;
mod envelope;
mod event_loop;
mod gather;
mod handle;
mod launch;
mod outgoing;
mod pace;
mod peer;
mod peer_watch;
mod remote;
mod request;
mod requester;
#[allow(clippy::module_inception, reason = "it holds the type that the module is named for")]
mod service;
mod settings;
mod waiting;
mod workers;

pub use activity::{Activity, PeerChange};
pub use builder::ServiceBuilder;
pub use callback::{Callback, CallbackId, When};
pub use describe::{Description, Method};
pub use envelope::RequestId;
pub use handle::Handle;
pub use launch::{Ended, Exec, Launched};
pub use peer::Peer;
pub use remote::Remote;
pub use request::{Answer, Reply, Request, Response, ServiceResult, Ticket};
pub use service::Service;
