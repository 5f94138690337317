// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files beside an entry: who holds it, its real name, its counters, messages put back, a deadline.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Store, joined};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name::PeerName;
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::files::{self, Untrusted};

/// File systems take the time from a clock that is behind by up to a tick; inode(7) and CONFIG_HZ.
const TICK: Duration = Duration::from_millis(20);

/// The kinds of files beside an entry, by their suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum Sidecar {
    Pid,
    Name,
    Stats,
    Resume,
    Suspend,
}

impl Sidecar {
    pub(in crate::protocol) const ALL: [Self; 5] = [Self::Pid, Self::Name, Self::Stats, Self::Resume, Self::Suspend];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Pid => ".pid",
            Self::Name => ".name",
            Self::Stats => ".stats",
            Self::Resume => ".resume",
            Self::Suspend => ".suspend",
        }
    }

    /// Most bytes that are believed; what is larger counts as damaged.
    const fn limit(self) -> usize {
        match self {
            Self::Pid => 32,
            Self::Suspend => 64,
            Self::Name => 4 << 10,
            Self::Stats | Self::Resume => 64 << 20,
        }
    }

    /// The name of this file beside an entry.
    pub(in crate::protocol) fn of(self, disk: &OsStr) -> OsString {
        joined("", disk, self.suffix())
    }

    /// Takes the suffix off a name in the store, if it is such a file.
    pub(super) fn split(name: &OsStr) -> Option<(&OsStr, Self)> {
        use std::os::unix::ffi::OsStrExt;
        Self::ALL.into_iter().find_map(|sidecar| {
            let stem = name.as_bytes().strip_suffix(sidecar.suffix().as_bytes())?;
            Some((OsStr::from_bytes(stem), sidecar))
        })
    }
}

impl Store {
    fn read_sidecar(&self, disk: &OsStr, sidecar: Sidecar) -> Result<Option<Vec<u8>>> {
        let name = sidecar.of(disk);
        files::read_small(self.dir(), &name, sidecar.limit(), self.access)
            .map_err(|error| self.failed(&name, "a file beside the entry cannot be read", error))
    }

    pub(super) fn write_sidecar(&self, disk: &OsStr, sidecar: Sidecar, content: &[u8]) -> Result<()> {
        let name = sidecar.of(disk);
        files::replace(self.dir(), &name, content, self.access)
            .map_err(|error| self.failed(&name, "a file beside the entry cannot be written", error))
    }

    pub(in crate::protocol) fn remove_sidecar(&self, disk: &OsStr, sidecar: Sidecar) -> Result<bool> {
        let name = sidecar.of(disk);
        files::remove_file(self.dir(), &name)
            .map_err(|error| self.failed(&name, "a file beside the entry cannot be removed", error))
    }

    pub(super) fn has_sidecar(&self, disk: &OsStr, sidecar: Sidecar) -> Result<bool> {
        let name = sidecar.of(disk);
        let stat = files::stat_at(self.dir(), &name);
        Ok(stat.map_err(|error| self.failed(&name, "a file beside the entry cannot be read", error))?.is_some())
    }

    /// Whether messages were put back and not taken in again.
    pub(in crate::protocol) fn has_resume(&self, disk: &OsStr) -> Result<bool> {
        self.has_sidecar(disk, Sidecar::Resume)
    }

    /// The pid on record: the first line, if it is all digits and can be a pid.
    pub(super) fn read_pid(&self, disk: &OsStr) -> Result<Option<u32>> {
        let content = self.read_sidecar(disk, Sidecar::Pid)?;
        Ok(content
            .as_deref()
            .and_then(first_line)
            .filter(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|line| line.parse().ok().filter(|pid| (1..=i32::MAX.unsigned_abs()).contains(pid))))
    }

    /// When the pid was put on record.
    pub(super) fn pid_written(&self, disk: &OsStr) -> Option<SystemTime> {
        self.written(disk, Sidecar::Pid)
    }

    /// When a holder of the name last put anything on record.
    pub(super) fn last_written(&self, disk: &OsStr) -> Option<SystemTime> {
        let last = Sidecar::ALL.into_iter().filter_map(|sidecar| self.written(disk, sidecar)).max();
        last.map(after_a_tick)
    }

    fn written(&self, disk: &OsStr, sidecar: Sidecar) -> Option<SystemTime> {
        let stat = files::stat_at(self.dir(), &sidecar.of(disk)).ok().flatten()?;
        UNIX_EPOCH.checked_add(Duration::new(stat.st_mtime.try_into().ok()?, stat.st_mtime_nsec.try_into().ok()?))
    }

