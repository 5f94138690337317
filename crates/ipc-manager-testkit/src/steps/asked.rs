// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request in a process of its own: that of who asks, and that of the service that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_manager::{Error, Handle, Reply, Result as Done, Service, ServiceBuilder};
use serde_json::{Value, json};

use super::{Act, tried, wait_for_word};
use crate::{PATIENCE, trace};

/// The name of the service.
pub(crate) const SERVICE: &str = "service";

/// A service that says what it is asked.
pub(crate) fn service() -> ServiceBuilder {
    Service::builder(SERVICE).on_request(|_, request| Ok(Reply::new(request.value())?))
}

fn told<T>(done: Result<T, Error>) -> String {
    done.map_or_else(|error| format!("{error:?}"), |_| "ok".to_owned())
}

impl Act {
    /// Asks a service, again where that failed, and once more.
    pub(super) fn request(&self) -> Value {
        let handle = Handle::with_registry(SERVICE, &self.info(), self.registry.clone());
        let mut handle = handle.expect("it is a name").named(self.text("name")).timeout(PATIENCE);
        handle.client().expect("it can join");
        let (answer, mut said) = tried(&mut || handle.request(SERVICE, "asked"));
        said["answer"] = answer.unwrap_or_default();
        said["later"] = told(handle.request(SERVICE, "later")).into();
        said["late answers"] = handle.take_unexpected().len().into();
        said["left"] = outcome(handle.client().and_then(|client| client.disconnect_with(drop)));
        said
    }

    /// Is a service that is injured while it takes and answers one request, and then goes on until it is told to end. Where
    /// it fails another one takes its place.
    pub(super) fn answer(&self) -> Value {
        let is_traced = Arc::new(AtomicBool::new(false));
        let was_asked = Arc::new(AtomicBool::new(false));
        let (begins, ends, asks) = (Arc::clone(&is_traced), Arc::clone(&is_traced), Arc::clone(&was_asked));
        let on_bus = |service: ServiceBuilder| service.bus(&self.info()).registry(self.registry.clone());
        let injured = on_bus(Service::builder(SERVICE))
            .on_request(move |_, request| {
                asks.store(true, Ordering::SeqCst);
                Ok(Reply::new(request.value())?)
            })
            .on_start(move |_| {
                wait_for_word();
                begins.store(true, Ordering::SeqCst);
                Ok(trace::begin()?)
            })
            .should_end(move |_| {
                if was_asked.load(Ordering::SeqCst) && ends.swap(false, Ordering::SeqCst) {
                    trace::end();
                }
                Ok(false)
            })
            .run();
        if is_traced.swap(false, Ordering::SeqCst) {
            trace::end();
        }
        match injured {
            Ok(_) => json!({"first": "ok", "again": "ok"}),
            Err(error) => {
                let again = told(on_bus(service()).run());
                json!({"first": error.code(), "why": format!("{error:?}"), "again": again})
            }
        }
    }
}

pub(super) fn with(mut said: Value, key: &str, value: Value) -> Value {
    said[key] = value;
    said
}

pub(super) fn outcome(done: Done<()>) -> Value {
    done.map_or_else(|error| format!("{error:?}").into(), |()| "ok".into())
}
