// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files by directory descriptor: never through a link, never blocking, every write checked up to the close.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::access::Access;

mod make;

pub(crate) use make::{Sync, append, create_whole, make_dir_at, make_dir_whole, make_empty, open_or_make, replace};

/// Opens a directory; the last component may not be a link.
pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory within another; it may not be a link.
pub(crate) fn open_dir_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Whether users other than its owner may write to something, as far as its mode tells.
pub(crate) fn is_open_to_others(stat: &Stat) -> bool {
    stat.st_mode & 0o002 != 0 || stat.st_mode & 0o020 != 0 && !super::access::is_own(stat.st_gid)
}

/// Whether everybody may put things into a directory.
pub(crate) fn is_for_everybody(stat: &Stat) -> bool {
    stat.st_mode & 0o002 != 0
}

/// What a name in a directory is, without following a link. `None` if there is nothing.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether what is under a name has not changed for so many seconds; no if there is nothing.
pub(crate) fn is_older(dir: BorrowedFd<'_>, name: &OsStr, seconds: u64) -> bool {
    let Ok(Some(stat)) = stat_at(dir, name) else { return false };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    u64::try_from(stat.st_ctime).is_ok_and(|changed| now.saturating_sub(changed) > seconds)
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether opening a directory failed because something else, such as a link, is there.
pub(crate) fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

/// What opening a file of unknown origin gave.
pub(crate) enum Untrusted {
    Gone,
    /// It is not a regular file, another user's, or over the limit: the reason in words.
    Refused(&'static str),
    TooLarge {
        bytes: u64,
    },
    Content(Vec<u8>),
}

/// Reads a file that anyone may have put there: regular, not a link, ours or root's, or on a store of a group any
/// member's, and within the limit.
pub(crate) fn read_untrusted(dir: BorrowedFd<'_>, name: &OsStr, limit: usize, access: Access) -> io::Result<Untrusted> {
    // Without blocking: a FIFO in the place of a file must not stop the reader.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(dir, name, flags, Mode::empty());
    // Asked twice: what is refused is set aside for good, which a refusal that passes is no reason for.
    let file = match open().or_else(|error| if error == Errno::ACCESS { open() } else { Err(error) }) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Untrusted::Gone),
        Err(Errno::LOOP | Errno::MLINK) => return Ok(Untrusted::Refused("it is a symbolic link")),
        Err(Errno::NXIO) => return Ok(Untrusted::Refused("it is a socket or a device")),
        Err(Errno::ACCESS) => return Ok(Untrusted::Refused("it cannot be opened for reading")),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Untrusted::Refused("it is not a regular file"));
    }
    if stat.st_uid != 0 && !access.trusts(stat.st_uid) {
        return Ok(Untrusted::Refused("it belongs to another user"));
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    if bytes > limit as u64 {
        return Ok(Untrusted::TooLarge { bytes });
    }
    let content = read_all(&file, usize::try_from(bytes).unwrap_or(limit), limit)?;
    if content.len() > limit {
        return Ok(Untrusted::TooLarge { bytes: content.len() as u64 });
    }
    Ok(Untrusted::Content(content))
}

