// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stopped process is about to call, and changing that: different on each architecture.

use std::io;
use std::mem::{MaybeUninit, size_of};

/// Whether calls can be changed on this architecture.
pub(super) fn known() -> Result<(), String> {
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Ok(());
    }
    Err(format!("how a call is made to fail is not known on {}", std::env::consts::ARCH))
}

fn info(pid: libc::pid_t) -> io::Result<libc::ptrace_syscall_info> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: it has stopped, this thread traces it, and there is room for so much.
    let answer = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, info.as_mut_ptr()) };
    super::checked(answer)?;
    // SAFETY: all of it is numbers, and was zero before.
    Ok(unsafe { info.assume_init() })
}

fn entry(pid: libc::pid_t) -> io::Result<(i64, [u64; 6])> {
    let info = info(pid)?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return Err(io::Error::other("it is not at the beginning of a call"));
    }
    // SAFETY: the operation says that this is what it holds.
    let entry = unsafe { info.u.entry };
    Ok((entry.nr.cast_signed(), entry.args))
}

/// The number of the call that it is about to make.
pub(super) fn number(pid: libc::pid_t) -> io::Result<i64> {
    Ok(entry(pid)?.0)
}

/// The arguments of that call.
pub(super) fn arguments(pid: libc::pid_t) -> io::Result<[u64; 6]> {
    Ok(entry(pid)?.1)
}

/// Replaces the call that it is about to make by none.
pub(super) fn skip_call(pid: libc::pid_t) -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    return change(pid, |registers| registers.orig_rax = u64::MAX);
    #[cfg(target_arch = "aarch64")]
    return set(pid, 0x404, &mut -1_i32);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Err(io::Error::other("not known on this architecture"))
}

/// What the call that just ended says.
pub(super) fn answer(pid: libc::pid_t, value: i64) -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    return change(pid, |registers| registers.rax = value.cast_unsigned());
    #[cfg(target_arch = "aarch64")]
    return change(pid, |registers| registers.regs[0] = value.cast_unsigned());
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Err(io::Error::other(format!("not known on this architecture: {value}")))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn change(pid: libc::pid_t, change: impl FnOnce(&mut libc::user_regs_struct)) -> io::Result<()> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    let mut place =
        libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<libc::user_regs_struct>() };
    // SAFETY: it has stopped, this thread traces it, and the place is as large as it says.
    super::checked(unsafe { libc::ptrace(libc::PTRACE_GETREGSET, pid, libc::NT_PRSTATUS, &raw mut place) })?;
    // SAFETY: all of it is numbers, and was zero before.
    let mut registers = unsafe { registers.assume_init() };
    change(&mut registers);
    set(pid, libc::NT_PRSTATUS, &mut registers)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn set<T>(pid: libc::pid_t, which: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut place = libc::iovec { iov_base: (&raw mut *value).cast(), iov_len: size_of::<T>() };
    // SAFETY: it has stopped, this thread traces it, and the place is as large as it says.
    super::checked(unsafe { libc::ptrace(libc::PTRACE_SETREGSET, pid, which, &raw mut place) })
}
