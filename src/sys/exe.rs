//! Which file `/proc/PID/exe` of this process leads to. For [`crate::seal`], before any container exists.
//!
//! The kernel lets the link be changed (prctl(2), PR_SET_MM_MAP, made for CRIU) once the old file is not mapped by the path
//! that the link has: `replace_mm_exe_file` compares mount and directory entry. So every segment of the program is replaced
//! at its address while the program runs in it. What is written to becomes anonymous memory. The rest is mapped again,
//! from the same file on a mount of its own: read-only, attached nowhere, and gone but for these mappings. They cannot be
//! opened by anybody without `CAP_CHECKPOINT_RESTORE` in the first user namespace (`/proc/PID/map_files`), and then not for
//! writing: the mount is read-only, and none that is not attached can be changed.
//!
//! Where no such mount can be made, all becomes anonymous memory: a copy of the program, ten times as dear.

use super::{check, fs, mount};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// `struct prctl_mm_map` of <linux/prctl.h>.
#[repr(C)]
struct Map {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    /// Null: the auxiliary vector stays.
    auxv: *const u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Whether code and constants are in anonymous memory, which cannot be read again from anywhere.
static COPIED: AtomicBool = AtomicBool::new(false);

const PR_SET_MM_MAP: libc::c_ulong = 14;

/// The smallest page of any machine.
const PAGE: u64 = 4096;

/// The exe link of this process, and what the kernel wants to be told again when it is changed.
pub struct Link(Map);

impl Link {
    /// What the kernel has set at the start of this program (`load_elf_binary`, `create_elf_tables`), from the same sources: the
    /// program's headers, and what lies on the stack.
    ///
    /// # Errors
    /// ENOTSUP where [`start::run`](super::start::run) was not the beginning, or the kernel tells too little.
    pub fn read() -> nix::Result<Self> {
        Self::of(super::start::words().ok_or(Errno::ENOTSUP)?)
    }

    /// `words` are the pointers to the arguments, where the kernel has put them.
    fn of(words: &[*const libc::c_char]) -> nix::Result<Self> {
        let (headers, bias) = program_headers()?;
        let bias = u64::try_from(bias).map_err(|_| Errno::ENOTSUP)?;
        let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
        let code = || loaded().filter(|h| h.p_flags & libc::PF_X != 0);
        let end = |header: &libc::Elf64_Phdr| header.p_vaddr + header.p_filesz;
        let (Some(first), Some(last)) = (words.first(), words.last()) else { return Err(Errno::ENOTSUP) };
        // SAFETY: the argument is a C string, which lives as long as the process.
        let last = unsafe { std::ffi::CStr::from_ptr(*last) };
        let argument_end = last.as_ptr().expose_provenance() as u64 + last.count_bytes() as u64 + 1;
        // The name of the program's file lies above the environment.
        let environment_end = super::auxv::executed_name().ok_or(Errno::ENOTSUP)?.as_ptr().expose_provenance() as u64;
        Ok(Self(Map {
            start_code: bias + code().map(|h| h.p_vaddr).min().ok_or(Errno::ENOTSUP)?,
            end_code: bias + code().map(end).max().ok_or(Errno::ENOTSUP)?,
            start_data: bias + loaded().map(|h| h.p_vaddr).max().ok_or(Errno::ENOTSUP)?,
            end_data: bias + loaded().map(end).max().ok_or(Errno::ENOTSUP)?,
            start_brk: 0,
            brk: 0,
            // The number of arguments lies below them.
            start_stack: words.as_ptr().wrapping_sub(1).expose_provenance() as u64,
            arg_start: first.expose_provenance() as u64,
            arg_end: argument_end,
            env_start: argument_end,
            env_end: environment_end,
            auxv: std::ptr::null(),
            auxv_size: 0,
            exe_fd: 0,
        }))
    }

    /// Makes `/proc/self/exe` lead to `file`, which must be regular and executable. All else that the call can change is
    /// set to what it is.
    ///
    /// # Errors
    /// EPERM without `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN` in the caller's user namespace (5.9+), EINVAL where the
    /// kernel is built without it, EBUSY while the program's own file is mapped.
    pub fn set(&mut self, file: BorrowedFd<'_>) -> nix::Result<()> {
        self.0.exe_fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::EBADF)?;
        // SAFETY: brk(0) only tells where the heap ends, which any allocation may have moved.
        let brk = unsafe { libc::syscall(libc::SYS_brk, 0) };
        self.0.brk = u64::try_from(brk).map_err(|_| Errno::EIO)?;
        // The C library's start-up takes less than a page of it, and memory is not taken from there later (`super::heap`).
        self.0.start_brk = self.0.brk & !(PAGE - 1);
        let (size, zero): (libc::c_ulong, libc::c_ulong) = (size_of::<Map>().try_into().map_err(|_| Errno::EIO)?, 0);
        // SAFETY: the structure is the one that the call reads, of the size that is given, and lives through it. Every
        // number in it is what the kernel holds already.
        check(unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP, &raw const self.0, size, zero) }.into()).map(drop)
    }
}

