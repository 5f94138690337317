// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a process is called where processes are listed.

use std::ffi::CString;

/// The longest name that the kernel keeps, in bytes.
const ROOM: usize = 15;
/// Fewer bytes than these of the old name say nothing.
const LEAST: usize = 3;

/// Calls this process after what it is to do, beside what it is called: what `ps -o comm`, `top` and `pgrep` show. The
/// arguments stay as they are, and so does the name where another thread than the first asks: the process has that of its
/// first. Where the system has no such names nothing happens.
pub(crate) fn append(name: &str) {
    #[cfg(target_os = "linux")]
    if super::children::is_first_thread() {
        let was = rustix::thread::name().unwrap_or_default();
        // A name without a NUL always is one.
        if let Ok(title) = CString::new(titled(&was.to_string_lossy(), name)) {
            // A name that could not be set hurts nobody.
            let _ = rustix::thread::set_name(&title);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// The name whole, as far as there is room, behind as much of the old one as fits.
fn titled(was: &str, name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let name = cut(&name, ROOM);
    match (ROOM - name.len()).checked_sub(1) {
        Some(left) if left >= LEAST && !was.is_empty() => format!("{} {name}", cut(was, left)),
        _ => name.to_owned(),
    }
}

/// The beginning of a text that has at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_fits_and_the_old_one_is_cut() {
        for (was, name, title) in [
            ("calc", "adder", "calc adder"),
            ("main-c2fc852555", "adder", "main-c2fc adder"),
            ("calc", "elevenbytes", "cal elevenbytes"),
            ("calc", "twelve-bytes", "twelve-bytes"),
            ("calc", "a name that is longer", "a name that is "),
            ("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "ab\0cd\n", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9} abcd"),
            ("", "adder", "adder"),
        ] {
            assert_eq!(titled(was, name), title, "{was:?} {name:?}");
            assert!(titled(was, name).len() <= ROOM);
        }
    }
}
