// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thin, safe calls to the operating system: processes, locks, files, watches, waiting. Every `unsafe` of the crate is
//! in here, and nothing in here knows what a message is.

pub(crate) mod access;
pub(crate) mod arrivals;
pub(crate) mod bell;
pub(crate) mod children;
pub(crate) mod datagram;
mod deadline;
pub(crate) mod doorbell;
pub(crate) mod files;
pub(crate) mod lock;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod rings;
pub(crate) mod signals;
pub(crate) mod stream;
pub(crate) mod title;
pub(crate) mod tree;
pub(crate) mod watch;

pub(crate) use deadline::{Backoff, Deadline};
