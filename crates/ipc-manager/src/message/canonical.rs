// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way to a message: its JSON object exactly as this implementation writes it, read in one pass. Whatever
//! looks different in any way is none of this module's, and goes the long way.

use std::cell::Cell;

use serde_json::Map;

use super::{Content, Message, MessageId, Origin, Stamp};
use crate::json;
use crate::limits::Limits;
use crate::name::PeerName;

/// Most digits of a whole number that every double holds.
const EXACT_DIGITS: usize = 15;
/// Most keys that such an object has.
const MOST_KEYS: usize = 7;

thread_local! {
    /// The names that were read last: a reader has one name, and its messages come from few.
    static KNOWN: Cell<[Option<PeerName>; 2]> = const { Cell::new([None, None]) };
}

/// What is left of the text.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Passes over what must come next.
    fn skip(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// Passes over what may come next.
    fn skip_if(&mut self, expected: &str) -> bool {
        self.skip(expected).is_some()
    }

    /// A string without anything special in it, behind its first quote.
    fn string(&mut self) -> Option<&'a str> {
        let (inside, rest) = self.0.split_once('"')?;
        self.0 = rest;
        json::is_plain(inside.as_bytes()).then_some(inside)
    }

    /// Digits, without zeros in front.
    fn digits(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        let is_number = (1..=EXACT_DIGITS).contains(&end) && (end == 1 || !digits.starts_with('0'));
        is_number.then_some(digits)
    }

    /// A number that is not negative and has no exponent.
    fn number(&mut self) -> Option<f64> {
        let begin = self.0;
        self.digits()?;
        if self.skip_if(".") {
            let digits = self.0.bytes().position(|byte| !byte.is_ascii_digit()).filter(|digits| *digits > 0)?;
            self.0 = &self.0[digits..];
        }
        begin.get(..begin.len() - self.0.len())?.parse().ok()
    }

    /// A name; `known` is where the last one of its kind is.
    fn name(&mut self, known: &mut Option<PeerName>) -> Option<PeerName> {
        let name = self.string().filter(|name| *name != "0")?;
        if known.as_ref().is_none_or(|known| known != name) {
            *known = Some(PeerName::foreign(name).ok()?);
        }
        known.clone()
    }
}

impl Message {
    /// Reads a message that is written as [`to_json`](Message::to_json) writes it. `None` for every other text, sound or
    /// not.
    pub(super) fn from_canonical(text: &[u8], limits: &Limits) -> Option<Self> {
        if text.len() > limits.decoded_bytes || limits.json_depth == 0 || limits.json_elements < MOST_KEYS {
            return None;
        }
        let rest = Rest(std::str::from_utf8(text).ok()?);
        let mut known = KNOWN.take();
        let [sender, recipient] = &mut known;
        let message = rest.message(sender, recipient, limits);
        KNOWN.set(known);
        message
    }
}

