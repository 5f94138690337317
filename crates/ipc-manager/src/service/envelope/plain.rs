// SPDX-License-Identifier: MIT OR Apache-2.0
//! Envelopes of exactly the shape that is written here, read in one pass; all others are decoded.

use crate::json;

use super::{Envelope, Payload, RequestId, RequestParts, ResponseParts};

impl Envelope {
    /// A request or response of exactly the shape that is written here, with nothing beside it: nearly all are. The text is
    /// sound JSON.
    pub(super) fn plain(text: &str) -> Option<Self> {
        let (is_request, text) = match text.strip_prefix("{\"ipcm_request_id\":\"") {
            Some(text) => (true, text),
            None => (false, text.strip_prefix("{\"ipcm_response_id\":\"")?),
        };
        let (id, text) = text.split_once('"')?;
        if matches!(id, "" | "0") || id.contains('\\') {
            return None;
        }
        let key = if is_request { ",\"request\":" } else { ",\"response\":" };
        let value = text.strip_prefix(key)?.strip_suffix('}')?;
        if !is_one_value(value) {
            return None;
        }
        let (id, payload) = (RequestId::plain(id), Payload::of(value));
        Some(if is_request {
            Self::Request(RequestParts { id, payload, takes_many: false, ask: None })
        } else {
            Self::Response(ResponseParts { id, payload, error: None, more: false, answer: None })
        })
    }
}

/// Whether what stands behind the last key of a sound object that may have more of them is one value, and nothing else.
fn is_one_value(text: &str) -> bool {
    // A text without anything to escape.
    if let [b'"', inside @ .., b'"'] = text.as_bytes()
        && json::is_plain(inside)
    {
        return true;
    }
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            // Another key follows, or the text is not as it is written here.
            b',' if depth == 0 => return false,
            b' ' | b'\t' | b'\n' | b'\r' => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn the_short_way_comes_to_the_same_as_the_long_one() {
        for value in ["1", "null", "\"a,\\\"b}\"", "{\"a\":[1,{\"b\":\"]\"}]}", "[]", "-1.5", "\"\\\\\""] {
            for (id, key) in [("ipcm_request_id", "request"), ("ipcm_response_id", "response")] {
                let short = format!("{{\"{id}\":\"x-1\",\"{key}\":{value}}}");
                let plain = Envelope::plain(&short).unwrap_or_else(|| panic!("{short} is plain"));
                let long = format!("{{\"{id}\":\"x-1\",\"{key}\":{value},\"z\":1}}");
                assert!(Envelope::plain(&long).is_none(), "{long}");
                let content: serde_json::Value = serde_json::from_str(&long).unwrap();
                let message = Message::builder("a").to("b").content(&content).unwrap().build().unwrap();
                let decoded = Envelope::of(&message);
                assert_eq!(format!("{plain:?}"), format!("{decoded:?}"));
            }
        }
        for more in [
            r#"{"ipcm_request_id":"x","request":1,"ipcm_stream":true}"#,
            r#"{"ipcm_request_id":"x","request":[1],"ipcm_ask":"ping"}"#,
            r#"{"ipcm_response_id":"x","response":null,"ipcm_error":"no"}"#,
            r#"{"ipcm_response_id":"x","request":1}"#,
            r#"{"ipcm_request_id":"\u0030","request":1}"#,
            r#"{"ipcm_request_id":"0","request":1}"#,
            r#"{"ipcm_request_id":"","request":1}"#,
            r#"{"ipcm_request_id":17,"request":1}"#,
            r#"{"ipcm_request_id":"x","request": 1}"#,
        ] {
            assert!(Envelope::plain(more).is_none(), "{more}");
        }
    }
}
