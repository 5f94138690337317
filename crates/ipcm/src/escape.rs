// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text of unknown origin on a terminal.

/// Text of unknown origin, made safe for a terminal and for a line of its own.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// JSON text as it goes to a terminal: the one control character that JSON does not escape, escaped.
pub(crate) fn escaped_json(json: &str) -> String {
    json.replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped("a\u{1b}[2Jb\n\u{7f}"), "a\\u{1b}[2Jb\\n\\u{7f}");
        assert_eq!(escaped_json("\"\u{7f}\""), "\"\\u007f\"");
    }
}
