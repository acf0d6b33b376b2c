//! The program's heap, in the place of the C library's: that one takes five system calls before the first word of the
//! command line is read, and keeps what a command of a few milliseconds never needs.
//!
//! Blocks come in powers of two from one piece of memory after another, and go back to a list of their size. The first piece
//! is part of the program's own memory, so that most commands ask the kernel for none. Large blocks are mappings of their
//! own. The C functions themselves are defined by [`crate::program`], for the program alone: tests keep the C library's.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::hint::spin_loop;
use std::ptr::{null_mut, write_bytes};
use std::sync::atomic::{AtomicBool, Ordering};

/// What stands before each block, and what blocks are aligned to: as much as any C type wants. A block with this is a power
/// of two, so that it is little to ask for a little more than one.
pub const HEADER: usize = 16;
/// The smallest block, header included: 32 bytes.
const SMALLEST: u32 = 5;
/// The largest that is cut from a piece: 128 KiB.
const LARGEST: u32 = 17;
const SIZES: usize = (LARGEST - SMALLEST + 1) as usize;
/// The first piece. Of the configurations that engines write, none needs more.
const FIRST: usize = 512 << 10;
const PIECE: usize = 1 << 20;

#[repr(C)]
struct Header {
    /// Where the block begins, this header included.
    base: *mut u8,
    /// Its length, from there.
    size: usize,
}

#[repr(C, align(4096))]
struct First(UnsafeCell<[u8; FIRST]>);

struct Heap {
    free: [*mut u8; SIZES],
    next: *mut u8,
    end: *mut u8,
    /// What lies below it in the first piece is left as it is: see [`share`].
    shared: *mut u8,
}

/// The program has one thread; a lock that nobody waits for makes the functions sound all the same.
struct Locked {
    taken: AtomicBool,
    heap: UnsafeCell<Heap>,
}

// SAFETY: both are touched between `Locked::with`'s taking of the lock and its release only.
unsafe impl Sync for First {}
// SAFETY: as above.
unsafe impl Sync for Locked {}

static FIRST_PIECE: First = First(UnsafeCell::new([0; FIRST]));
static HEAP: Locked = Locked {
    taken: AtomicBool::new(false),
    heap: UnsafeCell::new(Heap { free: [null_mut(); SIZES], next: null_mut(), end: null_mut(), shared: null_mut() }),
};

