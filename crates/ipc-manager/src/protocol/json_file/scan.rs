// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding one's way in a JSON text without reading what is passed over: a state holds thousands of messages of others,
//! and only its frame is of interest. What is passed over is checked when somebody takes it.

use std::ops::Range;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;

/// Deepest nesting that is passed over.
const DEEPEST: usize = 1_000;

fn corrupt(at: usize, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the state is damaged: {what}")).at_offset(at)
}

/// A key, and where its value is.
pub(super) type Entry = (String, Range<usize>);

/// The next byte that is no white space.
pub(super) fn skip_blank(text: &str, mut at: usize) -> usize {
    while matches!(text.as_bytes().get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The end of the string that begins at `at`.
fn skip_string(text: &str, at: usize) -> Result<usize> {
    let mut next = at + 1;
    loop {
        let Some(quote) = text.get(next..).and_then(|rest| rest.find('"')) else {
            return Err(corrupt(at, "a string has no end"));
        };
        let quote = next + quote;
        let backslashes = text.as_bytes()[next..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        next = quote + 1;
        // An odd number of them means that the quote is one of the string's own.
        if backslashes % 2 == 0 {
            return Ok(next);
        }
    }
}

/// The end of the value that begins at `at`.
pub(super) fn skip_value(text: &str, at: usize) -> Result<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (at, Vec::new());
    loop {
        match bytes.get(at) {
            None => return Err(corrupt(at, "it is cut short")),
            Some(b'"') => at = skip_string(text, at)?,
            Some(bracket @ (b'{' | b'[')) => {
                open.push(if *bracket == b'{' { b'}' } else { b']' });
                if open.len() > DEEPEST {
                    return Err(corrupt(at, "it is nested too deeply"));
                }
                at += 1;
                continue;
            }
            Some(bracket @ (b'}' | b']')) => {
                if open.pop() != Some(*bracket) {
                    return Err(corrupt(at, "brackets do not match"));
                }
                at += 1;
            }
            Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') if !open.is_empty() => {
                at += 1;
                continue;
            }
            Some(_) => {
                let scalar = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                let length = bytes[at..].iter().take_while(|byte| scalar(byte)).count();
                if length == 0 {
                    return Err(corrupt(at, "there is something that is no JSON"));
                }
                at += length;
            }
        }
        if open.is_empty() {
            return Ok(at);
        }
    }
}

/// The values of an object by their keys, in order, and where it ends.
pub(super) fn entries(text: &str, at: usize) -> Result<(Vec<Entry>, usize)> {
    let mut found = Vec::new();
    let end = each_entry(text, at, |key, value| {
        let end = skip_value(text, value)?;
        found.push((key, value..end));
        Ok(end)
    })?;
    Ok((found, end))
}

/// Walks over an object. `one` is given each key, and where its value begins, and says where that ends.
pub(super) fn each_entry(text: &str, at: usize, mut one: impl FnMut(String, usize) -> Result<usize>) -> Result<usize> {
    each(text, at, b'{', b'}', |at| {
        let key = skip_string(text, at)?;
        let name = json::normalise(&text.as_bytes()[at..key], &Limits::DEFAULT)
            .and_then(|name| json::parse_value(&name))
            .map_err(|error| corrupt(at, "a key is no JSON").with_source(error))?;
        let Value::String(name) = name else { return Err(corrupt(at, "a key is no text")) };
        let colon = skip_blank(text, key);
        if text.as_bytes().get(colon) != Some(&b':') {
            return Err(corrupt(colon, "a key has no value"));
        }
        one(name, skip_blank(text, colon + 1)).map(Some)
    })
}

/// The end of the array that begins at `at`, of values that can be told apart.
pub(super) fn skip_list(text: &str, at: usize) -> Result<usize> {
    each(text, at, b'[', b']', |at| skip_value(text, at).map(Some))
}

/// The elements of an array from the front, so many at most; and where the one after them begins, if there is one.
pub(super) fn elements(text: &str, at: usize, most: usize) -> Result<(Vec<Range<usize>>, Option<usize>)> {
    let (mut found, mut next) = (Vec::new(), None);
    each(text, at, b'[', b']', |at| {
        if found.len() == most {
            next = Some(at);
            return Ok(None);
        }
        let end = skip_value(text, at)?;
        found.push(at..end);
        Ok(Some(end))
    })?;
    Ok((found, next))
}

/// Walks over what is between two brackets, separated by commas. `one` is given where each begins and says where it
/// ends, or that it is enough.
fn each(
    text: &str,
    at: usize,
    open: u8,
    close: u8,
    mut one: impl FnMut(usize) -> Result<Option<usize>>,
) -> Result<usize> {
    let bytes = text.as_bytes();
    if bytes.get(at) != Some(&open) {
        return Err(corrupt(at, "it is not what must be here"));
    }
    let mut at = skip_blank(text, at + 1);
    if bytes.get(at) == Some(&close) {
        return Ok(at + 1);
    }
    loop {
        if open == b'{' && bytes.get(at) != Some(&b'"') {
            return Err(corrupt(at, "a key is missing"));
        }
        let Some(end) = one(at)? else { return Ok(at) };
        at = skip_blank(text, end);
        match bytes.get(at) {
            Some(b',') => at = skip_blank(text, at + 1),
            Some(byte) if *byte == close => return Ok(at + 1),
            _ => return Err(corrupt(at, "a comma or a bracket is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_elements_are_found() {
        let text = r#" {"a\"b" : [1, {"x":"]}\\"}, "\"", null] ,"c":{},"d":-1.5e3} "#;
        let (found, end) = entries(text, 1).unwrap();
        let shown: Vec<_> = found.iter().map(|(key, range)| (key.as_str(), &text[range.clone()])).collect();
        assert_eq!(shown, [("a\"b", r#"[1, {"x":"]}\\"}, "\"", null]"#), ("c", "{}"), ("d", "-1.5e3")]);
        assert_eq!(end, text.len() - 1);
        let array = found[0].1.start;
        let (all, next) = elements(text, array, 10).unwrap();
        let shown: Vec<_> = all.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!((shown, next), (vec!["1", r#"{"x":"]}\\"}"#, r#""\"""#, "null"], None));
        let (two, next) = elements(text, array, 2).unwrap();
        assert_eq!((two.len(), &text[next.unwrap()..][..4]), (2, r#""\"""#));
        assert_eq!(elements("[]", 0, 5).unwrap(), (vec![], None));
    }

    #[test]
    fn what_is_damaged_is_an_error_and_never_a_panic() {
        let text = r#"{"clients":{"a":{"pid":1}},"messages":{"a":[{"id":"x\"y"}]},"stats":{}}"#;
        for cut in 0..text.len() {
            assert!(entries(&text[..cut], 0).is_err(), "{cut}");
        }
        let deep = "[".repeat(100_000);
        for bad in ["", "[", "{1:2}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":]}", "{\"a\":1 2}", &deep] {
            assert!(entries(bad, 0).is_err(), "{bad:.20}");
        }
        for bad in ["[,]", "[1 2]", "[1,]", "[1:2]", "[1"] {
            assert!(skip_list(bad, 0).is_err(), "{bad}");
        }
        assert!(skip_value(&deep, 0).is_err() && elements("[1 2]", 0, 9).is_err() && elements("[1,]", 0, 9).is_err());
    }
}
