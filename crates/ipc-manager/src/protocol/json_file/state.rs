// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a bus: its frame is read, what is of others is passed on as it is. See `docs/formats.md`, "JSONFile".

use std::ops::Range;

use serde_json::{Map, Value};

use super::dead::{self, DeadLetters};
use super::scan;
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::protocol::beside::{Holder, Standing, seconds, time};
use crate::stats::Stats;

/// What a fresh state is.
pub(super) const EMPTY: &str = r#"{"clients":{},"messages":{},"stats":{}}"#;

/// Our keys among the reference implementation's.
const HOLDER: &str = "ipcm_holder";
const SINCE: &str = "ipcm_since";
const LEAVING: &str = "ipcm_leaving";

/// One mailbox: what is put in front, what is there, what is appended.
#[derive(Debug, Default, Clone)]
struct Mailbox {
    front: Vec<String>,
    /// Where in the text the array's inside is.
    kept: Range<usize>,
    back: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    text: String,
    clients: Vec<(String, Map<String, Value>)>,
    leaving: Map<String, Value>,
    mailboxes: Vec<(String, Mailbox)>,
    stats: Vec<(String, String)>,
    /// Messages that were handed out too often, by mailbox.
    pub(super) dead: DeadLetters,
    /// What we know nothing of.
    others: Vec<(String, Range<usize>)>,
    /// A client that was written in a way that we do not understand is passed on as it is.
    strange: Vec<(String, Range<usize>)>,
}

impl State {
    /// Whether a text is a state.
    pub(super) fn is_one(text: &str) -> bool {
        Self::parse(text.to_owned()).is_ok()
    }

    /// Reads a state.
    pub(super) fn parse(text: String) -> Result<Self> {
        let start = scan::skip_blank(&text, 0);
        let mut state = Self {
            text,
            clients: vec![],
            leaving: Map::new(),
            mailboxes: vec![],
            stats: vec![],
            dead: DeadLetters::default(),
            others: vec![],
            strange: vec![],
        };
        let text = std::mem::take(&mut state.text);
        let end = scan::each_entry(&text, start, |key, at| match key.as_str() {
            "clients" => state.read_clients(&text, at),
            "messages" => state.read_mailboxes(&text, at),
            "stats" => {
                let (found, end) = scan::entries(&text, at)?;
                state.stats = found.into_iter().map(|(name, range)| (name, text[range].to_owned())).collect();
                Ok(end)
            }
            dead::KEY => state.dead.read(&text, at),
            _ => {
                let end = scan::skip_value(&text, at)?;
                match key.as_str() {
                    LEAVING => state.leaving = object(&text[at..end]).unwrap_or_default(),
                    _ => state.others.push((key, at..end)),
                }
                Ok(end)
            }
        })?;
        if scan::skip_blank(&text, end) != text.len() {
            let detail = "the state is damaged: something follows its end";
            return Err(Error::new(ErrorKind::Corrupt, detail).at_offset(end));
        }
        state.text = text;
        Ok(state)
    }

    fn read_clients(&mut self, text: &str, at: usize) -> Result<usize> {
        let (found, end) = scan::entries(text, at)?;
        for (name, range) in found {
            match object(&text[range.clone()]) {
                Some(client) => self.clients.push((name, client)),
                None => self.strange.push((name, range)),
            }
        }
        Ok(end)
    }

    fn read_mailboxes(&mut self, text: &str, at: usize) -> Result<usize> {
        scan::each_entry(text, at, |name, at| {
            if text.as_bytes().get(at) != Some(&b'[') {
                let detail = "the state is damaged: a mailbox is no array";
                return Err(Error::new(ErrorKind::Corrupt, detail).at_offset(at).about_peer(&name));
            }
            // A message that is damaged costs itself, but where messages cannot be told apart the state is.
            let end = scan::skip_list(text, at)?;
            let kept = scan::skip_blank(text, at + 1)..end - 1;
            self.mailboxes.push((name, Mailbox { kept, ..Mailbox::default() }));
            Ok(end)
        })
    }