/// The program's file on a mount of its own, and the mount: read-only, but whoever has its descriptor can change that. Without
/// the descriptor it is cut off from every namespace, for which the kernel lets all CPUs come round (some 50 microseconds).
///
/// # Errors
/// EPERM without `CAP_SYS_ADMIN`, EINVAL where the file is on no mount of the caller's namespace.
pub fn secluded() -> nix::Result<(OwnedFd, OwnedFd)> {
    let tree = mount::open_tree(fs::cwd(), c"/proc/self/exe", false, false)?;
    let alone = mount::Attrs { set: mount::attr::RDONLY, clear: 0, propagation: libc::MS_PRIVATE };
    mount::mount_setattr(tree.as_fd(), c"", false, alone, None)?;
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    let file = super::open::open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok((file, tree))
}

/// Replaces the program's segments: by mappings of `file`, which is [`secluded`], where they are not written to, else by
/// anonymous memory. The process must have one thread, or beside it such a one as [`super::netns`] starts.
///
/// # Errors
/// Anonymous memory may not become executable (SELinux `execmem`, PR_SET_MDWE), or there is too little of it. The program
/// goes on as it was: each segment is replaced whole or not at all.
pub fn replace_program(file: Option<BorrowedFd<'_>>) -> nix::Result<()> {
    let (headers, bias) = program_headers()?;
    let page = super::auxv::page_size()?;
    let down = |address: usize| address & !(page - 1);
    let up = |address: usize| down(address + page - 1);
    let span = |at: u64, len: u64| -> nix::Result<(usize, usize)> {
        let start = bias + usize::try_from(at).map_err(|_| Errno::EINVAL)?;
        Ok((start, start + usize::try_from(len).map_err(|_| Errno::EINVAL)?))
    };
    let mut last = 0;
    let mut data: Option<(usize, usize)> = None;
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_filesz > 0) {
        let (start, end) = span(header.p_vaddr, header.p_filesz)?;
        // Segments that share a page would be given the protection of the later one.
        if down(start) < last {
            return Err(Errno::ENOTSUP);
        }
        last = up(end);
        let (at, len, protection) = (down(start), last - down(start), protection(header.p_flags));
        if protection == libc::PROT_READ | libc::PROT_WRITE {
            // Those that adjoin go in one.
            data = match data {
                Some((start, before)) if start + before == at => Some((start, before + len)),
                Some((start, before)) => {
                    copy(start, before, protection)?;
                    Some((at, len))
                }
                None => Some((at, len)),
            };
        } else if let Some(file) = file {
            let into = usize::try_from(header.p_offset).map_err(|_| Errno::EINVAL)?;
            map(at, len, protection, file, i64::try_from(down(into)).map_err(|_| Errno::EINVAL)?)?;
        } else {
            copy(at, len, protection)?;
            COPIED.store(true, Ordering::Relaxed);
        }
    }
    if let Some((at, len)) = data {
        copy(at, len, libc::PROT_READ | libc::PROT_WRITE)?;
    }
    // What the loader made read-only after relocation stays so.
    for header in headers.iter().filter(|h| h.p_type == libc::PT_GNU_RELRO) {
        let (start, end) = span(header.p_vaddr, header.p_memsz)?;
        let (start, end) = (down(start), down(end));
        // SAFETY: the range is that of relocated constants of this program, which nothing writes after its start.
        check(unsafe { libc::mprotect(start as *mut libc::c_void, end - start, libc::PROT_READ) }.into())?;
    }
    Ok(())
}

/// Gives back memory that this process will not want while it waits: pages of the program that can be read again from its
/// file, and what calls that have returned left on the stack. For the init of a container that waits for `start`, perhaps
/// for days. No allocation; what cannot be given back stays.
pub fn shed() {
    const PAGE: usize = 4096;
    let here = [0u8; 1];
    if let (Ok((headers, bias)), false) = (program_headers(), COPIED.load(Ordering::Relaxed)) {
        let mut range: Option<(usize, usize)> = None;
        for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && !writable(protection(h.p_flags))) {
            if let (Ok(at), Ok(len)) = (usize::try_from(header.p_vaddr), usize::try_from(header.p_memsz)) {
                let (start, end) = ((bias + at) & !(PAGE - 1), (bias + at + len).next_multiple_of(PAGE));
                range = match range {
                    // Those that adjoin go in one.
                    Some((first, before)) if before == start => Some((first, end)),
                    Some(before) => {
                        give_back(before);
                        Some((start, end))
                    }
                    None => Some((start, end)),
                };
            }
        }
        if let Some(last) = range {
            give_back(last);
        }
    }
    // Frames of this call and of those that it makes lie within the pages that are left out: some hundred bytes of them.
    let below = (here.as_ptr() as usize & !(PAGE - 1)) - 2 * PAGE;
    const DEEP: usize = 128 * PAGE;
    // SAFETY: what is below the stack pointer belongs to no frame, and is written before it is read again. Where the stack
    // does not reach so deep the call says ENOMEM, when it has done the rest.
    unsafe { libc::madvise((below - DEEP) as *mut libc::c_void, DEEP, libc::MADV_DONTNEED) };
}