impl Locked {
    fn with<T>(&self, work: impl FnOnce(&mut Heap) -> T) -> T {
        while self.taken.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        // SAFETY: whoever has the lock has the only reference; `work` cannot come back here, as it allocates nothing.
        let result = work(unsafe { &mut *self.heap.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

impl Heap {
    /// A block of the size, and whether it is zero throughout.
    fn take(&mut self, size: u32) -> Option<(*mut u8, bool)> {
        let list = self.free.get_mut((size - SMALLEST) as usize)?;
        if !list.is_null() {
            let block = *list;
            // SAFETY: a block in the list holds the address of the next one where its header ends (`give`).
            *list = unsafe { block.add(HEADER).cast::<*mut u8>().read() };
            return Some((block, false));
        }
        let length = 1usize << size;
        if self.next.is_null() {
            self.next = FIRST_PIECE.0.get().cast();
            self.end = self.next.wrapping_add(FIRST);
        }
        if self.end as usize - (self.next as usize) < length {
            // What is left of the last piece stays unused.
            self.next = map(PIECE)?;
            self.end = self.next.wrapping_add(PIECE);
        }
        let block = self.next;
        self.next = block.wrapping_add(length);
        Some((block, true))
    }

    /// Puts a block into the list of its size.
    ///
    /// # Safety
    /// It came from [`Heap::take`] with this size, and nobody uses it any more.
    unsafe fn give(&mut self, block: *mut u8, size: u32) {
        if (FIRST_PIECE.0.get().cast()..self.shared).contains(&block) {
            return;
        }
        if let Some(list) = self.free.get_mut((size - SMALLEST) as usize) {
            // SAFETY: the smallest block has room for an address behind its header, aligned like the block itself.
            unsafe { block.add(HEADER).cast::<*mut u8>().write(*list) };
            *list = block;
        }
    }
}

/// For the moment before this process is cloned: from then on each page that one of the two writes to is copied first, and
/// what is freed is written to. So what was cut from the first piece until now is not given back any more, nor taken again.
pub fn share() {
    HEAP.with(|heap| {
        heap.free = [null_mut(); SIZES];
        // What lies in a later piece is given back as ever: a runtime that stays for days must not grow.
        heap.shared = heap.next.min(FIRST_PIECE.0.get().cast::<u8>().wrapping_add(FIRST));
    });
}

/// Memory from the kernel, zero.
fn map(length: usize) -> Option<*mut u8> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, where the kernel likes.
    let at = unsafe { libc::mmap(null_mut(), length, protection, flags, -1, 0) };
    (at != libc::MAP_FAILED).then_some(at.cast())
}

/// The power of two that holds `length` bytes; one above [`LARGEST`] is a mapping's.
fn power(length: usize) -> u32 {
    length.next_power_of_two().trailing_zeros().max(SMALLEST)
}

/// A block of `length` bytes at a multiple of `align`, a power of two, and whether it is zero throughout; null when there is
/// no memory.
fn allocate(length: usize, align: usize) -> (*mut u8, bool) {
    let align = align.max(HEADER);
    // The header stands right before what the caller gets.
    let Some(whole) = length.checked_add(align).filter(|&n| n < isize::MAX as usize - PIECE) else {
        return (null_mut(), false);
    };
    let size = power(whole);
    let taken = if size > LARGEST { map(whole).map(|at| (at, true)) } else { HEAP.with(|heap| heap.take(size)) };
    let Some((base, zero)) = taken else { return (null_mut(), false) };
    let block = base.wrapping_add(HEADER);
    let at = block.wrapping_add(block.align_offset(align));
    let header = Header { base, size: if size > LARGEST { whole } else { 1 << size } };
    // SAFETY: the block is ours, and there are at least as many bytes as a header has before `at`, which is aligned for it:
    // `at` is at most `align` bytes, which were added for it, behind `base`.
    unsafe { at.sub(HEADER).cast::<Header>().write(header) };
    (at, zero)
}

/// # Safety
/// `at` came from [`allocate`] and was not given back.
unsafe fn header(at: *mut u8) -> Header {
    // SAFETY: it stands before every block.
    unsafe { at.sub(HEADER).cast::<Header>().read() }
}

/// malloc(3).
pub fn malloc(length: usize) -> *mut u8 {
    allocate(length, HEADER).0
}

/// calloc(3).
pub fn calloc(count: usize, each: usize) -> *mut u8 {
    let Some(length) = count.checked_mul(each) else { return null_mut() };
    let (at, zero) = allocate(length, HEADER);
    if !at.is_null() && !zero {
        // SAFETY: a block of so many bytes that nobody else knows yet.
        unsafe { write_bytes(at, 0, length) };
    }
    at
}

/// aligned_alloc(3).
pub fn aligned_alloc(align: usize, length: usize) -> *mut u8 {
    if align.is_power_of_two() { allocate(length, align).0 } else { null_mut() }
}

/// posix_memalign(3).
///
/// # Safety
/// `to` is where an address may be written.
pub unsafe fn posix_memalign(to: *mut *mut u8, align: usize, length: usize) -> c_int {
    if !align.is_power_of_two() {
        return libc::EINVAL;
    }
    let at = allocate(length, align).0;
    if at.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: as the caller promises.
    unsafe { to.write(at) };
    0
}

/// free(3).
///
/// # Safety
/// `at` is null, or came from one of these functions and was not given back.
pub unsafe fn free(at: *mut u8) {
    if at.is_null() {
        return;
    }
    // SAFETY: as the caller promises.
    let Header { base, size } = unsafe { header(at) };
    if power(size) > LARGEST {
        // SAFETY: a mapping of this length that nobody uses any more. A failure leaves it mapped.
        unsafe { libc::munmap(base.cast(), size) };
    } else {
        // SAFETY: blocks that are no mappings are of a power of two, and came from the heap.
        HEAP.with(|heap| unsafe { heap.give(base, power(size)) });
    }
}

/// realloc(3).
///
/// # Safety
/// As [`free`].
pub unsafe fn realloc(at: *mut u8, length: usize) -> *mut u8 {
    if at.is_null() {
        return malloc(length);
    }
    // SAFETY: as the caller promises.
    let Header { base, size } = unsafe { header(at) };
    let room = size - (at as usize - base as usize);
    if length <= room {
        return at;
    }
    let new = malloc(length);
    if !new.is_null() {
        // SAFETY: both blocks have `room` bytes, and are not the same.
        unsafe {
            std::ptr::copy_nonoverlapping(at, new, room);
            free(at);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_apart_and_kept() {
        let mut blocks: Vec<(*mut u8, usize, u8)> = Vec::new();
        for n in 0..2000usize {
            let length = (n * 7919) % if n % 50 == 0 { 300_000 } else { 700 };
            let align = 1 << (n % 9);
            let at = aligned_alloc(align, length);
            assert!(!at.is_null() && (at as usize).is_multiple_of(align.max(16)), "{length} {align}");
            let mark = (n % 251) as u8;
            // SAFETY: a block of so many bytes.
            unsafe { write_bytes(at, mark, length) };
            blocks.push((at, length, mark));
            if n % 3 == 0 {
                let (old, length, mark) = blocks.swap_remove((n * 31) % blocks.len());
                // SAFETY: each block once, with the length that it has.
                unsafe {
                    let new = realloc(old, length * 2 + 1);
                    assert!(std::slice::from_raw_parts(new, length).iter().all(|&b| b == mark));
                    free(new);
                }
            }
        }
        for (at, length, mark) in blocks {
            // SAFETY: as above.
            unsafe {
                assert!(std::slice::from_raw_parts(at, length).iter().all(|&b| b == mark));
                free(at);
            }
        }
    }

    #[test]
    fn zero_means_zero_also_where_something_was() {
        for length in [1usize, 100, 5000, 200_000] {
            let at = malloc(length);
            // SAFETY: a block of so many bytes, once.
            unsafe {
                write_bytes(at, 7, length);
                free(at);
                let at = calloc(length, 1);
                assert!(std::slice::from_raw_parts(at, length).iter().all(|&b| b == 0));
                free(at);
            }
        }
    }

    #[test]
    fn what_is_too_much_is_null() {
        assert!(malloc(usize::MAX).is_null() && malloc(isize::MAX as usize).is_null());
        assert!(calloc(usize::MAX / 2, 3).is_null());
        assert!(aligned_alloc(3, 8).is_null());
        let mut at = null_mut();
        // SAFETY: a place for an address.
        unsafe {
            assert_eq!(posix_memalign(&raw mut at, 24, 8), libc::EINVAL);
            assert_eq!(posix_memalign(&raw mut at, 4096, 8), 0);
            assert_eq!(at as usize % 4096, 0);
            free(at);
            free(null_mut());
        }
    }
}
