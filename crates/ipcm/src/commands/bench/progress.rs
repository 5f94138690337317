// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far the work is, for a person who waits: one line on a terminal, and nothing anywhere else.

use std::io::{self, IsTerminal, Write};

/// How many characters the bar has.
const WIDTH: usize = 24;

/// A bar that is drawn over itself, and wiped away in the end.
pub(super) struct Progress {
    done: usize,
    total: usize,
    shown: bool,
}

impl Progress {
    /// Starts a bar of so many steps.
    pub(super) fn new(total: usize, wanted: bool) -> Self {
        Self { done: 0, total: total.max(1), shown: wanted && io::stderr().is_terminal() }
    }

    /// Shows what is being done now.
    pub(super) fn show(&self, what: &str) {
        if self.shown {
            // Nothing can be done about a standard error that is closed.
            let _ = write!(io::stderr(), "\r\x1b[K{}", self.line(what));
        }
    }

    /// So many steps more are done.
    pub(super) fn step(&mut self, steps: usize) {
        self.done = (self.done + steps).min(self.total);
    }

    fn line(&self, what: &str) -> String {
        let full = WIDTH * self.done / self.total;
        format!("[{:-<WIDTH$}] {:>3}%  {what:.50}", "#".repeat(full), 100 * self.done / self.total)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        let mut progress = Progress::new(4, false);
        assert_eq!(progress.line("x"), "[------------------------]   0%  x");
        progress.step(1);
        assert_eq!(progress.line("x"), "[######------------------]  25%  x");
        progress.step(9);
        assert_eq!(progress.line(&"y".repeat(99)), format!("[########################] 100%  {}", "y".repeat(50)));
    }
}
