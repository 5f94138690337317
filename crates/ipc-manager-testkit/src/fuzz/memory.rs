// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory some work holds at once: an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread holds, and the most that it held since somebody asked. Below zero where it gave back what
    /// another thread had taken.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(more: usize, less: usize) {
    // No layout is larger than `isize::MAX`. At the end of a thread there is nothing to count in any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = now.wrapping_add(more.cast_signed()).wrapping_sub(less.cast_signed());
        held.set((now, most.max(now)));
    });
}

/// The system's allocator, with a count for each thread; see [`peak_of`].
///
/// ```
/// use ipc_manager_testkit::fuzz::{Counting, peak_of};
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
/// assert!(peak_of(|| drop(vec![0_u8; 5000])).1 >= 5000);
/// ```
#[derive(Debug)]
pub struct Counting;

// SAFETY: everything is done by the system's allocator; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does some work on this thread, and says how many bytes more than before it held at most. 0 where [`Counting`] is not
/// the program's allocator.
///
/// # Panics
/// As the work does.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let done = work();
    let (_, most) = HELD.get();
    (done, most.wrapping_sub(before).cast_unsigned())
}
