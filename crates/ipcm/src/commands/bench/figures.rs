// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is made of many measurements: medians and percentiles.

/// The middle of several figures; of none, nothing.
pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(high), Some(low)) if sorted.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (Some(high), _) => *high,
        _ => 0.0,
    }
}

/// The smallest of sorted figures that so many per mille of them do not pass.
fn per_mille(sorted: &[u64], share: usize) -> u64 {
    let rank = (sorted.len() * share).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// How long things took, in nanoseconds, sorted.
pub(super) struct Times(Vec<u64>);

impl Times {
    pub(super) fn of(times: impl Iterator<Item = u64>) -> Self {
        let mut sorted: Vec<u64> = times.collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many per mille of them do not pass, in microseconds.
    pub(super) fn microseconds(&self, share: usize) -> f64 {
        // Nothing here takes the centuries at which digits get lost.
        #[allow(clippy::cast_precision_loss)]
        let nanoseconds = per_mille(&self.0, share) as f64;
        rounded(nanoseconds / 1e3, 2)
    }
}

/// Things a second.
pub(super) fn rate(count: u64, nanoseconds: u64) -> f64 {
    // Counts and times of a benchmark are far below 53 bits.
    #[allow(clippy::cast_precision_loss)]
    if nanoseconds == 0 { 0.0 } else { count as f64 * 1e9 / nanoseconds as f64 }
}

/// A number with so many digits behind the point.
pub(super) fn rounded(figure: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (figure * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn shares() {
        let figures: Vec<u64> = (1..=1000).collect();
        assert_eq!([500, 900, 990, 999].map(|share| per_mille(&figures, share)), [500, 900, 990, 999]);
        assert_eq!([500, 999].map(|share| per_mille(&[7, 8], share)), [7, 8]);
        assert_eq!(per_mille(&[], 500), 0);
    }

    #[test]
    fn rates() {
        assert_eq!(rate(500, 500_000_000), 1000.0);
        assert_eq!(rate(1, 0), 0.0);
        assert_eq!(rounded(1.2345, 2), 1.23);
    }
}