/// Reads to the end, or to one byte past the limit.
fn read_all(file: &OwnedFd, expected: usize, limit: usize) -> io::Result<Vec<u8>> {
    // One byte more than expected: the end of the file shows in the same call.
    let mut content = vec![0; expected + 1];
    let mut filled = 0;
    loop {
        match rustix::io::read(file, &mut content[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if filled > limit {
            break;
        }
        if filled == content.len() {
            content.resize(filled + 8192, 0);
        } else if filled == expected {
            break;
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// Reads a file that is open from its start. `None` if it is over the limit.
pub(crate) fn read_from_start(file: &OwnedFd, limit: usize) -> io::Result<Option<Vec<u8>>> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
    let size = usize::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(usize::MAX);
    if size > limit {
        return Ok(None);
    }
    let content = read_all(file, size, limit)?;
    Ok((content.len() <= limit).then_some(content))
}

/// Writes a file that is open over what is in it: first the new content, from where it differs, then the new length.
pub(crate) fn write_in_place(file: &OwnedFd, old: &[u8], content: &[u8]) -> io::Result<()> {
    const STEP: usize = 4096;
    let same = old.chunks_exact(STEP).zip(content.chunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    let offset = i64::try_from(same).unwrap_or(0);
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(same as u64))?;
    write_all(file, offset, &content[same..])?;
    Ok(rustix::fs::ftruncate(file, content.len() as u64)?)
}

/// Whether there was no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Reads a small file of a known layout. `None` if there is none, or if it is no such file.
pub(crate) fn read_small(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    limit: usize,
    access: Access,
) -> io::Result<Option<Vec<u8>>> {
    match read_untrusted(dir, name, limit, access)? {
        Untrusted::Content(content) => Ok(Some(content)),
        Untrusted::Gone | Untrusted::Refused(_) | Untrusted::TooLarge { .. } => Ok(None),
    }
}

/// Reads at an offset: so many bytes, or what there is.
pub(crate) fn read_at(file: &OwnedFd, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let (mut content, mut filled) = (vec![0; bytes], 0);
    while filled < bytes {
        match rustix::io::pread(file, &mut content[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// Writes everything at an offset, over what is there.
pub(crate) fn write_at(file: &OwnedFd, offset: u64, content: &[u8]) -> io::Result<()> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(offset))?;
    write_all(file, i64::try_from(offset).unwrap_or(i64::MAX), content)
}

fn close(file: OwnedFd) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor was owned by `file` and is given up here, once.
    match unsafe { rustix::io::try_close(file.into_raw_fd()) } {
        // The descriptor is closed all the same; close(2).
        Ok(()) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes everything, from this offset on. A limit on the size of files is asked first: going past it would end the
/// program by a signal, SIGXFSZ.
fn write_all(file: &OwnedFd, offset: i64, mut content: &[u8]) -> io::Result<()> {
    let most = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    let end = u64::try_from(offset).unwrap_or(0).saturating_add(content.len() as u64);
    if most.is_some_and(|most| end > most) {
        return Err(io::Error::from(Errno::FBIG));
    }
    while !content.is_empty() {
        match rustix::io::write(file, content) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(count) => content = &content[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Renames within a directory; fails with `AlreadyExists` if the new name is taken.
pub(crate) fn rename_new(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    match rustix::fs::renameat_with(dir, from, dir, to, rustix::fs::RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        renamed => return Ok(renamed?),
    }
    // A link fails on a taken name just as well.
    rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
    // It is in place, whatever becomes of the other name.
    let _ = rustix::fs::unlinkat(dir, from, AtFlags::empty());
    Ok(())
}

/// Renames within a directory, over what is there.
pub(crate) fn rename(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(dir, from, dir, to)?)
}

/// Removes a file; that there is none is fine. Returns whether there was one.
pub(crate) fn remove_file(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes an empty directory. `Ok(false)` if it is not empty.
pub(crate) fn remove_empty_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Calls `each` with every name in a directory but `.` and `..`, and its type as far as the directory knows it, until
/// it says stop. A descriptor of its own: the position of a shared one would be shared too.
pub(crate) fn for_each_name(
    dir: BorrowedFd<'_>,
    mut each: impl FnMut(&OsStr, FileType) -> std::ops::ControlFlow<()>,
) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::INTR) => continue,
            // The directory was removed under the reader; what is gone has no names.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        };
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && each(OsStr::from_bytes(name), entry.file_type()).is_break() {
            break;
        }
    }
    Ok(())
}

/// Every name in a directory.
pub(crate) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for_each_name(dir, |name, _| {
        names.push(name.to_owned());
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// A name that nobody else has: the random bits of a UUID as 32 hex digits.
pub(crate) fn random_suffix() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Bytes of a name as text: each byte one character, as the reference implementation sees names on disk.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The bytes of a name on disk: one a character up to U+00FF, else UTF-8.
pub(crate) fn name_bytes(name: &str) -> OsString {
    let bytes: Option<Vec<u8>> = name.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    OsString::from_vec(bytes.unwrap_or_else(|| name.as_bytes().to_vec()))
}

/// Makes all renames in a directory outlive a power cut.
pub(crate) fn sync_dir(dir: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// Device and inode number: what tells a file from every other.
pub(crate) fn identity_of(fd: impl AsFd) -> io::Result<(u64, u64)> {
    Ok(identity(&rustix::fs::fstat(fd)?))
}

/// Device and inode number of what was looked at.
#[allow(clippy::unnecessary_cast, reason = "their types differ from system to system")]
pub(crate) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}
