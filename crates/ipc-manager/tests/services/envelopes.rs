// SPDX-License-Identifier: MIT OR Apache-2.0
//! Envelopes as the reference writes them, and as it must be able to read them.

use std::fs;

use ipc_manager::{Message, Reply, Request, Response};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use super::bus;
use crate::vectors::{folder, manifest};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![captured_envelopes_are_understood, answers_have_the_captured_form]
}

fn captured() -> Vec<(String, Message, Value)> {
    let manifest = manifest("services");
    let captures = manifest["captures"].as_array().unwrap();
    assert_eq!(captures.len(), 7, "the manifest is not what it was");
    let one = |entry: &Value| {
        let file = entry["file"].as_str().unwrap();
        let bytes = fs::read(folder("services").join(file)).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let message = Message::builder(value["from"].as_str().unwrap()).to(value["to"].as_str().unwrap());
        let message = message.content(&value["content"]).unwrap().build().unwrap();
        (entry["case"].as_str().unwrap().to_owned(), message, entry["message"]["content"].clone())
    };
    captures.iter().map(one).collect()
}

fn captured_envelopes_are_understood(_: &Sandbox) {
    for (case, message, content) in captured() {
        if case.starts_with("request") {
            let request = Request::of(&message).unwrap_or_else(|| panic!("{case} is a request"));
            assert!(Response::of(&message).is_none());
            assert_eq!(request.id().to_string(), content["ipcm_request_id"], "{case}");
            assert_eq!(request.value(), &content["request"], "{case}");
            assert!(!request.takes_many());
        } else {
            let response = Response::of(&message).unwrap_or_else(|| panic!("{case} is a response"));
            assert!(Request::of(&message).is_none());
            assert_eq!(response.id().to_string(), content["ipcm_response_id"], "{case}");
            assert_eq!(response.value(), &content["response"], "{case}");
            assert_eq!(response.error(), content.get("ipcm_error").map(|error| error.as_str().unwrap()), "{case}");
            assert!(response.is_final());
        }
    }
}

/// The same values and errors, answered by a service of ours: the same keys, and no other.
fn answers_have_the_captured_form(_: &Sandbox) {
    let bus = bus();
    for details in [false, true] {
        let name = if details { "open" } else { "closed" };
        let service = ipc_manager::Service::builder(name).bus(bus.info()).expose_error_details(details);
        let mut handle = service
            .on_request(|_, request| match request.value() {
                Value::String(words) => Err(words.clone().into()),
                value => Ok(Reply::new(value)?),
            })
            .spawn_thread()
            .unwrap();
        let mut raw = bus.connect("raw").unwrap();
        for (case, message, content) in captured().into_iter().filter(|(case, ..)| case.starts_with("response")) {
            let has_details = case.ends_with("details");
            let fails = content.get("ipcm_error").is_some();
            if fails && has_details != details {
                continue;
            }
            let asked = if fails { content["ipcm_error"].clone() } else { content["response"].clone() };
            let id = Response::of(&message).unwrap().id().to_string();
            raw.send(name, &json!({"ipcm_request_id": id, "request": asked})).unwrap();
            assert_eq!(raw.recv_timeout(PATIENCE).unwrap().content(), &content, "{case}");
        }
        handle.terminate().unwrap();
        raw.disconnect().unwrap();
    }
}
