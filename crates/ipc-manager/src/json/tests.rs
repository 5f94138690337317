// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vectors of the reference, and laws that hold for any text.

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value, json};

use super::*;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/json/manifest.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn wire<T: serde::Serialize + ?Sized>(value: &T) -> String {
    let mut out = String::new();
    to_wire(value, &Limits::DEFAULT, &mut out).unwrap();
    out
}

fn normal(text: impl AsRef<[u8]>) -> Result<String> {
    normalise(text.as_ref(), &Limits::DEFAULT).map(Cow::into_owned)
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn decodes_what_the_reference_decodes() {
    let cases = vectors()["decode"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 30);
    for case in cases {
        let input = bytes_of_hex(case["input_hex"].as_str().unwrap());
        let read = normalise(&input, &Limits::DEFAULT).and_then(|text| parse_value(&text));
        if case["accepted"] == true {
            assert_eq!(wire(&read.unwrap()), case["reencoded"], "{case}");
        } else {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{case}");
            assert!(error.place().offset().is_some_and(|offset| offset <= input.len()), "{case}");
        }
    }
}

#[test]
fn encodes_as_the_reference_encodes() {
    let wire_of = |what: &str| match what {
        "integer 42" | "string later used as number" => wire(&42),
        "string \"42\"" => wire("42"),
        "float 0.1+0.2" => wire(&(0.1 + 0.2)),
        "float 3.0" => wire(&3.0),
        "float -0.0" => wire(&-0.0),
        "float 1e20" => wire(&1e20),
        "float 1e-7" => wire(&1e-7),
        "float 1/3" => wire(&(1.0 / 3.0)),
        "float 1700000000.123456" => wire(&1_700_000_000.123_456),
        "float 1700000000.0" => wire(&1_700_000_000.0),
        "int 9223372036854775807" => wire(&i64::MAX),
        "int 18446744073709551615" => wire(&u64::MAX),
        "float 2**64" => wire(&2f64.powi(64)),
        "infinity" => wire(&f64::INFINITY),
        "not a number" => wire(&f64::NAN),
        "null" => wire(&()),
        "true" => wire(&true),
        "false" => wire(&false),
        // The reference has no boolean of its own for these two; they are the values that stand for one.
        "perl comparison true" => wire(&1),
        "perl comparison false" => wire(""),
        other => panic!("no value for the case {other}"),
    };
    for case in vectors()["encode"].as_array().unwrap() {
        assert_eq!(wire_of(case["value"].as_str().unwrap()), case["wire"], "{case}");
    }
}

#[test]
fn lays_floats_out_as_printf_does() {
    let cases = [
        (0.0, "0.0"),
        (0.0001, "0.0001"),
        (0.000_012_3, "1.23e-05"),
        (123_456_789_012_345.0, "123456789012345.0"),
        (999_999_999_999_999.9, "1e+15"),
        (100_000_000_000_000.5, "100000000000000.0"),
        (100_000_000_000_001.5, "100000000000002.0"),
        (9_007_199_254_740_992.0, "9.00719925474099e+15"),
        (-12.5, "-12.5"),
        (120.0, "120.0"),
        (f64::MAX, "1.7976931348623157e+308"),
        (1.796e308, "1.796e+308"),
        (5e-324, "4.94065645841247e-324"),
    ];
    for (value, text) in cases {
        assert_eq!(wire(&value), text);
    }
    assert_eq!(wire(&0.1f32), "0.1");
    assert_eq!(wire(&(u128::from(u64::MAX) + 1)), "1.84467440737096e+19");
    assert_eq!(wire(&i128::MIN), "-1.70141183460469e+38");
    assert_eq!(wire(&i128::from(i64::MIN)), "-9223372036854775808");
}

#[test]
fn writes_stamps_in_full() {
    for (stamp, text) in [
        (1_700_000_000.123_456_7, "1700000000.1234567"),
        (1_700_000_000.0, "1700000000.0"),
        (f64::NAN, "null"),
        (1e300, "1e300"),
    ] {
        let mut out = String::new();
        write_stamp(stamp, &mut out);
        assert_eq!(out, text);
        normal(&out).unwrap();
    }
}

#[test]
fn writes_strings_as_ascii() {
    let text = "\"\\/\u{8}\t\n\u{c}\r\u{0}\u{1f}\u{7f}\u{80}é€😀";
    let expected = r#""\"\\/\b\t\n\f\r\u0000\u001f"#.to_owned() + "\u{7f}" + r#"\u0080\u00e9\u20ac\ud83d\ude00""#;
    assert_eq!(wire(text), expected);
    assert_eq!(wire(&json!({ "é": 1 })), r#"{"\u00e9":1}"#);
}

#[test]
fn ready_made_text_stays_as_it_is() {
    for (raw, expected) in [
        (r#"{ "a" : [1.50, 1E2] }"#, r#"{"a":[1.50,1E2]}"#),
        ("\"é\"", r#""\u00e9""#),
        ("[123456789012345678901234567890]", r#"["123456789012345678901234567890"]"#),
    ] {
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        assert_eq!(wire(&vec![raw]), format!("[{expected}]"));
    }
}

#[test]
fn refuses_to_write_what_it_would_not_read() {
    struct Twice;
    impl serde::Serialize for Twice {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([("a", 1), ("a", 2)])
        }
    }
    let limits = Limits { decoded_bytes: 100, json_depth: 3, json_elements: 5, ..Limits::DEFAULT };
    let check = |value: &dyn Fn(&mut String) -> Result<()>| {
        let mut out = "before".to_owned();
        let error = value(&mut out).unwrap_err();
        assert_eq!(out, "before");
        error.kind()
    };
    assert_eq!(check(&|out| to_wire(&Twice, &limits, out)), ErrorKind::Serialize);
    assert_eq!(check(&|out| to_wire(&"x".repeat(99), &limits, out)), ErrorKind::TooLarge);
    assert_eq!(check(&|out| to_wire(&json!([[[[]]]]), &limits, out)), ErrorKind::Serialize);
    assert_eq!(check(&|out| to_wire(&[1; 6], &limits, out)), ErrorKind::TooLarge);
    let lone = RawValue::from_string(r#""\ud83d""#.to_owned()).unwrap();
    assert_eq!(check(&|out| to_wire(&lone, &limits, out)), ErrorKind::Serialize);
    let deep = RawValue::from_string("[[[]]]".to_owned()).unwrap();
    assert_eq!(check(&|out| to_wire(&[&deep], &limits, out)), ErrorKind::Serialize);

    let mut out = String::new();
    to_wire(&"x".repeat(98), &limits, &mut out).unwrap();
    to_wire(&json!([[[]]]), &limits, &mut out).unwrap();
}

#[test]
fn a_deep_value_ends_early() {
    // Nesting that never ends: only the depth limit stops it.
    struct Endless;
    impl serde::Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq([Endless])
        }
    }
    let error = to_wire(&Endless, &Limits::DEFAULT, &mut String::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialize);
}

#[test]
fn faults_name_their_place() {
    let cases: &[(&[u8], usize)] = &[
        (b"", 0),
        (b"\xef\xbb\xbf", 3),
        (b"\xef\xbb\xbf[1,]", 6),
        (b"\xef\xbb\xbf\xef\xbb\xbf[]", 3),
        (b"[1 2]", 3),
        (b"{\"a\" 1}", 5),
        (b"{\"a\":1,}", 7),
        (b"{1:2}", 1),
        (b"[\"abc", 1),
        (b"[\"a\xff\"]", 3),
        (b"[\xc3\xa9]", 1),
        (b"[\"\\x\"]", 2),
        (b"\"\\u12g4\"", 2),
        (b"\"\\ude00\"", 1),
        (b"\"\\ud83d\\u0041\"", 1),
        (b"\"\\ud83d\\n\"", 1),
        (b"\"\\", 1),
        (b"-", 1),
        (b"1.", 2),
        (b"1e+", 3),
        (b"[1e400]", 1),
        (b"{\"a\":1,\"\\u0061\":2}", 7),
        (b"{\"\xc3\xa9\":1,\"\\u00c3\\u00a9\":2}", 8),
        (b"[1}", 2),
        (b"[1]]", 3),
        (b"tru", 0),
        (b"\0", 0),
    ];
    for (input, offset) in cases {
        let shown = String::from_utf8_lossy(input);
        let error = normal(input).expect_err(&shown);
        assert_eq!((error.kind(), error.place().offset()), (ErrorKind::Corrupt, Some(*offset)), "{shown}");
    }
}

#[test]
fn the_usual_text_is_borrowed() {
    let text = br#"{"from":"a","n":[1,-2.5e3,true,false,null,18446744073709551615,-9223372036854775808],"s":"\u00e9"}"#;
    assert!(matches!(normalise(text, &Limits::DEFAULT).unwrap(), Cow::Borrowed(_)));
    assert!(matches!(normalise(b"\xef\xbb\xbf[1]", &Limits::DEFAULT).unwrap(), Cow::Borrowed("[1]")));
}

#[test]
fn wide_integers_become_text() {
    let cases = [
        ("-9223372036854775809", r#""-9223372036854775809""#),
        ("[18446744073709551616,1]", r#"["18446744073709551616",1]"#),
        ("[-0,0,-0.0,-0e0]", "[0,0,-0.0,-0e0]"),
    ];
    for (input, output) in cases {
        assert_eq!(normal(input).unwrap(), output);
    }
}

#[test]
fn equal_keys_are_found_however_many() {
    let object = |keys: usize| {
        let members: Vec<_> = (0..keys).map(|key| format!(r#""k{key}":{{"k0":[{{"k1":0}}]}}"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    for keys in [1, 2, 15, 16, 17, 18, 40] {
        let sound = object(keys);
        normal(&sound).unwrap();
        for double in [0, keys / 2, keys - 1] {
            let doubled = format!(r#"{},"k\u0030":1}}"#, &sound[..sound.len() - 1]);
            normal(&doubled).unwrap_err();
            let doubled = format!(r#"{},"k{double}":1}}"#, &sound[..sound.len() - 1]);
            normal(&doubled).unwrap_err();
        }
    }
}

#[test]
fn limits_hold_on_reading() {
    let limits = Limits { decoded_bytes: 20, json_depth: 2, json_elements: 3, ..Limits::DEFAULT };
    let kind = |text: &str| normalise(text.as_bytes(), &limits).err().map(|error| error.kind());
    assert_eq!(kind("[[1]]"), None);
    assert_eq!(kind("[[[]]]"), Some(ErrorKind::Corrupt));
    assert_eq!(kind(r#"{"a":[1,2]}"#), None);
    assert_eq!(kind(r#"{"a":[1,2,3]}"#), Some(ErrorKind::Corrupt));
    assert_eq!(kind(&" ".repeat(21)), Some(ErrorKind::TooLarge));
    // Twelve bytes, but over fifty characters once each byte is an escape.
    assert_eq!(kind("\"ééééé\""), Some(ErrorKind::TooLarge));

    let deep = vec![b'['; 10 << 20];
    assert_eq!(normal(&deep).unwrap_err().place().offset(), Some(128));
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let generous = Limits { json_depth: usize::MAX, ..Limits::DEFAULT };
    let text = normalise(deep.as_bytes(), &generous).unwrap();
    assert_eq!(parse_value(&text).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn user_text_is_utf8() {
    let limits = Limits::DEFAULT;
    assert_eq!(user_value("{\"é\": \"€\"}", &limits).unwrap(), json!({ "é": "€" }));
    assert_eq!(user_value("12345678901234567890123", &limits).unwrap(), json!("12345678901234567890123"));
    for (text, offset) in [("{\"é\":1,\"\\u00e9\":2}", 8), ("nope", 0), ("", 0)] {
        let error = user_value(text, &limits).unwrap_err();
        assert_eq!((error.kind(), error.place().offset()), (ErrorKind::Deserialize, Some(offset)), "{text}");
    }
}

#[test]
fn offsets_of_serde_json_are_bytes() {
    for (text, at) in [("[1,\n 2,\n x]", 9), ("[1,x]", 3), ("[\"é\",x]", 6), ("", 0), ("[", 1)] {
        let error = serde_json::from_str::<Value>(text).unwrap_err();
        assert!(offset(text, &error).abs_diff(at) <= 1, "{text:?}: {}", offset(text, &error));
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..20).prop_map(|m| Value::from(Map::from_iter(m))),
        ]
    })
}

/// Texts that are nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = proptest::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\"a\"", "\"b\":", "\\u", "\\ud83d", "\\ude00", "00e9", "true",
        "fals", "null", "-", "0", "01", "12", ".5", "e", "E+1", "1e400", " ", "\n", "\t", "\u{1}", "\u{7f}", "\"\\n\"",
        "[]", "{}", "[1,", "{\"k\":",
    ]);
    proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

/// Equal, but for digits of a float that do not travel.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (Value::Number(x), Value::Number(y)) if x.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            y == 0.0 && x.abs() < 1e-300 || (x - y).abs() <= x.abs() * 1e-14 || x.abs() < 1e-300
        }
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn every_value_travels(value in any_value()) {
        let text = wire(&value);
        prop_assert!(text.is_ascii());
        let received = normalise(text.as_bytes(), &Limits::DEFAULT).unwrap();
        prop_assert!(matches!(received, Cow::Borrowed(_)));
        let read = parse_value(&received).unwrap();
        prop_assert!(alike(&value, &read), "{value} came as {read}");
        let user = user_value(&value.to_string(), &Limits::DEFAULT).unwrap();
        prop_assert!(alike(&value, &user));
    }

    #[test]
    fn any_bytes_are_refused_or_readable(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(text) = normal(&bytes) {
            prop_assert!(text.is_ascii());
            parse_value(&text).unwrap();
        }
    }

    /// On plain ASCII the grammar is that of serde_json.
    #[test]
    fn agrees_with_serde_json(text in nearly_json()) {
        let theirs = serde_json::from_str::<Value>(&text);
        match normal(&text) {
            Ok(ours) => { parse_value(&ours).unwrap(); prop_assert!(theirs.is_ok(), "{text}") }
            Err(error) => prop_assert!(theirs.is_err() || error.to_string().contains("twice"), "{text}: {error}"),
        }
    }

    #[test]
    fn damaged_text_is_refused_or_readable(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = wire(&value).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = normal(&bytes) {
            parse_value(&text).unwrap();
        }
        bytes.truncate(at);
        if let Ok(text) = normal(&bytes) {
            parse_value(&text).unwrap();
        }
    }
}