    /// The text as it was read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The state as text, with what was changed.
    pub(super) fn render(&self) -> Result<String> {
        let mut out = String::with_capacity(self.text.len() + 1024);
        out.push_str("{\"clients\":{");
        let mut separator = "";
        for (name, client) in &self.clients {
            out.push_str(separator);
            json::to_wire(name.as_str(), &Limits::DEFAULT, &mut out)?;
            out.push(':');
            json::to_wire(client, &Limits::DEFAULT, &mut out)?;
            separator = ",";
        }
        for (name, range) in &self.strange {
            self.copy(separator, name, range, &mut out)?;
            separator = ",";
        }
        out.push_str("},\"stats\":{");
        separator = "";
        for (name, stats) in &self.stats {
            out.push_str(separator);
            json::to_wire(name.as_str(), &Limits::DEFAULT, &mut out)?;
            out.push(':');
            out.push_str(stats);
            separator = ",";
        }
        out.push('}');
        for (key, range) in &self.others {
            self.copy(",", key, range, &mut out)?;
        }
        if !self.leaving.is_empty() {
            out.push_str(&format!(",\"{LEAVING}\":"));
            json::to_wire(&self.leaving, &Limits::DEFAULT, &mut out)?;
        }
        self.dead.render(&mut out)?;
        out.push_str(",\"messages\":{");
        separator = "";
        for (name, mailbox) in &self.mailboxes {
            out.push_str(separator);
            json::to_wire(name.as_str(), &Limits::DEFAULT, &mut out)?;
            out.push_str(":[");
            let kept = self.text[mailbox.kept.clone()].trim_end();
            let parts =
                mailbox.front.iter().map(String::as_str).chain([kept]).chain(mailbox.back.iter().map(String::as_str));
            for (number, part) in parts.filter(|part| !part.is_empty()).enumerate() {
                if number > 0 {
                    out.push(',');
                }
                out.push_str(part);
            }
            out.push(']');
            separator = ",";
        }
        out.push_str("}}");
        Ok(out)
    }

    fn copy(&self, separator: &str, key: &str, range: &Range<usize>, out: &mut String) -> Result<()> {
        out.push_str(separator);
        json::to_wire(key, &Limits::DEFAULT, out)?;
        out.push(':');
        out.push_str(&self.text[range.clone()]);
        Ok(())
    }

