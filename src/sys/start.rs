//! The program's own `main`, in the place of Rust's start-up, which costs a dozen system calls at each start (an alternate
//! stack for the message of a stack overflow, above all) and panics when one of them fails.

use nix::errno::Errno;
use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();
/// Where the kernel has put the pointers to them, and how many.
static WORDS: (AtomicPtr<*const c_char>, AtomicUsize) = (AtomicPtr::new(std::ptr::null_mut()), AtomicUsize::new(0));

/// Defines the C function `main`, which calls a `fn(&[OsString]) -> u8` with the arguments, the program's name first; and
/// the C library's functions for memory, with [`super::heap`] behind them (glibc's manual, Replacing malloc; musl takes them
/// too).
#[macro_export]
macro_rules! program {
    ($main:ident) => {
        #[allow(unsafe_code)] // the symbols that the C library's start-up and Rust's allocator look for
        #[allow(clippy::missing_safety_doc)]
        mod symbols {
            use std::ffi::{c_char, c_int};
            use $crate::sys::{heap, start};

            #[unsafe(no_mangle)]
            extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
                // SAFETY: the C library calls `main` once, with an array of `count` strings that lives as long as the process.
                unsafe { start::run(count, words, super::$main) }
            }

            #[unsafe(no_mangle)]
            extern "C" fn malloc(length: usize) -> *mut u8 {
                heap::malloc(length)
            }

            #[unsafe(no_mangle)]
            extern "C" fn calloc(count: usize, each: usize) -> *mut u8 {
                heap::calloc(count, each)
            }

            #[unsafe(no_mangle)]
            extern "C" fn aligned_alloc(align: usize, length: usize) -> *mut u8 {
                heap::aligned_alloc(align, length)
            }

            #[unsafe(no_mangle)]
            extern "C" fn memalign(align: usize, length: usize) -> *mut u8 {
                heap::aligned_alloc(align, length)
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn posix_memalign(to: *mut *mut u8, align: usize, length: usize) -> c_int {
                // SAFETY: the caller's promise is the same.
                unsafe { heap::posix_memalign(to, align, length) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn realloc(at: *mut u8, length: usize) -> *mut u8 {
                // SAFETY: the caller's promise is the same.
                unsafe { heap::realloc(at, length) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn free(at: *mut u8) {
                // SAFETY: the caller's promise is the same.
                unsafe { heap::free(at) }
            }
        }
    };
}

/// What comes before the program: standard streams that are there, and SIGPIPE ignored. A log or a terminal whose reader
/// has gone must not end a half-made container.
///
/// # Safety
/// `words` must be an array of `count` NUL-terminated strings that live as long as the process.
pub unsafe fn run(count: c_int, words: *const *const c_char, main: fn(&[OsString]) -> u8) -> ! {
    if let Err(e) = fill_streams() {
        eprintln!("look at the standard streams: {e}");
        super::process::exit_now(1);
    }
    // SAFETY: SIG_IGN installs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // An error that a library makes would walk the stack, and the release build lacks the tables for that (`build.rs`):
        // it would abort. What is printed is not the environment's to choose anyway.
        // SAFETY: there is no other thread yet.
        unsafe { std::env::remove_var(name) };
    }
    let count = usize::try_from(count).unwrap_or(0);
    WORDS.0.store(words.cast_mut(), Ordering::Relaxed);
    WORDS.1.store(count, Ordering::Relaxed);
    let arguments = ARGUMENTS.get_or_init(|| {
        // SAFETY: as the caller promises.
        let words = unsafe { std::slice::from_raw_parts(words, count) };
        // SAFETY: as above.
        words.iter().map(|word| OsString::from_vec(unsafe { CStr::from_ptr(*word) }.to_bytes().to_vec())).collect()
    });
    // Nothing waits in a buffer, and there is nothing to be run at the end.
    super::process::exit_now(main(arguments).into())
}

/// The arguments that the program was called with, its name first.
pub fn arguments() -> &'static [OsString] {
    ARGUMENTS.get().map(Vec::as_slice).unwrap_or_default()
}

/// The pointers to the arguments, where the kernel has put them; `None` where [`run`] was not the beginning.
pub fn words() -> Option<&'static [*const c_char]> {
    let words = WORDS.0.load(Ordering::Relaxed);
    // SAFETY: as the caller of `run` has promised.
    (!words.is_null()).then(|| unsafe { std::slice::from_raw_parts(words, WORDS.1.load(Ordering::Relaxed)) })
}

/// Opens /dev/null for each standard stream that the caller has closed: else the next file to be opened takes its place,
/// and is written to as if it were the stream.
fn fill_streams() -> nix::Result<()> {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three live pollfds, and the count says three.
    while unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) } == -1 {
        if Errno::last() != Errno::EINTR {
            return Err(Errno::last());
        }
    }
    for stream in streams {
        // SAFETY: a static string. The lowest free number is the closed stream's, as those below it are open by now.
        if stream.revents & libc::POLLNVAL != 0 && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } == -1 {
            return Err(Errno::last());
        }
    }
    Ok(())
}
