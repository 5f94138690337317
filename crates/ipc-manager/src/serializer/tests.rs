// SPDX-License-Identifier: MIT OR Apache-2.0
//! The serializer slot of connection strings, and the registry.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/info-strings/manifest.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn slots_come_out_as_the_reference_writes_them() {
    for case in vectors()["info_strings"].as_array().unwrap() {
        let slot = &case["decoded"][1];
        let spec = SerializerSpec::parse(slot).unwrap();
        assert_eq!(spec.to_value(), *slot, "{case}");
        assert_eq!(SerializerSpec::from_name(&spec.to_string()).unwrap(), spec);
        // The text of an array is the piece of the line that the reference wrote.
        let shown = if slot.is_array() { spec.to_string() } else { format!("\"{spec}\"") };
        assert!(case["info"].as_str().unwrap().contains(&format!(",{shown},")), "{case}");
    }
}

#[test]
fn slots_are_read_as_the_reference_reads_them() {
    let slots = [
        (r#"["UnixSocket",["JSON"],"/r"]"#, "serializer class has no constructor"),
        (r#"["UnixSocket",null,"/r"]"#, "serializer spec not understood"),
        (r#"["UnixSocket",{"a":1},"/r"]"#, "serializer spec not understood"),
    ];
    let cases = vectors()["parsing"].as_array().unwrap().clone();
    for case in &cases {
        let info = match &case["input"] {
            Value::String(text) => serde_json::from_str::<Value>(text).unwrap_or_default(),
            decoded => decoded.clone(),
        };
        let Some(slot) = info.get(1) else { continue };
        let spec = SerializerSpec::parse(slot);
        match slots.iter().find(|(input, _)| case["input"] == *input) {
            Some((_, words)) => {
                let error = spec.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInfo);
                assert!(error.to_string().starts_with(words), "{error}");
            }
            None => assert_eq!(spec.unwrap().class(), json::CLASS, "{case}"),
        }
    }
    for (input, _) in slots {
        assert!(cases.iter().any(|case| case["input"] == input), "the vectors no longer have {input}");
    }
}

#[test]
fn ser_08_names_are_expanded() {
    let vectors = vectors();
    let cases = vectors["serializer_expansion"].as_object().unwrap();
    assert_eq!(cases.len(), 4);
    for (given, expanded) in cases {
        assert_eq!(SerializerSpec::from_name(given).unwrap().class(), expanded);
        assert_eq!(SerializerSpec::parse(&json!(given)).unwrap().class(), expanded);
    }
    // Outside the distribution a class keeps its `+` when written: without it, the reader would add the prefix.
    for (given, written, short) in [
        ("+My::Ser", "+My::Ser", "+My::Ser"),
        ("+IPC::Manager::Serializer::JSON", "IPC::Manager::Serializer::JSON", "JSON"),
        ("JSON::Zstd", "IPC::Manager::Serializer::JSON::Zstd", "JSON::Zstd"),
    ] {
        let spec = SerializerSpec::from_name(given).unwrap();
        assert_eq!((spec.to_string().as_str(), spec.short_name().as_str()), (written, short));
    }
    let spec = SerializerSpec::from_name(r#" ["+My::Ser", "é", null] "#).unwrap();
    assert_eq!(spec.to_string(), r#"["+My::Ser","\u00e9",null]"#);
}

#[test]
fn unsound_slots_are_refused() {
    let slots = [
        json!(1),
        json!(true),
        json!(""),
        json!("+"),
        json!("IPC::Manager::Serializer::"),
        json!("JSON\n"),
        json!([]),
        json!([1]),
        json!([null]),
        json!(["JSON::Zstd", "level"]),
        json!(["JSON::Zstd", 1, 2]),
        json!(["JSON::Zstd", "level", [9]]),
        json!(["JSON::Zstd", "level", {}]),
        json!(["JSON::Zstd", "level", 9, "level", 9]),
    ];
    for slot in slots {
        assert_eq!(SerializerSpec::parse(&slot).unwrap_err().kind(), ErrorKind::InvalidInfo, "{slot}");
    }
    for name in ["", "[", r#"["JSON"]"#, "[\"JSON::Zstd\",]"] {
        assert_eq!(SerializerSpec::from_name(name).unwrap_err().kind(), ErrorKind::InvalidInfo, "{name}");
    }
}

#[test]
fn ser_01_plain_json_is_the_text_itself() {
    let serializer = Serializers::standard().resolve(&SerializerSpec::from_name("JSON").unwrap()).unwrap();
    for text in [r#"{"a":[1,"b",null]}"#, "[1,2.5]", "\"x\"", "1", "true", "null"] {
        let mut payload = b"before".to_vec();
        serializer.encode(text, &mut payload).unwrap();
        let payload = payload.strip_prefix(b"before").unwrap();
        assert_eq!(*serializer.decode(payload, text.len()).unwrap(), *text.as_bytes());
        let error = serializer.decode(payload, text.len() - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
    assert_eq!(serializer.spec().to_string(), "IPC::Manager::Serializer::JSON");
}

#[test]
fn ser_08_one_spec_is_one_instance() {
    let serializers = Serializers::standard().with("My::Ser", |spec| Ok(Arc::new(Custom(spec.clone()))));
    let resolve = |name: &str| serializers.resolve(&SerializerSpec::from_name(name).unwrap()).unwrap();
    let alike = [
        ("JSON", "IPC::Manager::Serializer::JSON", true),
        (r#"["+My::Ser","a",1]"#, r#"["+My::Ser","a",1]"#, true),
        (r#"["+My::Ser","a",1]"#, r#"["+My::Ser","a",2]"#, false),
        ("+My::Ser", r#"["+My::Ser","a",1]"#, false),
        ("JSON", "+My::Ser", false),
    ];
    for (a, b, same) in alike {
        assert_eq!(Arc::ptr_eq(&resolve(a), &resolve(b)), same, "{a} and {b}");
    }
    let clone = serializers.clone();
    assert!(Arc::ptr_eq(&resolve("JSON"), &clone.resolve(&SerializerSpec::from_name("JSON").unwrap()).unwrap()));
}

#[derive(Debug)]
struct Custom(SerializerSpec);

impl Serializer for Custom {
    fn spec(&self) -> &SerializerSpec {
        &self.0
    }

    fn encode(&self, json: &str, payload: &mut Vec<u8>) -> Result<()> {
        Json::new().encode(json, payload)
    }

    fn decode<'a>(&self, payload: &'a [u8], _: usize) -> Result<Cow<'a, [u8]>> {
        Ok(Cow::Borrowed(payload))
    }
}

#[test]
fn a_replaced_serializer_is_not_found_again() {
    let serializers = Serializers::standard();
    let spec = SerializerSpec::from_name("JSON").unwrap();
    let before = serializers.resolve(&spec).unwrap();
    let replaced =
        serializers.clone().with("+IPC::Manager::Serializer::JSON", |spec| Ok(Arc::new(Custom(spec.clone()))));
    assert!(!Arc::ptr_eq(&before, &replaced.resolve(&spec).unwrap()));
    assert!(Arc::ptr_eq(&before, &serializers.resolve(&spec).unwrap()));
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let serializers = Serializers::standard().with("+My::Ser", |spec| Ok(Arc::new(Custom(spec.clone()))));
    assert!(serializers.names().starts_with(&["+My::Ser".to_owned(), "JSON".to_owned()]));
    for name in ["JSON::Zst", "My::Ser", "+JSON"] {
        let error = serializers.resolve(&SerializerSpec::from_name(name).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownSerializer);
        assert!(error.to_string().contains("+My::Ser, JSON"), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_unknown_argument_is_named() {
    let spec = SerializerSpec::from_name(r#"["+X","level",1,"lvl",2]"#).unwrap();
    let error = spec.check_arguments(&["level", "dictionary"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.to_string(), "serializer +X has no argument `lvl`; it knows: level, dictionary");
    spec.check_arguments(&["level", "lvl"]).unwrap();
    assert!(spec.check_arguments(&[]).unwrap_err().to_string().ends_with("it knows: none"));
}

#[test]
fn the_default_is_the_first_of_the_list() {
    let serializers = Serializers::default();
    let spec = serializers.default_spec();
    assert_eq!(serializers.resolve(&spec).unwrap().spec(), &spec);
    assert!(!spec.is_array());
    assert_eq!(spec.class(), BUILT_IN[0].0);
}
