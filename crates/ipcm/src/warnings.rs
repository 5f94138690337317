// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the library warns of goes to standard error, a line each.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::escape::escaped;
use crate::output::Output;

struct ToStderr(Output);

/// Shows the library's warnings from here on.
pub(crate) fn show(out: Output) {
    // Only a second call could fail, and then the first one's output serves.
    if log::set_boxed_logger(Box::new(ToStderr(out))).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

impl Log for ToStderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn && metadata.target().starts_with("ipc_manager")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let document = serde_json::json!({"warning": text});
            self.0.note_either(&document, || format!("ipcm: {}", escaped(&text)));
        }
    }

    fn flush(&self) {}
}
