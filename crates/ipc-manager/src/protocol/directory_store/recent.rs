// SPDX-License-Identifier: MIT OR Apache-2.0
//! The few recipients that were sent to last, and what is open for each: the last one is found first, without hashing.

use crate::name::PeerName;

/// At most so many values by name, the one that was used last at the front.
#[derive(Debug)]
pub(in crate::protocol) struct Recent<T> {
    most: usize,
    entries: Vec<(PeerName, T)>,
}

impl<T> Recent<T> {
    pub(in crate::protocol) fn at_most(most: usize) -> Self {
        Self { most, entries: Vec::new() }
    }

    /// Looks without counting as a use.
    pub(in crate::protocol) fn peek(&self, name: &PeerName) -> Option<&T> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of a name, which is the one that was used last from here on.
    pub(in crate::protocol) fn used(&mut self, name: &PeerName) -> Option<&mut T> {
        let at = self.entries.iter().position(|(known, _)| known == name)?;
        if at > 0 {
            self.entries[..=at].rotate_right(1);
        }
        self.entries.first_mut().map(|(_, value)| value)
    }

    /// Adds a value in front, in place of what the name had. Where there are too many then, the one that was not used
    /// for the longest time is dropped, among those that may be.
    pub(in crate::protocol) fn insert(&mut self, name: PeerName, value: T, may_go: impl Fn(&T) -> bool) -> &mut T {
        self.remove(&name);
        if self.entries.len() >= self.most
            && let Some(oldest) = self.entries.iter().rposition(|(_, value)| may_go(value))
        {
            self.entries.remove(oldest);
        }
        self.entries.insert(0, (name, value));
        &mut self.entries[0].1
    }

    pub(in crate::protocol) fn remove(&mut self, name: &PeerName) {
        self.entries.retain(|(known, _)| known != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first_if_it_may() {
        let name = |text: &str| PeerName::new(text).unwrap();
        let mut recent = Recent::at_most(3);
        for (number, text) in ["a", "b", "c"].into_iter().enumerate() {
            recent.insert(name(text), number, |_| true);
        }
        assert_eq!(recent.used(&name("a")), Some(&mut 0));
        // "b" is the oldest, but must stay.
        recent.insert(name("d"), 3, |value| *value != 1);
        assert_eq!((recent.peek(&name("b")), recent.peek(&name("c"))), (Some(&1), None));
        recent.insert(name("a"), 4, |_| true);
        assert_eq!((recent.peek(&name("a")), recent.peek(&name("d"))), (Some(&4), Some(&3)));
        recent.remove(&name("a"));
        assert_eq!(recent.used(&name("a")), None);
    }
}
