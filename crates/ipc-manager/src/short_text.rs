// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts that are nearly always short: those need no memory of their own.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;

/// A text of any length; up to `N` bytes are kept in place.
#[derive(Clone)]
pub(crate) enum ShortText<const N: usize> {
    Short(ArrayString<N>),
    Long(Box<str>),
}

impl<const N: usize> ShortText<N> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(text) => text,
            Self::Long(text) => text,
        }
    }
}

impl<const N: usize> PartialEq for ShortText<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for ShortText<N> {}

impl<const N: usize> PartialOrd for ShortText<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for ShortText<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl<const N: usize> Hash for ShortText<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<const N: usize> From<&str> for ShortText<N> {
    fn from(text: &str) -> Self {
        ArrayString::from(text).map_or_else(|_| Self::Long(text.into()), Self::Short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_are_kept() {
        for text in ["", "abc", "abcd", "abcde"] {
            let kept = ShortText::<4>::from(text);
            assert_eq!(kept.as_str(), text);
            assert_eq!(matches!(kept, ShortText::Short(_)), text.len() <= 4);
        }
    }
}
