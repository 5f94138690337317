// SPDX-License-Identifier: MIT OR Apache-2.0
//! Being told that a directory changed. One inotify instance a process, shared by all clients in it, because a user
//! may have only 128 of them; inotify(7).
//!
//! An event is a hint and nothing more: the directory is the truth. Whoever is woken drains the events of all, and
//! rings those that they are for.

#[cfg(not(target_os = "linux"))]
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A watch on one directory. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Rung by the thread that drains the shared instance.
    bell: Arc<Bell>,
    #[cfg(target_os = "linux")]
    instance: Arc<linux::Instance>,
    #[cfg(target_os = "linux")]
    descriptor: i32,
}

/// Which changes matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Files that get the name of a complete message, ending in `.ready`.
    Messages,
    /// Anything that comes, goes or is renamed.
    Entries,
    /// The end of the directory itself.
    Removal,
}

/// One watcher's own wake-up: another thread may drain the event that was for it.
#[derive(Debug)]
struct Bell {
    changed: AtomicBool,
    interest: Interest,
    rung: OwnedFd,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::ffi::CStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;

    use super::{Bell, Interest, Ordering, Watch};
    use crate::system::poll;
    use crate::system::process::own_pid;
    use crate::system::rings::{self, Marked, change};

    /// The process's inotify instance and who watches what.
    #[derive(Debug)]
    pub(super) struct Instance {
        pub(super) inotify: OwnedFd,
        pid: u32,
        bells: Mutex<HashMap<i32, Vec<Weak<Bell>>>>,
    }

    impl Instance {
        /// The instance of this process. A forked child makes its own: a shared one would lose the parent's events.
        fn of_this_process() -> io::Result<Arc<Self>> {
            static SHARED: Mutex<Option<Weak<Instance>>> = Mutex::new(None);
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(instance) = shared.as_ref().and_then(Weak::upgrade)
                && instance.pid == own_pid()
            {
                return Ok(instance);
            }
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let instance = Arc::new(Self { inotify, pid: own_pid(), bells: Mutex::default() });
            *shared = Some(Arc::downgrade(&instance));
            Ok(instance)
        }

        fn bells(&self) -> MutexGuard<'_, HashMap<i32, Vec<Weak<Bell>>>> {
            self.bells.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Reads every event that is there and rings the bells that they are for.
        pub(super) fn drain(&self) {
            let bells = self.bells();
            let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
            let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                        bells.values().flatten().filter_map(Weak::upgrade).for_each(|bell| change(&*bell));
                    }
                    Ok(event) => {
                        let watching = bells.get(&event.wd()).into_iter().flatten().filter_map(Weak::upgrade);
                        let matters = |bell: &Arc<Bell>| matters(bell.interest, event.events(), event.file_name());
                        watching.filter(matters).for_each(|bell| change(&*bell));
                    }
                    Err(Errno::INTR) => {}
                    // Nothing more; or a broken instance, where the slow look at the directory must do.
                    Err(_) => return,
                }
            }
        }
    }

    /// An event without a name is about the directory itself, and that matters to all.
    fn matters(interest: Interest, event: ReadFlags, name: Option<&CStr>) -> bool {
        let Some(name) = name.map(CStr::to_bytes) else { return true };
        match interest {
            Interest::Messages => name.ends_with(b".ready"),
            Interest::Removal => false,
            // Taking a name makes many files, and all who watch would look at all peers for each.
            Interest::Entries => match name.strip_prefix(b".") {
                Some(own) => own.starts_with(b"live-") && event.contains(ReadFlags::DELETE),
                None => ![&b".pend"[..], b".stats", b".name", b".resume"].iter().any(|end| name.ends_with(end)),
            },
        }
    }

    impl Marked for Bell {
        fn mark(&self) {
            self.changed.store(true, Ordering::SeqCst);
        }

        fn unmark(&self) -> bool {
            self.changed.swap(false, Ordering::SeqCst)
        }

        fn ring(&self) {
            // Full means that it rings already.
            let _ = rustix::io::write(&self.rung, &1_u64.to_ne_bytes());
        }

        fn quiet(&self) {
            let _ = rustix::io::read(&self.rung, &mut [0_u8; 8]);
        }
    }

    impl Watch {
        /// Starts to watch a directory. An error means: poll instead.
        pub(crate) fn new(dir: BorrowedFd<'_>, interest: Interest) -> io::Result<Self> {
            use std::os::fd::AsRawFd;
            let rung = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
            let bell = Arc::new(Bell { changed: true.into(), interest, rung });
            let instance = Instance::of_this_process()?;
            let arrivals = WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            let flags = match interest {
                Interest::Messages => arrivals,
                Interest::Removal => WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR,
                Interest::Entries => arrivals | WatchFlags::DELETE | WatchFlags::MOVED_FROM,
            };
            // Two watches on one directory are one to the kernel: each adds its flags.
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let mut bells = instance.bells();
            let descriptor = inotify::add_watch(&instance.inotify, &path, flags | WatchFlags::MASK_ADD)?;
            bells.entry(descriptor).or_default().push(Arc::downgrade(&bell));
            drop(bells);
            Ok(Self { bell, instance, descriptor })
        }

        /// Whether something may have changed since the last call. To be asked before looking at the directory.
        pub(crate) fn take_changed(&self) -> bool {
            rings::take_change(&*self.bell, || self.instance.drain()) && !poll::is_deaf()
        }

        /// Keeps the descriptors readable: something is left that the caller knows of.
        pub(crate) fn ring(&self) {
            self.bell.ring();
        }

        /// What to poll: readable from a change on until [`Watch::take_changed`].
        pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
            [self.instance.inotify.as_fd(), self.bell.rung.as_fd()]
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            // In a forked child the instance is the parent's, and so are its watches.
            if self.instance.pid != own_pid() {
                return;
            }
            let mut bells = self.instance.bells();
            if let Some(watching) = bells.get_mut(&self.descriptor) {
                watching.retain(|bell| bell.upgrade().is_some_and(|bell| !Arc::ptr_eq(&bell, &self.bell)));
                if watching.is_empty() {
                    bells.remove(&self.descriptor);
                    let _ = inotify::remove_watch(&self.instance.inotify, self.descriptor);
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    /// There is no inotify here: the caller polls.
    pub(crate) fn new(_dir: BorrowedFd<'_>, _interest: Interest) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn take_changed(&self) -> bool {
        true
    }

    pub(crate) fn ring(&self) {}

    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        use std::os::fd::AsFd;
        [self.bell.rung.as_fd(), self.bell.rung.as_fd()]
    }
}
