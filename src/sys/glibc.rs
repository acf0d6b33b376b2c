//! glibc's start-up without the questions that it asks the processor: the one it has for static programs executes CPUID some
//! sixty times, for caches and instructions, and in a virtual machine each is an exit to the hypervisor, 0.3 ms in all. That
//! is longer than all that `state` or `delete` do.
//!
//! `__libc_start_main` is what `_start` calls (LSB Core, Generic, 2.7; glibc's csu/libc-start.c). The linker takes this one,
//! and the sizes below, in the place of the archive's, which are all in one member. glibc then has no features of the
//! processor noted, and takes of each function of <string.h> the one that every x86-64 can execute.
//!
//! What is named here is glibc's own and may change with its versions: `build.rs` tries whether a program with this start-up
//! links and runs, and without that the program begins as any other.

#![allow(non_upper_case_globals)] // glibc's names

use std::ffi::{c_char, c_int, c_long, c_void};

type Main = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) -> c_int;

/// `Elf64_Rela`: an indirect function's place, and the function that chooses one for it.
#[repr(C)]
struct Relocation {
    place: *mut *const c_void,
    info: u64,
    choose: extern "C" fn() -> *const c_void,
}

type Words = *const *const c_char;

#[allow(improper_ctypes)] // C sees none of the types: the linker's marks are between two of their addresses
unsafe extern "C" {
    static mut __environ: Words;
    static mut __libc_stack_end: *const c_void;
    static _dl_random: *const [usize; 2];
    static __rela_iplt_start: [Relocation; 0];
    static __rela_iplt_end: [Relocation; 0];
    static __init_array_start: [Main; 0];
    static __init_array_end: [Main; 0];
    fn _dl_aux_init(vector: *const c_void);
    fn _dl_relocate_static_pie();
    fn __libc_setup_tls();
    fn __libc_early_init(first: bool);
    fn __libc_init_first(count: c_int, words: Words, environment: Words);
    fn _init();
    fn exit(status: c_int) -> !;
}

/// Where the functions for memory change their ways, in bytes: glibc's values for a processor that it does not know.
#[unsafe(no_mangle)]
static __x86_data_cache_size: c_long = 32 << 10;
#[unsafe(no_mangle)]
static __x86_data_cache_size_half: c_long = 16 << 10;
#[unsafe(no_mangle)]
static __x86_shared_cache_size: c_long = 1 << 20;
#[unsafe(no_mangle)]
static __x86_shared_cache_size_half: c_long = 512 << 10;
#[unsafe(no_mangle)]
static __x86_shared_non_temporal_threshold: c_long = 768 << 10;
#[unsafe(no_mangle)]
static __x86_rep_movsb_threshold: c_long = 2 << 10;
#[unsafe(no_mangle)]
static __x86_rep_movsb_stop_threshold: c_long = 768 << 10;
#[unsafe(no_mangle)]
static __x86_rep_stosb_threshold: c_long = 2 << 10;
#[unsafe(no_mangle)]
static __x86_string_control: c_int = 0;

/// In glibc's order. Left out are its tunables, which are not for the environment of a program with root's rights to choose,
/// and what serves a debugger, shared libraries and `pthread_exit` in `main`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __libc_start_main(
    main: Main,
    count: c_int,
    words: Words,
    _init_of_old: *const c_void,
    _fini_of_old: *const c_void,
    _fini_of_linker: *const c_void,
    stack_end: *const c_void,
) -> c_int {
    // SAFETY: the kernel lays out, from `words` on, the arguments, null, the environment, null, and the auxiliary vector
    // (System V ABI, x86-64, 3.4.1). Until the indirect functions are chosen and thread-local memory is there, only glibc's
    // own functions for that are called, and nothing that the compiler would make a call of memcpy of.
    unsafe {
        let environment = words.offset(count as isize + 1);
        let mut vector = environment;
        while !(*vector).is_null() {
            vector = vector.add(1);
        }
        __environ = environment;
        __libc_stack_end = stack_end;
        _dl_aux_init(vector.add(1).cast());
        _dl_relocate_static_pie();
        let (mut at, end) = ((&raw const __rela_iplt_start).cast::<Relocation>(), (&raw const __rela_iplt_end).cast());
        while at != end {
            *(*at).place = ((*at).choose)();
            at = at.add(1);
        }
        __libc_setup_tls();
        // From the auxiliary vector, anywhere: the canary of functions that guard their stack, whose first byte is zero, and
        // what glibc scrambles pointers with.
        let [canary, guard] = _dl_random.read_unaligned();
        std::arch::asm!("mov fs:[0x28], {}", in(reg) canary & !0xff, options(nostack, preserves_flags));
        std::arch::asm!("mov fs:[0x30], {}", in(reg) guard, options(nostack, preserves_flags));
        __libc_early_init(true);
        __libc_init_first(count, words, environment);
        _init();
        let (mut at, end) = ((&raw const __init_array_start).cast::<Main>(), (&raw const __init_array_end).cast());
        while at != end {
            (*at)(count, words, environment);
            at = at.add(1);
        }
        exit(main(count, words, environment))
    }
}