    /// Every name that is registered, or on its way out.
    pub(super) fn names(&self) -> Vec<String> {
        let clients = self.clients.iter().map(|(name, _)| name.clone());
        let mut names: Vec<String> = clients.chain(self.leaving.keys().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What the state says of a name.
    pub(super) fn standing(&self, name: &str) -> Standing {
        let number = |value: Option<&Value>| match value {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let holder = |value: &Value| serde_json::from_value::<Holder>(value.clone()).ok();
        match self.clients.iter().find(|(known, _)| known == name) {
            None => Standing { holder: self.leaving.get(name).and_then(holder), ..Standing::default() },
            Some((_, client)) => Standing {
                is_active: true,
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                pid: number(client.get("pid")).filter(|pid| pid.fract() == 0.0 && *pid > 0.0).map(|pid| pid as u32),
                since: number(client.get(SINCE)).and_then(time),
                until: number(client.get("suspend_expires_at")).and_then(time),
                holder: client.get(HOLDER).and_then(holder),
            },
        }
    }

    /// Registers a holder under a name, and makes its mailbox if there is none.
    pub(super) fn register(&mut self, name: &str, holder: &Holder, now: f64) {
        self.leaving.remove(name);
        let mailbox = self.mailbox(name);
        let _ = mailbox;
        let client = self.client(name);
        client.insert("pid".into(), holder.identity.pid.into());
        client.insert(HOLDER.into(), serde_json::to_value(holder).unwrap_or_default());
        client.insert(SINCE.into(), now.into());
        client.remove("suspend_expires_at");
    }

    /// Makes a name unreachable; its mailbox stays.
    pub(super) fn unlist(&mut self, name: &str, holder: &Holder) {
        self.clients.retain(|(known, _)| known != name);
        self.leaving.insert(name.to_owned(), serde_json::to_value(holder.leaving()).unwrap_or_default());
    }

    /// Keeps a name for later: without a pid nobody takes it for dead.
    pub(super) fn suspend(&mut self, name: &str, until: Option<std::time::SystemTime>) {
        let client = self.client(name);
        client.insert("pid".into(), Value::Null);
        client.remove(HOLDER);
        match until {
            Some(until) => client.insert("suspend_expires_at".into(), seconds(until).into()),
            None => client.remove("suspend_expires_at"),
        };
    }

    /// Removes a name with its mailbox; returns how many messages went with it.
    pub(super) fn remove(&mut self, name: &str) -> Result<usize> {
        let count = self.waiting(name)? + self.dead.replace(name, vec![]);
        self.clients.retain(|(known, _)| known != name);
        self.leaving.remove(name);
        self.mailboxes.retain(|(known, _)| known != name);
        Ok(count)
    }

    fn client(&mut self, name: &str) -> &mut Map<String, Value> {
        let at = self.clients.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.clients.push((name.to_owned(), Map::new()));
            self.clients.len() - 1
        });
        &mut self.clients[at].1
    }

    fn mailbox(&mut self, name: &str) -> &mut Mailbox {
        let at = self.mailboxes.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.mailboxes.push((name.to_owned(), Mailbox::default()));
            self.mailboxes.len() - 1
        });
        &mut self.mailboxes[at].1
    }

    /// The array's inside as it was read.
    fn kept(&self, name: &str) -> &str {
        let mailbox = self.mailboxes.iter().find(|(known, _)| known == name);
        mailbox.map_or("", |(_, mailbox)| self.text[mailbox.kept.clone()].trim_end())
    }

    /// Whether a message waits, as it was read.
    pub(super) fn has_message(&self, name: &str) -> bool {
        !self.kept(name).is_empty()
    }

    /// How many messages wait, with those that were appended since it was read.
    pub(super) fn unread(&self, name: &str) -> Result<usize> {
        let new = self.mailboxes.iter().find(|(known, _)| known == name);
        Ok(self.waiting(name)? + new.map_or(0, |(_, mailbox)| mailbox.front.len() + mailbox.back.len()))
    }

    /// How many messages wait, as it was read.
    pub(super) fn waiting(&self, name: &str) -> Result<usize> {
        Ok(self.ranges(name, usize::MAX)?.0.len())
    }

    fn ranges(&self, name: &str, most: usize) -> Result<(Vec<Range<usize>>, Option<usize>)> {
        let Some((_, mailbox)) = self.mailboxes.iter().find(|(known, _)| known == name) else {
            return Ok((vec![], None));
        };
        // The bracket in front of it; white space between the two is passed over.
        let Some(bracket) = self.text[..mailbox.kept.start].rfind('[').filter(|_| !mailbox.kept.is_empty()) else {
            return Ok((vec![], None));
        };
        scan::elements(&self.text, bracket, most)
    }

    /// Whether a text is somewhere in the waiting messages, as they were read.
    pub(super) fn holds(&self, name: &str, text: &str) -> bool {
        self.kept(name).contains(text)
    }

    /// The waiting messages, as they were read.
    pub(super) fn messages(&self, name: &str) -> Result<Vec<&str>> {
        Ok(self.ranges(name, usize::MAX)?.0.into_iter().map(|range| &self.text[range]).collect())
    }

    /// Appends a message.
    pub(super) fn append(&mut self, name: &str, message: String) {
        self.mailbox(name).back.push(message);
    }

    /// Puts messages in front.
    pub(super) fn put_in_front(&mut self, name: &str, messages: Vec<String>) {
        self.mailbox(name).front = messages;
    }

    /// Puts messages in the place of all that wait.
    pub(super) fn replace(&mut self, name: &str, messages: Vec<String>) {
        let mailbox = self.mailbox(name);
        mailbox.kept = mailbox.kept.end..mailbox.kept.end;
        mailbox.front = messages;
    }

    /// Takes messages from the front: so many at most, and so many bytes where that leaves at least one.
    pub(super) fn take(&mut self, name: &str, most: usize, bytes: usize) -> Result<Vec<String>> {
        let (ranges, next) = self.ranges(name, most)?;
        let (mut taken, mut size) = (Vec::new(), 0);
        let mut rest = next;
        for range in ranges {
            if !taken.is_empty() && size + range.len() > bytes {
                rest = Some(range.start);
                break;
            }
            size += range.len();
            taken.push(self.text[range].to_owned());
        }
        let mailbox = self.mailbox(name);
        mailbox.kept = rest.map_or(mailbox.kept.end..mailbox.kept.end, |rest| rest..mailbox.kept.end);
        Ok(taken)
    }

    /// The counters of a name; none where there are none or they are damaged.
    pub(super) fn stats(&self, name: &str) -> Option<Stats> {
        let (_, text) = self.stats.iter().find(|(known, _)| known == name)?;
        let text = json::normalise(text.as_bytes(), &Limits::DEFAULT).ok()?;
        Stats::from_value(&json::parse_value(&text).ok()?).ok()
    }

    /// The names that have counters.
    pub(super) fn counted(&self) -> Vec<String> {
        self.stats.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Stores the counters of a name, or removes them.
    pub(super) fn set_stats(&mut self, name: &str, stats: Option<&Stats>) -> Result<()> {
        self.stats.retain(|(known, _)| known != name);
        if let Some(stats) = stats {
            let mut text = String::new();
            json::to_wire(stats, &Limits::DEFAULT, &mut text)?;
            self.stats.push((name.to_owned(), text));
        }
        Ok(())
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    let text = json::normalise(text.as_bytes(), &Limits::DEFAULT).ok()?;
    match json::parse_value(&text).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_whose_messages_cannot_be_told_apart_is_damage() {
        let state = |mailbox: &str| EMPTY.replace(r#""messages":{}"#, &format!(r#""messages":{{"a":{mailbox}}}"#));
        for sound in ["[]", "[1,2]", r#"[{"no":"message"}]"#] {
            assert!(State::is_one(&state(sound)), "{sound}");
        }
        for damaged in ["[1 2]", "[1,]", "[,]", "{}", "1"] {
            assert!(!State::is_one(&state(damaged)), "{damaged}");
        }
    }
}
