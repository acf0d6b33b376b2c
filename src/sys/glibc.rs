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

/// `Elf64_Phdr`.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: usize,
    physical: u64,
    in_file: u64,
    in_memory: usize,
    align: u64,
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    kind: u16,
    section: u16,
    address: usize,
    size: u64,
}

/// Where the kernel has put its shared object (vdso(7)).
const AT_SYSINFO_EHDR: usize = 33;
/// Of `ProgramHeader::kind`.
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: usize = 5;
const DT_SYMTAB: usize = 6;
/// Of `ProgramHeader::kind`: the table of program headers itself, which comes before what it is about.
const PT_PHDR: u32 = 6;
/// Of `ProgramHeader::kind`: what is read-only once the program is set up.
const PT_GNU_RELRO: u32 = 0x6474_e552;
/// Of `ProgramHeader::flags`.
const PF_W: c_int = 2;
const PF_R: c_int = 4;
const PROT_READ: c_int = 1;

type Words = *const *const c_char;

#[allow(improper_ctypes)] // C sees none of the types: the linker's marks are between two of their addresses
unsafe extern "C" {
    static mut __environ: Words;
    static mut __libc_stack_end: *const c_void;
    static _dl_random: *const [usize; 2];
    static _dl_phdr: *const ProgramHeader;
    static _dl_phnum: usize;
    static _dl_pagesize: usize;
    static mut _dl_stack_flags: c_int;
    static mut _dl_vdso_clock_gettime64: *const c_void;
    static __rela_iplt_start: [Relocation; 0];
    static __rela_iplt_end: [Relocation; 0];
    static __init_array_start: [Main; 0];
    static __init_array_end: [Main; 0];
    fn _dl_aux_init(vector: *const c_void);
    fn _dl_relocate_static_pie();
    fn __libc_setup_tls();
    fn __libc_early_init(first: bool);
    fn __init_misc(count: c_int, words: Words, environment: Words);
    fn _init();
    fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize;
    fn mprotect(at: *mut c_void, length: usize, protection: c_int) -> c_int;
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
/// Since 2.40.
#[unsafe(no_mangle)]
static __x86_memset_non_temporal_threshold: c_long = 768 << 10;
/// Since 2.40: what shared libraries are loaded for needs it.
#[unsafe(no_mangle)]
static _dl_x86_features_tlsdesc_state_size: usize = 0;

/// In glibc's order. Left out are its tunables, which are not for the environment of a program with root's rights to choose;
/// what serves a debugger and `pthread_exit` in `main`; and what it prepares for `dlopen` in a static program
/// (`_dl_non_dynamic_init`: search paths, `/proc/self/exe`), but for the clock.
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
        __init_misc(count, words, environment);
        _dl_stack_flags = PF_R | PF_W;
        let mut kernels = vector.add(1).cast::<[usize; 2]>();
        while (*kernels)[0] != 0 {
            if (*kernels)[0] == AT_SYSINFO_EHDR {
                _dl_vdso_clock_gettime64 = clock((*kernels)[1] as *const u8);
            }
            kernels = kernels.add(1);
        }
        let mut moved = 0;
        for header in std::slice::from_raw_parts(_dl_phdr, _dl_phnum) {
            if header.kind == PT_PHDR {
                moved = _dl_phdr.addr() - header.address;
            }
            if header.kind == PT_GNU_RELRO {
                let at = moved + header.address;
                let (start, end) = (at & !(_dl_pagesize - 1), at + header.in_memory);
                if mprotect(start as *mut c_void, (end & !(_dl_pagesize - 1)) - start, PROT_READ) != 0 {
                    let message = b"start: mprotect: relocated data cannot be made read-only\n";
                    write(2, message.as_ptr().cast(), message.len());
                    exit(1);
                }
            }
        }
        _init();
        let (mut at, end) = ((&raw const __init_array_start).cast::<Main>(), (&raw const __init_array_end).cast());
        while at != end {
            (*at)(count, words, environment);
            at = at.add(1);
        }
        exit(main(count, words, environment))
    }
}

/// `clock_gettime` of the vDSO, which begins at `object`; null if it has none. Else each look at a clock is a system call.
unsafe fn clock(object: *const u8) -> *const c_void {
    // SAFETY: the kernel made the object and mapped all of it: an ELF file at address 0, whose headers, symbols and names lie
    // in its first pages (arch/x86/entry/vdso/vdso-layout.lds.S). Its names follow on its symbols.
    unsafe {
        let (headers, count) = (object.add(object.add(32).cast::<usize>().read()), object.add(56).cast::<u16>().read());
        let (mut names, mut symbols) = (0, 0);
        for header in std::slice::from_raw_parts(headers.cast::<ProgramHeader>(), count.into()) {
            if header.kind == PT_DYNAMIC {
                let mut entry = object.add(header.address).cast::<[usize; 2]>();
                while (*entry)[0] != 0 {
                    match *entry {
                        [DT_STRTAB, at] => names = at,
                        [DT_SYMTAB, at] => symbols = at,
                        _ => {}
                    }
                    entry = entry.add(1);
                }
            }
        }
        if symbols == 0 || names < symbols {
            return std::ptr::null();
        }
        let count = (names - symbols) / size_of::<Symbol>();
        for symbol in std::slice::from_raw_parts(object.add(symbols).cast::<Symbol>(), count) {
            let name = object.add(names + symbol.name as usize);
            if std::ffi::CStr::from_ptr(name.cast()) == c"__vdso_clock_gettime" && symbol.section != 0 {
                return object.add(symbol.address).cast();
            }
        }
        std::ptr::null()
    }
}
