//! Live and resident bytes of this process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator; from `count_allocations` on it counts the bytes that are live, as the
/// allocator rounds them up.
pub struct CountingAllocator;

fn count(block: *mut u8, sign: isize) {
    if !block.is_null() && COUNTING.load(Relaxed) {
        // SAFETY: a live block of the system's allocator, which is the C library's.
        let bytes = unsafe { libc::malloc_usable_size(block.cast()) };
        LIVE.fetch_add(sign * bytes as isize, Relaxed);
    }
}

// SAFETY: every call is the system allocator's own; counting touches no block.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = System.alloc(layout);
        count(block, 1);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = System.alloc_zeroed(layout);
        count(block, 1);
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(block, -1);
        let moved = System.realloc(block, layout, size);
        count(if moved.is_null() { block } else { moved }, 1);
        moved
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(block, -1);
        System.dealloc(block, layout);
    }
}

pub fn count_allocations() {
    COUNTING.store(true, Relaxed);
}

pub fn live_bytes() -> isize {
    LIVE.load(Relaxed)
}

pub fn resident_bytes() -> isize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages = statm.split_whitespace().nth(1).expect("a second field");
    // SAFETY: no arguments but a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.parse::<isize>().expect("a number") * page as isize
}