impl Rest<'_> {
    fn message(
        mut self,
        sender: &mut Option<PeerName>,
        recipient: &mut Option<PeerName>,
        limits: &Limits,
    ) -> Option<Message> {
        let rest = &mut self;
        rest.skip("{\"id\":\"")?;
        let id = MessageId::foreign(rest.string()?)?;
        rest.skip(",\"from\":\"")?;
        let from = rest.name(sender)?;
        let to = if rest.skip_if(",\"to\":\"") { Some(rest.name(recipient)?) } else { None };
        rest.skip(",\"stamp\":")?;
        let stamp = Stamp::from_seconds(rest.number()?)?;
        rest.skip(",\"stamp_ord\":")?;
        let stamp_ord = rest.digits()?.parse().ok()?;
        let broadcast = match () {
            () if rest.skip_if(",\"broadcast\":1") => Some(true),
            () if rest.skip_if(",\"broadcast\":0") => Some(false),
            () => None,
        };
        if to.is_none() && broadcast != Some(true) {
            return None;
        }
        rest.skip(",\"content\":")?;
        let content = rest.0.strip_suffix('}')?;
        if !json::scan_part(content.as_bytes(), 1, MOST_KEYS, limits) {
            return None;
        }
        let content = Content::checked(content.into())?;
        Some(Message { id, stamp, stamp_ord, from, to, broadcast, content, extra: Map::new(), origin: Origin::Unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the long way makes of a text.
    fn long_way(text: &str) -> crate::error::Result<Message> {
        // White space is nothing to the long way, and everything to the short one.
        Message::from_json(format!(" {text}").as_bytes(), &Limits::DEFAULT)
    }

    #[test]
    fn what_is_written_here_goes_the_short_way() {
        let contents = ["1", "\"x\"", "{\"a\":[1,2.5,{\"b\":null}]}", "\"a\\u00e9\\n\"", "true", "[]"];
        for content in contents {
            let content = Content::from_json(content).unwrap();
            let build = Message::builder("a").to("b").raw_content(content.clone());
            let all = Message::builder("a").broadcast(true).raw_content(content).stamp(12.0);
            for message in [build.build().unwrap(), all.build().unwrap()] {
                let text = message.to_json(&Limits::DEFAULT).unwrap();
                let read = Message::from_canonical(text.as_bytes(), &Limits::DEFAULT).unwrap();
                assert_eq!(read, message);
                assert_eq!(read, long_way(&text).unwrap());
                assert_eq!(read.to_json(&Limits::DEFAULT).unwrap(), text);
            }
        }
    }

    #[test]
    fn what_is_written_otherwise_goes_the_long_way() {
        let sound = r#"{"id":"A","from":"a","to":"b","stamp":1.5,"stamp_ord":0,"content":[1]}"#;
        assert!(Message::from_canonical(sound.as_bytes(), &Limits::DEFAULT).is_some());
        let others = [
            ("\"A\"", "\"\\u0041\""),
            ("\"A\"", "\"\u{e9}\""),
            ("\"A\"", "\"\""),
            ("\"A\"", "7"),
            ("\"a\"", "\"0\""),
            ("\"a\"", "\"_a\""),
            ("1.5", "-1.5"),
            ("1.5", "1e3"),
            ("1.5", "01"),
            ("1.5", "1."),
            ("1.5", "null"),
            ("1.5", "1234567890123456"),
            (":0,", ":1.5,"),
            (":0,", ":0,\"broadcast\":true,"),
            ("[1]", "null"),
            ("[1]", "[1"),
            ("[1]", "[1]]"),
            ("[1]", "[-0]"),
            ("[1]", "1,\"x\":2"),
            ("[1]", "1,\"id\":2"),
            ("[1]", "{\"a\":1,\"a\":2}"),
            ("[1]", "\"\u{e9}\""),
            ("[1]", "18446744073709551616"),
            (",\"to\":\"b\"", ""),
        ];
        for (part, other) in others {
            let text = sound.replacen(part, other, 1);
            assert_ne!(text, sound);
            assert!(Message::from_canonical(text.as_bytes(), &Limits::DEFAULT).is_none(), "{text}");
        }
        for end in 0..sound.len() {
            assert!(Message::from_canonical(&sound.as_bytes()[..end], &Limits::DEFAULT).is_none());
        }
    }

    #[test]
    fn limits_hold_on_the_short_way() {
        let message = Message::builder("a").to("b").content(&[[1, 2], [3, 4]]).unwrap().build().unwrap();
        let text = message.to_json(&Limits::DEFAULT).unwrap();
        let tight = [
            Limits { decoded_bytes: text.len() - 1, ..Limits::DEFAULT },
            Limits { json_depth: 2, ..Limits::DEFAULT },
            Limits { json_elements: 11, ..Limits::DEFAULT },
        ];
        for limits in tight {
            assert!(Message::from_json(text.as_bytes(), &limits).is_err(), "{limits:?}");
        }
        let enough = Limits { json_depth: 3, json_elements: 12, decoded_bytes: text.len(), ..Limits::DEFAULT };
        assert_eq!(Message::from_json(text.as_bytes(), &enough).unwrap(), message);
    }
}
