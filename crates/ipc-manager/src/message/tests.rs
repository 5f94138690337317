// SPDX-License-Identifier: MIT OR Apache-2.0

use serde_json::json;

use super::*;

fn decode(text: &str) -> Result<Message> {
    Message::from_json(text.as_bytes(), &Limits::DEFAULT)
}

fn sample() -> Message {
    Message::builder("a").to("b").content(&json!({"x": 1})).unwrap().build().unwrap()
}

#[test]
fn msg_01_id_and_stamp_are_made() {
    let (first, second) = (sample(), sample());
    assert_ne!(first.id(), second.id());
    assert!(first.stamp() < second.stamp());
    assert_eq!(first.id().as_str(), first.id().as_str().to_uppercase());
}

#[test]
fn msg_02_a_broadcast_needs_no_recipient() {
    let message = Message::builder("a").broadcast(true).content("x").unwrap().build().unwrap();
    assert!(message.is_broadcast());
    assert!(message.to().is_none());
}

#[test]
fn msg_03_what_is_missing_is_named() {
    let error = Message::builder("").to("b").content("x").unwrap().build().unwrap_err();
    assert!(error.to_string().contains("`from`"), "{error}");
    let error = Message::builder("a").to("b").build().unwrap_err();
    assert!(error.to_string().contains("`content`"), "{error}");
    let error = Message::builder("a").content("x").unwrap().build().unwrap_err();
    assert!(error.to_string().contains("`to`"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn msg_04_terminate_messages() {
    let terminates = |content: Value| Content::new(&content).unwrap().is_terminate();
    assert!(terminates(json!({"terminate": 1})));
    assert!(terminates(json!({"terminate": "yes", "x": 2})));
    assert!(terminates(json!({"terminate": []})));
    for content in [json!({"foo": 1}), json!("terminate"), json!({"terminate": 0}), json!({"terminate": "0"})] {
        assert!(!terminates(content.clone()), "{content}");
    }
}

#[test]
fn msg_05_a_clone_has_another_id_and_recipient() {
    let message = sample();
    let clone = message.clone_to("c").unwrap();
    assert_ne!(clone.id(), message.id());
    assert_eq!(clone.to().unwrap(), &"c");
    assert_eq!((clone.stamp(), clone.from(), clone.content()), (message.stamp(), message.from(), message.content()));
}

#[test]
fn what_is_written_is_read_back() {
    let message = Message::builder("a")
        .to("b")
        .broadcast(false)
        .extra("trace", json!({"deep": [1, null]}))
        .content(&json!({"s": "\u{1F600} caf\u{e9}", "n": 1.5}))
        .unwrap()
        .build()
        .unwrap();
    let text = message.to_json(&Limits::DEFAULT).unwrap();
    assert!(text.is_ascii());
    assert!(text.contains("\"broadcast\":0"));
    assert_eq!(decode(&text).unwrap(), message);
}

#[test]
fn numbers_and_strings_are_read_for_each_other() {
    let message =
        decode(r#"{"from":42,"to":7,"id":17,"stamp":"1700000000.25","stamp_ord":"3","broadcast":"1","content":0}"#)
            .unwrap();
    assert_eq!(message.from(), &"42");
    assert_eq!(message.to().unwrap(), &"7");
    assert_eq!(message.id().as_str(), "17");
    assert_eq!(message.order_key(), (Stamp::from_seconds(1_700_000_000.25).unwrap(), 3));
    assert!(message.is_broadcast());
    assert_eq!(message.content(), 0);
}

#[test]
fn what_may_be_missing_is_made_by_the_reader() {
    let before = Stamp::now();
    let message = decode(r#"{"from":"a","to":"b","id":null,"stamp":null,"content":false}"#).unwrap();
    assert_eq!(message.id().as_str().len(), 36);
    assert!(message.stamp() > before);
    assert_eq!(message.stamp_ord(), 0);
    assert!(!message.is_broadcast());
}

#[test]
fn damaged_messages_are_refused_and_the_field_is_named() {
    let table = [
        ("", ""),
        ("[]", ""),
        ("\"x\"", ""),
        ("null", ""),
        (r#"{"from":"a","to":"b"}"#, "content"),
        (r#"{"from":"a","to":"b","content":null}"#, "content"),
        (r#"{"to":"b","content":1}"#, "from"),
        (r#"{"from":"","to":"b","content":1}"#, "from"),
        (r#"{"from":"0","to":"b","content":1}"#, "from"),
        (r#"{"from":null,"to":"b","content":1}"#, "from"),
        (r#"{"from":["a"],"to":"b","content":1}"#, "from"),
        (r#"{"from":"a","content":1}"#, "to"),
        (r#"{"from":"a","broadcast":0,"content":1}"#, "to"),
        (r#"{"from":"a","to":"b","id":"","content":1}"#, "id"),
        (r#"{"from":"a","to":"b","id":{},"content":1}"#, "id"),
        (r#"{"from":"a","to":"b","stamp":"soon","content":1}"#, "stamp"),
        (r#"{"from":"a","to":"b","stamp":"inf","content":1}"#, "stamp"),
        (r#"{"from":"a","to":"b","stamp":true,"content":1}"#, "stamp"),
        (r#"{"from":"a","to":"b","content":1,"content":2}"#, ""),
        (r#"{"from":"a","to":"b","content":{"k":1,"k":2}}"#, ""),
        (r#"{"from":"a","to":"b","content":1}x"#, ""),
    ];
    for (text, field) in table {
        let error = decode(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}: {error}");
        assert!(field.is_empty() || error.to_string().contains(&format!("`{field}`")), "{text}: {error}");
    }
}

#[test]
fn deep_contents_are_refused_without_a_crash() {
    let deep = format!(r#"{{"from":"a","to":"b","content":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode(&deep).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn content_is_kept_as_it_came_until_asked_for() {
    let message = decode(r#"{"from":"a","to":"b","content":{"b":1, "a":[1.50]}}"#).unwrap();
    assert_eq!(message.raw_content().as_json(), r#"{"b":1,"a":[1.50]}"#, "to the letter, but on one line");
    assert_eq!(message.content()["a"][0], 1.5);
    assert!(message.to_json(&Limits::DEFAULT).unwrap().contains(r#"{"b":1,"a":[1.50]}"#));
}

#[test]
fn messages_over_the_limit_are_refused_before_they_are_stored() {
    let limits = Limits { decoded_bytes: 200, ..Limits::DEFAULT };
    let message = Message::builder("a").to("b").content(&"x".repeat(200)).unwrap().build().unwrap();
    let error = message.to_json(&limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.place().message_id(), Some(message.id().as_str()));
}

#[test]
fn ids_that_are_paths_are_refused() {
    for id in ["../x", "a/b", ".x", "", "a\0", &"i".repeat(65)] {
        let error = Message::builder("a").to("b").content("x").unwrap().id(id).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{id:?}");
    }
}
