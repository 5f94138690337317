// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of messages sent and read, per peer.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// How many messages a client sent to and read from each peer. Names without traffic are not in it.
///
/// In the store: `{"read":{"<peer>":n},"sent":{"<peer>":n}}` in the serializer of the bus.
///
/// ```
/// let stats = ipc_manager::Stats::default();
/// assert_eq!(serde_json::to_string(&stats)?, r#"{"read":{},"sent":{}}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Messages taken from the store, by sender.
    pub read: BTreeMap<String, i64>,
    /// Messages stored, by recipient.
    pub sent: BTreeMap<String, i64>,
}

impl Stats {
    pub(crate) fn count_sent(&mut self, to: &str) {
        add(&mut self.sent, to, 1);
    }

    pub(crate) fn count_read(&mut self, from: &str, count: i64) {
        add(&mut self.read, from, count);
    }

    /// Adds the counters of an earlier life of the same name.
    pub(crate) fn add(&mut self, earlier: &Self) {
        for (name, count) in &earlier.read {
            add(&mut self.read, name, *count);
        }
        for (name, count) in &earlier.sent {
            add(&mut self.sent, name, *count);
        }
    }

    /// Reads counters as any peer may have written them: numbers may be strings, what is missing is empty.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if the value is no object of objects of numbers.
    pub fn from_value(value: &Value) -> Result<Self> {
        let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("statistics are damaged: {what}"));
        let table = value.as_object().ok_or_else(|| corrupt("not an object"))?;
        let side = |key: &str| -> Result<BTreeMap<String, i64>> {
            match table.get(key) {
                None | Some(Value::Null) => Ok(BTreeMap::new()),
                Some(Value::Object(counts)) => counts
                    .iter()
                    .map(|(name, count)| {
                        let count = count.as_i64().or_else(|| count.as_str()?.parse().ok());
                        Ok((name.clone(), count.ok_or_else(|| corrupt("a count is no whole number"))?))
                    })
                    .collect(),
                Some(_) => Err(corrupt("counters are not an object")),
            }
        };
        Ok(Self { read: side("read")?, sent: side("sent")? })
    }
}

fn add(side: &mut BTreeMap<String, i64>, name: &str, count: i64) {
    match side.get_mut(name) {
        Some(total) => *total = total.saturating_add(count),
        None => {
            side.insert(name.to_owned(), count);
        }
    }
}
