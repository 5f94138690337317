// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers of one turn that go out together, where the store takes several messages in one step.

use std::sync::mpsc::channel;

use ipc_manager::{Ended, Spawn};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::json;

use super::double;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![a_full_turn_is_answered_in_order_and_one_who_left_costs_nobody_an_answer]
}

fn a_full_turn_is_answered_in_order_and_one_who_left_costs_nobody_an_answer(_: &Sandbox) {
    const EACH: i64 = 50;
    for protocol in ["MessageFiles", "JSONFile", if cfg!(feature = "sqlite") { "SQLite" } else { "LocalMemory" }] {
        let bus = Spawn::builder().protocol(protocol).serializer("JSON").spawn().unwrap();
        let (gate, opened) = channel::<()>();
        // It begins its first turn when all of them have asked.
        let builder = double("s").bus(bus.info()).on_start(move |_| Ok(opened.recv()?));
        let mut service = builder.spawn_thread().unwrap();
        let (mut stays, mut leaves) = (bus.connect("stays").unwrap(), bus.connect("leaves").unwrap());
        for n in 0..EACH {
            for asker in [&mut stays, &mut leaves] {
                let id = format!("{}-{n}", asker.name());
                asker.send("s", &json!({"ipcm_request_id": id, "request": n})).unwrap();
            }
        }
        leaves.disconnect().unwrap();
        gate.send(()).unwrap();
        for n in 0..EACH {
            let answer = stays.recv_timeout(PATIENCE).unwrap();
            let expected = json!({"ipcm_response_id": format!("stays-{n}"), "response": 2 * n});
            assert_eq!(answer.content(), &expected, "{protocol}");
        }
        // The service has lost nothing over it.
        assert_eq!(service.request("s", &21).unwrap(), 42, "{protocol}");
        service.terminate().unwrap();
        assert!(matches!(service.wait(Some(PATIENCE)), Some(Ended::Returned(0))), "{protocol}");
        assert!(stays.get_messages().unwrap().is_empty(), "{protocol}: something came twice");
    }
}
