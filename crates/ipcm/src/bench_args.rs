// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `ipcm bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::args::duration;

/// `ipcm bench`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm bench\n  ipcm bench --all --svg bench.svg\n  \
                         ipcm --json bench -p messagefiles --size 100,64k --senders 1,8")]
pub(crate) struct BenchArgs {
    /// The protocols to measure, one after the other [default: the first that works here]
    #[arg(long, short, value_name = "PROTO[,PROTO...]", value_delimiter = ',', conflicts_with = "all")]
    pub(crate) protocol: Vec<String>,
    /// Measure every protocol that works here
    #[arg(long)]
    pub(crate) all: bool,
    /// The serializer: JSON or JSON::Zstd
    #[arg(long, short, value_name = "SER", default_value = "JSON")]
    pub(crate) serializer: String,
    /// Bytes of content a message, with k or M for multiples of 1024; several are measured one after the other
    #[arg(long, value_name = "BYTES[,BYTES...]", value_delimiter = ',', value_parser = size)]
    #[arg(default_value = "100,4k,64k")]
    pub(crate) size: Vec<usize>,
    /// How many processes send to one; several numbers are measured one after the other
    #[arg(long, value_name = "COUNT[,COUNT...]", value_delimiter = ',', default_value = "1,4")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) senders: Vec<u8>,
    /// Messages a round [default: as many as go in about a tenth of a second]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,
    /// Messages that `send_all` is given at once
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) batch: u16,
    /// Rounds of each kind; the median counts
    #[arg(long, value_name = "COUNT", default_value = "7", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// How long any one round may take
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub(crate) timeout: Duration,
    /// Draw the figures, too
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// A program that moves the same bytes over the bare transport, measured in turns with the bus
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub(crate) floor: Option<PathBuf>,
}

/// Largest content that is measured, in bytes.
const LARGEST: usize = 32 << 20;

/// Parses a size: bytes, or multiples of 1024 of them. The smallest JSON string has two.
fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).map(str::to_ascii_lowercase).as_deref() {
        Some("" | "b") => 1,
        Some("k" | "kb" | "kib") => 1 << 10,
        Some("m" | "mb" | "mib") => 1 << 20,
        _ => return Err("the unit must be B, k or M".into()),
    };
    let number: usize = digits.parse().map_err(|_| "a size is a whole number, with k or M behind it".to_owned())?;
    let fits = number.checked_mul(unit).filter(|bytes| (2..=LARGEST).contains(bytes));
    fits.ok_or_else(|| "a size is between 2 B and 32 M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("2", 2), ("100", 100), ("100b", 100), ("4k", 4096), ("64KiB", 65536), ("1M", 1 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "k", "1", "-1", "1.5k", "1g", "33M", "99999999999999999999", "18446744073709551615k"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
