// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameters of a service that are plain values, so that another program can be handed them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// See the builder's methods of the same names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) cycle: Duration,
    pub(super) interval: Duration,
    pub(super) intercept_errors: bool,
    pub(super) expose_error_details: bool,
    pub(super) catch_panics: bool,
    pub(super) watch_pids: Vec<u32>,
    pub(super) posix_exit: bool,
    /// How long the starter waits for readiness.
    pub(super) timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) worker_grace: Duration,
    pub(super) outlives_starter: bool,
    pub(super) version: Option<String>,
    pub(super) about: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            cycle: Duration::from_millis(200),
            interval: Duration::from_millis(200),
            intercept_errors: false,
            expose_error_details: false,
            catch_panics: true,
            watch_pids: Vec::new(),
            posix_exit: false,
            timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
            worker_grace: Duration::from_secs(15),
            outlives_starter: false,
            version: None,
            about: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prt_03_defaults_and_what_passes_to_another_program() {
        let settings = Settings::default();
        assert_eq!((settings.cycle, settings.interval), (Duration::from_millis(200), Duration::from_millis(200)));
        assert!(!settings.posix_exit && !settings.intercept_errors && !settings.expose_error_details);
        assert_eq!((settings.timeout, settings.drain_timeout), (Duration::from_secs(10), Duration::from_secs(5)));
        assert_eq!(settings.worker_grace, Duration::from_secs(15));
        let settings = Settings { name: "s".into(), watch_pids: vec![7], version: Some("1".into()), ..settings };
        let text = serde_json::to_string(&settings).unwrap();
        let back: Settings = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
