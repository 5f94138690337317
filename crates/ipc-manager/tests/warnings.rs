// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told where nobody asks: warnings of things dropped.

use std::sync::{Mutex, PoisonError};

use ipc_manager::Spawn;
use ipc_manager_testkit::{Sandbox, Test};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![own_05_a_dropped_owner_and_a_dropped_client_warn_of_what_was_unread]
}

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            HEARD.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Keeps every warning of this process.
pub fn listen() {
    if log::set_logger(&Listener).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// The warnings that have these words in them.
fn heard(words: &[&str]) -> Vec<String> {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().filter(|text| words.iter().all(|word| text.contains(word))).cloned().collect()
}

fn own_05_a_dropped_owner_and_a_dropped_client_warn_of_what_was_unread(sandbox: &Sandbox) {
    let route = sandbox.dir().join("bus-of-own-05");
    let route = route.to_str().unwrap();
    let builder = Spawn::builder().protocol("MessageFiles").serializer("JSON").route(route).guard(true).audit(true);
    let owner = builder.spawn().unwrap();
    let (mut a, b) = (owner.connect("a").unwrap(), owner.connect("b-of-own-05").unwrap());
    a.send("b-of-own-05", "unread").unwrap();
    a.disconnect().unwrap();
    drop(b);
    assert_eq!(heard(&["b-of-own-05", "unread"]).len(), 1, "one warning of the client's mailbox");
    drop(owner);
    assert_eq!(heard(&["a -> b-of-own-05"]).len(), 1, "one warning of the books");
    assert!(!std::path::Path::new(route).exists());
}
