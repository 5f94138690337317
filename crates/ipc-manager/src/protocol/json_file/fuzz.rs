// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a bus in a file: whatever was read can be written and read again, and one mailbox is as a list.

use std::collections::VecDeque;

use super::state::{EMPTY, State};
use crate::fuzz::{MESSAGE, target};

fn busy() -> String {
    let client = r#"{"pid":17,"ipcm_since":1.5,"ipcm_holder":{"boot":"x","pid_ns":0,"pid":17,"start":1,"bell":"b"}}"#;
    format!(
        r#" {{"clients":{{"a":{client},"b":null}},"more":[1,{{}}],"ipcm_leaving":{{"c":{{}}}},"stats":{{"a":{{"read":{{"b":1}}}}}},
        "messages":{{"a":[ {MESSAGE} , {MESSAGE}],"b":[]}}}} "#
    )
}

#[test]
fn states() {
    target("json-state").memory(2 << 20, 512).seed(EMPTY).seed(busy()).bytes(|input| {
        let Ok(text) = String::from_utf8(input.to_vec()) else { return };
        let Ok(state) = State::parse(text) else { return };
        let Ok(written) = state.render() else { return };
        let read = State::parse(written.clone()).expect("what was written can be read");
        assert_eq!(read.render().expect("it can be written again"), written);
        assert_eq!(read.names(), state.names());
        for name in state.names().into_iter().chain(["a".to_owned(), "b".to_owned()]) {
            let messages = state.messages(&name).expect("what is a state has lists of messages");
            assert_eq!(read.messages(&name).expect("it has still"), messages);
            assert_eq!(read.standing(&name), state.standing(&name));
            assert_eq!(state.waiting(&name).expect("they can be counted"), messages.len());
            assert_eq!(state.has_message(&name), !messages.is_empty());
            let _ = (state.stats(&name), state.standing(&name).state(None), state.standing(&name).pid());
        }
        assert_eq!(read.counted(), state.counted());
    });
}

/// Reads an input as a programme of what is done to one mailbox, and does the same to a list.
#[test]
fn a_mailbox_is_as_a_list() {
    target("json-mailbox").memory(4 << 20, 4 << 10).seed([0, 0, 1, 2, 0x83, 3, 1]).seed([0, 2, 0x41, 1, 4, 0]).bytes(
        |programme| {
            let (mut text, mut model) = (EMPTY.to_owned(), VecDeque::<String>::new());
            for (number, op) in programme.iter().take(100).enumerate() {
                let message = |tail: &str| format!(r#"{{"n":{number},"c":[{{"[]":"]\"["}}{tail}]}}"#);
                let mut state = State::parse(text).expect("it was written here");
                match op % 5 {
                    0 => {
                        state.append("a", message(""));
                        model.push_back(message(""));
                    }
                    1 => {
                        let most = usize::from(op / 8);
                        let taken = state.take("a", most, 200).expect("they can be taken");
                        let expected: Vec<_> = (0..taken.len()).filter_map(|_| model.pop_front()).collect();
                        assert_eq!(taken, expected);
                        assert!(most == 0 || !taken.is_empty() || model.is_empty(), "one at least is taken");
                    }
                    2 => {
                        state.put_in_front("a", vec![message(",1"), message(",2")]);
                        model.push_front(message(",2"));
                        model.push_front(message(",1"));
                    }
                    3 => {
                        state.append("other", message(""));
                        state.suspend("a", None);
                    }
                    _ => {
                        assert_eq!(state.remove("a").expect("it can be removed"), model.len());
                        model.clear();
                    }
                }
                text = state.render().expect("it can be written");
                let state = State::parse(text.clone()).expect("it was written here");
                assert_eq!(state.messages("a").expect("it is sound"), model.make_contiguous());
            }
        },
    );
}
