// SPDX-License-Identifier: MIT OR Apache-2.0
//! The waiting rule, apart from what rings and from what is looked at, so that a model of all orders of threads can run the
//! very code that protocols and clients do. `rings/model.rs` is that model.
//!
//! Who stores: store, then ring. Who waits: forget the rings until now, look, and sleep only if nothing was there. What is
//! stored after the look rings after the rings were forgotten. What is left over rings on.

#[cfg(test)]
mod model;

/// What tells its owner that something was stored. It rings from a ring until it is forgotten.
pub(crate) trait Rings {
    /// Forgets the rings until now.
    fn forget_rings(&mut self);

    /// Rings on: something is left that its owner knows of, or it cannot be known.
    fn ring_on(&mut self);
}

/// Looks at a store, so that no ring is lost. `is_left` says whether something is there still, after what the look took.
///
/// A look that failed has found out nothing, so it rings on.
pub(crate) fn look<R: Rings, T, E>(
    at: &mut R,
    look: impl FnOnce(&mut R) -> Result<T, E>,
    is_left: impl FnOnce(&T) -> bool,
) -> Result<T, E> {
    at.forget_rings();
    let looked = look(at);
    if looked.as_ref().map_or(true, is_left) {
        at.ring_on();
    }
    looked
}

/// Looks, and sleeps while there is nothing, until something is found or the sleep says that the wait is over.
pub(crate) fn wait<W, T, E>(
    waiting: &mut W,
    mut look: impl FnMut(&mut W) -> Result<Option<T>, E>,
    mut sleep: impl FnMut(&mut W) -> Result<Option<T>, E>,
) -> Result<T, E> {
    loop {
        if let Some(found) = look(waiting)? {
            return Ok(found);
        }
        if let Some(end) = sleep(waiting)? {
            return Ok(end);
        }
    }
}

/// Stores, and rings if that was done.
pub(crate) fn store<T, E>(store: impl FnOnce() -> Result<T, E>, ring: impl FnOnce(&T)) -> Result<T, E> {
    let stored = store()?;
    ring(&stored);
    Ok(stored)
}

/// A ring with a mark beside it: the mark says that there is something to look for, the ring only wakes. Others hand it
/// out, so a ring may come when the mark was seen already.
pub(crate) trait Marked {
    /// Sets the mark.
    fn mark(&self);

    /// Takes the mark away; returns whether it was set.
    fn unmark(&self) -> bool;

    /// Wakes the owner until [`quiet`](Marked::quiet).
    fn ring(&self);

    /// Wakes nobody any more.
    fn quiet(&self);
}

/// Tells the owner of a marked ring that something changed.
pub(crate) fn change(whom: &impl Marked) {
    whom.mark();
    whom.ring();
}

/// Whether something changed since last asked, once the news that came to all were handed out.
pub(crate) fn take_change(own: &impl Marked, hand_out: impl FnOnce()) -> bool {
    hand_out();
    // In this order, and in any case: a ring in between costs one wake-up too many, never one too few.
    own.quiet();
    own.unmark()
}
