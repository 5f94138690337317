// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ending guarded buses when the process is interrupted or terminated, for programs that asked for it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::charge::{self, Charge, Stage};
use crate::error::{Error, Result};
use crate::system::process;

static GUARDED: Mutex<Vec<Weak<Mutex<Charge>>>> = Mutex::new(Vec::new());
static IS_LISTENING: Mutex<bool> = Mutex::new(false);

/// Has this bus ended before the process ends by INT or TERM.
pub(super) fn guard(charge: &Arc<Mutex<Charge>>) -> Result<()> {
    listen()?;
    let mut guarded = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
    guarded.retain(|charge| charge.strong_count() > 0);
    guarded.push(Arc::downgrade(charge));
    Ok(())
}

/// Starts the one thread that waits for the signals. It stays: without it, they would do nothing from then on.
fn listen() -> Result<()> {
    let mut is_listening = IS_LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_listening {
        return Ok(());
    }
    let failed = |error: std::io::Error| Error::system(error, "signals cannot be listened for");
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    // A forked child inherits the handlers, but not the thread.
    [SIGINT, SIGTERM].into_iter().try_for_each(process::end_forked_child_by).map_err(failed)?;
    std::thread::Builder::new()
        .name("ipc-manager-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                end_all();
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })
        .map_err(failed)?;
    *is_listening = true;
    Ok(())
}

fn end_all() {
    let guarded = std::mem::take(&mut *GUARDED.lock().unwrap_or_else(PoisonError::into_inner));
    for charge in guarded.iter().filter_map(Weak::upgrade) {
        let is_due = {
            let charge = charge::lock(&charge);
            charge.guard && charge.stage != Stage::Over
        };
        // One that another thread is ending already loses its store at once; its peers have been asked.
        if is_due && let Err(error) = charge::shutdown(&charge) {
            log::warn!("the bus could not be ended in good order: {error}");
        }
    }
}
