//! One word of memory that a parent and its child share over the clone.

use std::sync::atomic::{AtomicI32, Ordering};

/// A shared word, -1 until it is set. Unmapped at exec or exit.
pub struct Word(&'static AtomicI32);

impl Word {
    /// Maps a fresh word.
    pub fn new() -> nix::Result<Self> {
        // SAFETY: a new anonymous mapping, at an address that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<AtomicI32>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(nix::errno::Errno::last());
        }
        // SAFETY: the mapping is page-aligned, large enough, zeroed, and never unmapped while the program runs.
        let word = unsafe { &*at.cast::<AtomicI32>() };
        word.store(-1, Ordering::SeqCst);
        Ok(Self(word))
    }

    /// Sets it, without a system call.
    pub fn set(&self, value: i32) {
        self.0.store(value, Ordering::SeqCst);
    }

    /// Its value, once it has been set.
    pub fn get(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&v| v >= 0)
    }

    /// The same word, for the other side of a clone.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0)
    }
}