/// Gives back pages of the program that are never written to.
fn give_back((start, end): (usize, usize)) {
    // SAFETY: these pages are mapped from a file that nobody writes to and were never written to themselves: whoever touches
    // one again gets the same bytes. A failure leaves them as they are.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}

fn writable(protection: libc::c_int) -> bool {
    protection & libc::PROT_WRITE != 0
}

/// The program headers in memory, and how far from its linked address the program was loaded.
fn program_headers() -> nix::Result<(&'static [libc::Elf64_Phdr], usize)> {
    // SAFETY: getauxval has no effect but to read the auxiliary vector.
    let (at, count, size) =
        unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM), libc::getauxval(libc::AT_PHENT)) };
    if at == 0 || usize::try_from(size) != Ok(size_of::<libc::Elf64_Phdr>()) {
        return Err(Errno::ENOTSUP);
    }
    let at = usize::try_from(at).map_err(|_| Errno::ENOTSUP)?;
    let count = usize::try_from(count).map_err(|_| Errno::ENOTSUP)?;
    // SAFETY: the kernel tells where it mapped the program headers and how many there are; they lie in the first segment,
    // which stays readable at this address, with the same bytes, for the life of the process.
    let headers = unsafe { std::slice::from_raw_parts(at as *const libc::Elf64_Phdr, count) };
    let linked = headers.iter().find(|h| h.p_type == libc::PT_PHDR).and_then(|h| usize::try_from(h.p_vaddr).ok());
    Ok((headers, linked.map_or(0, |linked| at - linked)))
}

fn protection(flags: u32) -> libc::c_int {
    [(libc::PF_R, libc::PROT_READ), (libc::PF_W, libc::PROT_WRITE), (libc::PF_X, libc::PROT_EXEC)]
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .fold(0, |all, (_, one)| all | one)
}

/// Maps `len` bytes of the program's `file` from `offset` on in the place of the same bytes at `start`.
fn map(start: usize, len: usize, protection: libc::c_int, file: BorrowedFd<'_>, offset: i64) -> nix::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: a segment of this program that is never written to is replaced in one system call by the same bytes of the
    // same file, with the same protection, at the same address: references and the instruction pointer stay good.
    let mapped = unsafe { libc::mmap(start as *mut libc::c_void, len, protection, flags, file.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
}

/// Puts an anonymous copy in the place of `len` bytes of this program at `start`, both multiples of the page size.
fn copy(start: usize, len: usize, protection: libc::c_int) -> nix::Result<()> {
    let target = start as *mut libc::c_void;
    // SAFETY: `start` and `len` are those of a segment of this program, mapped and readable. The first call makes memory
    // of its own, and the copy does not overlap it. Nothing writes to the segment between the copy and the move: another
    // thread writes to memory of its own alone, and up to then there are only system calls that succeed (a failing one writes
    // errno, which is not in a segment but in thread-local storage, and ends the replacement before the move). The move
    // replaces the segment in one system call by the same bytes at the same address, so that references and the instruction
    // pointer stay good.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let copy = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::copy_nonoverlapping(target.cast::<u8>(), copy.cast::<u8>(), len);
        let made = libc::PROT_READ | libc::PROT_WRITE;
        let moved = (protection == made || libc::mprotect(copy, len, protection) == 0)
            && libc::mremap(copy, len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, target) != libc::MAP_FAILED;
        if !moved {
            let errno = Errno::last();
            libc::munmap(copy, len);
            return Err(errno);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// proc_pid_stat(5), fields 26 to 51. The name before them may hold spaces and parentheses.
    #[test]
    fn what_is_worked_out_is_what_the_kernel_has() {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let after_name = text.rsplit_once(')').unwrap().1.split_ascii_whitespace();
        let field: Vec<u64> = [0; 3].into_iter().chain(after_name.map(|word| word.parse().unwrap_or(0))).collect();
        let words = std::ptr::with_exposed_provenance(usize::try_from(field[28]).unwrap() + size_of::<usize>());
        // SAFETY: the kernel puts the pointers to the arguments above their number, where the stack starts.
        let words = unsafe { std::slice::from_raw_parts(words, std::env::args_os().count()) };
        let map = Link::of(words).unwrap().0;
        assert_eq!((map.start_code, map.end_code, map.start_stack), (field[26], field[27], field[28]));
        assert_eq!((map.start_data, map.end_data), (field[45], field[46]));
        assert_eq!((map.arg_start, map.arg_end, map.env_start, map.env_end), (field[48], field[49], field[50], field[51]));
    }
}
