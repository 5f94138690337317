// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages in a state that were handed out too often, by mailbox, each as it was read.

use super::scan;
use crate::error::Result;
use crate::json;
use crate::limits::Limits;

/// The key that they are under.
pub(super) const KEY: &str = "ipcm_dead";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DeadLetters(Vec<(String, Vec<String>)>);

impl DeadLetters {
    /// Reads what begins at `at`; returns where it ends.
    pub(super) fn read(&mut self, text: &str, at: usize) -> Result<usize> {
        let (found, end) = scan::entries(text, at)?;
        for (name, range) in found {
            let (messages, _) = scan::elements(text, range.start, usize::MAX)?;
            self.0.push((name, messages.into_iter().map(|range| text[range].to_owned()).collect()));
        }
        Ok(end)
    }

    /// Writes a comma, the key and its value; nothing where there are none.
    pub(super) fn render(&self, out: &mut String) -> Result<()> {
        let mut separator = format!(",\"{KEY}\":{{");
        for (name, messages) in self.0.iter().filter(|(_, messages)| !messages.is_empty()) {
            out.push_str(&separator);
            json::to_wire(name.as_str(), &Limits::DEFAULT, out)?;
            out.push_str(&format!(":[{}]", messages.join(",")));
            separator = ",".to_owned();
        }
        if separator == "," {
            out.push('}');
        }
        Ok(())
    }

    /// Those of one mailbox.
    pub(super) fn of(&self, name: &str) -> &[String] {
        self.0.iter().find(|(known, _)| known == name).map_or(&[], |(_, messages)| messages)
    }

    /// Puts others in the place of those of one mailbox; returns how many there were.
    pub(super) fn replace(&mut self, name: &str, messages: Vec<String>) -> usize {
        let count = self.of(name).len();
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), messages));
        count
    }
}