    /// The deadline on record: digits with an optional fraction, seconds since the epoch.
    pub(super) fn read_suspend(&self, disk: &OsStr) -> Result<Option<SystemTime>> {
        let content = self.read_sidecar(disk, Sidecar::Suspend)?;
        let digits = |line: &&str| line.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds = content.as_deref().and_then(first_line).filter(digits).and_then(|line| line.parse::<f64>().ok());
        Ok(seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)))
    }

    pub(super) fn write_suspend(&self, disk: &OsStr, until: SystemTime) -> Result<()> {
        let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.write_sidecar(disk, Sidecar::Suspend, seconds.to_string().as_bytes())
    }

    /// The real name of what stands under a name on disk.
    pub(super) fn real_name(&self, disk: &OsStr) -> Result<Option<PeerName>> {
        let raw = disk.as_encoded_bytes();
        if raw.starts_with(b"h-")
            && let Some(content) = self.read_sidecar(disk, Sidecar::Name)?
        {
            return Ok(PeerName::foreign(&files::latin1(&content)).ok());
        }
        Ok(PeerName::foreign(&files::latin1(raw)).ok())
    }

    /// Counters on record. Damaged ones are an error, so that a caller can tell them from none.
    pub(super) fn read_stats(&self, disk: &OsStr, serializer: &dyn Serializer) -> Result<Option<Stats>> {
        let name = Sidecar::Stats.of(disk);
        let Some(payload) = self.read_sidecar(disk, Sidecar::Stats)? else { return Ok(None) };
        let limits = Limits::DEFAULT;
        let value = serializer
            .decode(&payload, limits.decoded_bytes)
            .and_then(|text| crate::json::normalise(&text, &limits).and_then(|text| crate::json::parse_value(&text)));
        let stats = value.and_then(|value| Stats::from_value(&value));
        stats.map(Some).map_err(|error| self.place(error.with_kind(ErrorKind::Corrupt).at_path(self.path(&name))))
    }

    pub(in crate::protocol) fn write_stats(
        &self,
        disk: &OsStr,
        stats: &Stats,
        serializer: &dyn Serializer,
    ) -> Result<()> {
        let mut text = String::new();
        crate::json::to_wire(stats, &Limits::DEFAULT, &mut text)?;
        let mut payload = Vec::new();
        serializer.encode(&text, &mut payload)?;
        self.write_sidecar(disk, Sidecar::Stats, &payload)
    }

    /// Appends records to the file of messages put back: big-endian length, payload, again and again.
    pub(in crate::protocol) fn append_resume(&self, disk: &OsStr, payloads: &[Vec<u8>]) -> Result<()> {
        let mut records = Vec::with_capacity(payloads.iter().map(|payload| payload.len() + 4).sum());
        for payload in payloads {
            let length = u32::try_from(payload.len())
                .map_err(|_| Error::new(ErrorKind::TooLarge, "a message put back is larger than 4 GiB"))?;
            records.extend_from_slice(&length.to_be_bytes());
            records.extend_from_slice(payload);
        }
        let name = Sidecar::Resume.of(disk);
        files::append(self.dir(), &name, &records, self.access)
            .map_err(|error| self.failed(&name, "messages cannot be put back", error))
    }

    /// Reads the file of messages put back: the payloads, and an error if it ends in the middle of a record.
    pub(in crate::protocol) fn read_resume(&self, disk: &OsStr) -> Result<Option<Resumed>> {
        let name = Sidecar::Resume.of(disk);
        let damaged = |detail: String| self.place(Error::new(ErrorKind::Corrupt, detail).at_path(self.path(&name)));
        // All that was ever put back and not read again, so the limit is on memory, not on one message.
        let content = files::read_untrusted(self.dir(), &name, 1 << 30, self.access)
            .map_err(|error| self.failed(&name, "messages that were put back cannot be read", error))?;
        Ok(match content {
            Untrusted::Gone => None,
            Untrusted::Refused(why) => Some(Resumed { payloads: vec![], damaged: Some(damaged(why.into())) }),
            Untrusted::TooLarge { bytes } => {
                Some(Resumed { payloads: vec![], damaged: Some(damaged(format!("it has {bytes} bytes"))) })
            }
            Untrusted::Content(content) => {
                let (payloads, cut_at) = split_records(&content);
                let cut = |offset| damaged("it ends in the middle of a record".into()).at_offset(offset);
                Some(Resumed { payloads: payloads.into_iter().map(<[u8]>::to_vec).collect(), damaged: cut_at.map(cut) })
            }
        })
    }
}

/// Messages that were put back, undecoded.
pub(in crate::protocol) struct Resumed {
    pub(in crate::protocol) payloads: Vec<Vec<u8>>,
    pub(in crate::protocol) damaged: Option<Error>,
}

/// Splits length-prefixed records; the offset of a record that is cut short, if there is one.
pub(super) fn split_records(mut rest: &[u8]) -> (Vec<&[u8]>, Option<usize>) {
    let whole = rest.len();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = rest
            .split_first_chunk::<4>()
            .and_then(|(length, after)| after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?));
        let Some((record, after)) = record else { return (records, Some(whole - rest.len())) };
        records.push(record);
        rest = after;
    }
    (records, None)
}

/// The end of time is no later after a tick: a file may claim any.
fn after_a_tick(time: SystemTime) -> SystemTime {
    time.checked_add(TICK).unwrap_or(time)
}

fn first_line(content: &[u8]) -> Option<&str> {
    let line = content.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok().filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_and_a_cut_one_is_located() {
        assert_eq!(split_records(b""), (vec![], None));
        assert_eq!(split_records(b"\0\0\0\x02ab\0\0\0\0"), (vec![&b"ab"[..], b""], None));
        assert_eq!(split_records(b"\0\0\0\x02ab\0\0\0"), (vec![&b"ab"[..]], Some(6)));
        assert_eq!(split_records(b"\0\0\0\x02ab\xff\xff\xff\xffx"), (vec![&b"ab"[..]], Some(6)));
    }

    #[test]
    fn a_file_from_the_end_of_time_is_one() {
        let seconds = i64::MAX.unsigned_abs();
        let last = UNIX_EPOCH.checked_add(Duration::new(seconds, 999_999_999)).unwrap();
        assert_eq!(after_a_tick(last), last);
        assert_eq!(after_a_tick(UNIX_EPOCH), UNIX_EPOCH + TICK);
    }

    #[test]
    fn sidecars_are_told_from_entries() {
        assert_eq!(Sidecar::split(OsStr::new("x.pid")), Some((OsStr::new("x"), Sidecar::Pid)));
        assert_eq!(Sidecar::split(OsStr::new("x.pid.pend")), None);
        assert_eq!(Sidecar::split(OsStr::new("x")), None);
    }
}
