//! Which file `/proc/PID/exe` of this process leads to. For [`crate::seal`], before any container exists.
//!
//! The kernel lets the link be changed (prctl(2), PR_SET_MM_MAP, made for CRIU) once no page of the old file is mapped. So
//! every segment of the program is copied into anonymous memory and the copy moved over the original, at the same
//! address, while the program runs in it. It is ugly, and takes two thirds of the time of copying and
//! starting the program again (0.45 ms against 0.69 ms for 1.5 MB, Linux 6.18 in a virtual machine).

use super::check;
use nix::errno::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

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

const PR_SET_MM_MAP: libc::c_ulong = 14;

/// The exe link of this process, and what the kernel wants to be told again when it is changed.
pub struct Link(Map);

impl Link {
    /// Reads what belongs to the link.
    pub fn read() -> nix::Result<Self> {
        let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        let mut text = [0; 2048];
        let len = File::open("/proc/self/stat").and_then(|mut f| f.read(&mut text)).map_err(errno)?;
        Self::parse(&text[..len]).ok_or(Errno::EIO)
    }

    /// proc_pid_stat(5). The name, the second field, may hold spaces and parentheses.
    fn parse(text: &[u8]) -> Option<Self> {
        let name_end = text.iter().rposition(|&b| b == b')')?;
        let mut fields = [0; 52];
        let words = std::str::from_utf8(&text[name_end + 1..]).ok()?.split_ascii_whitespace();
        for (field, word) in fields[3..].iter_mut().zip(words) {
            // Those that are not numbers from 0 on are not wanted here.
            *field = word.parse().unwrap_or(0);
        }
        Some(Self(Map {
            start_code: fields[26],
            end_code: fields[27],
            start_data: fields[45],
            end_data: fields[46],
            start_brk: fields[47],
            brk: 0,
            start_stack: fields[28],
            arg_start: fields[48],
            arg_end: fields[49],
            env_start: fields[50],
            env_end: fields[51],
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
        let (size, zero): (libc::c_ulong, libc::c_ulong) = (size_of::<Map>().try_into().map_err(|_| Errno::EIO)?, 0);
        // SAFETY: the structure is the one that the call reads, of the size that is given, and lives through it. Every
        // number in it is what the kernel holds already.
        check(unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP, &raw const self.0, size, zero) }.into()).map(drop)
    }
}

/// Moves the program into anonymous memory, so that no page of its file is mapped any more. The process must have one
/// thread.
///
/// # Errors
/// Anonymous memory may not become executable (SELinux `execmem`, PR_SET_MDWE), or there is too little of it. The program
/// goes on as it was: each segment is replaced whole or not at all.
pub fn unmap_program() -> nix::Result<()> {
    let (headers, bias) = program_headers()?;
    let page =
        usize::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096)).map_err(|_| Errno::EINVAL)?;
    let down = |address: usize| address & !(page - 1);
    let up = |address: usize| down(address + page - 1);
    let span = |at: u64, len: u64| -> nix::Result<(usize, usize)> {
        let start = bias + usize::try_from(at).map_err(|_| Errno::EINVAL)?;
        Ok((start, start + usize::try_from(len).map_err(|_| Errno::EINVAL)?))
    };
    let mut last = 0;
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_filesz > 0) {
        let (start, end) = span(header.p_vaddr, header.p_filesz)?;
        // Segments that share a page would be given the protection of the later one.
        if down(start) < last {
            return Err(Errno::ENOTSUP);
        }
        last = up(end);
        replace(down(start), last - down(start), protection(header.p_flags))?;
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

/// Puts an anonymous copy in the place of `len` bytes of this program at `start`, both multiples of the page size.
fn replace(start: usize, len: usize, protection: libc::c_int) -> nix::Result<()> {
    let target = start as *mut libc::c_void;
    // SAFETY: `start` and `len` are those of a segment of this program, mapped and readable. The first call makes memory
    // of its own, and the copy does not overlap it. Nothing writes to the segment between the copy and the move: there is
    // one thread, and up to then only system calls that succeed (a failing one writes errno, which is not in a segment
    // but in thread-local storage, and ends the replacement before the move). The move replaces the segment in one system
    // call by the same bytes at the same address, so that references and the instruction pointer stay good.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let copy = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::copy_nonoverlapping(target.cast::<u8>(), copy.cast::<u8>(), len);
        let moved = libc::mprotect(copy, len, protection) == 0
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

    #[test]
    fn what_the_kernel_tells_of_this_process() {
        let map = Link::read().unwrap().0;
        let own = what_the_kernel_tells_of_this_process as *const () as usize;
        let own = u64::try_from(own).unwrap();
        assert!((map.start_code..map.end_code).contains(&own), "{own:x}");
        assert!(map.start_data < map.end_data && map.start_brk >= map.end_data);
        assert!(map.arg_start < map.arg_end && map.arg_end <= map.env_start && map.env_start <= map.env_end);
        assert!(map.start_stack < map.arg_start);
    }

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let map = Link::parse(format!("1 (a) S 9 (b) R {}", numbers.join(" ")).as_bytes()).unwrap().0;
        assert_eq!((map.start_code, map.start_stack, map.start_data, map.env_end), (26, 28, 45, 51));
    }
}
