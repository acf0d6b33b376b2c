//! The table of numbers against the resolver of the installed libseccomp.

use libseccomp::{ScmpArch, ScmpSyscall};
use onggi::seccomp::{ARCHS, Arch};

/// Calls of x86_64, a sample in no order.
pub const NAMES_OF_X86_64: &str = "\
    _sysctl accept accept4 access acct add_key adjtimex afs_syscall alarm arch_prctl bind bpf brk capget capset chdir \
    chmod chown chroot clock_adjtime clock_getres clock_gettime clock_nanosleep clock_settime clone close connect \
    copy_file_range creat create_module delete_module dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
    epoll_pwait epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat fadvise64 \
    fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr finit_module \
    flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futimesat get_kernel_syms \
    get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups \
    getitimer getpeername getpgid getpgrp getpid getpmsg getppid getpriority getrandom getresgid getresuid getrlimit \
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr init_module inotify_add_watch \
    inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit \
    ioctl ioperm iopl ioprio_get ioprio_set kcmp kexec_file_load kexec_load keyctl kill lchown lgetxattr link linkat \
    listen listxattr llistxattr lookup_dcookie lremovexattr lseek lsetxattr lstat madvise mbind membarrier memfd_create \
    migrate_pages mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap modify_ldt mount move_pages mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync \
    munlock munlockall munmap name_to_handle_at nanosleep newfstatat nfsservctl open open_by_handle_at openat pause \
    perf_event_open personality pipe pipe2 pivot_root pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 \
    preadv preadv2 prlimit64 process_vm_readv process_vm_writev pselect6 ptrace putpmsg pwrite64 pwritev pwritev2 \
    query_module quotactl read readahead readlink readlinkat readv reboot recvfrom recvmmsg recvmsg remap_file_pages \
    removexattr rename renameat renameat2 request_key restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp security select semctl semget \
    semop semtimedop sendfile sendmmsg sendmsg sendto set_mempolicy set_robust_list set_thread_area set_tid_address \
    setdomainname setfsgid setfsuid setgid setgroups sethostname setitimer setns setpgid setpriority setregid setresgid \
    setresuid setreuid setrlimit setsid setsockopt settimeofday setuid setxattr shmat shmctl shmdt shmget shutdown \
    sigaltstack signalfd signalfd4 socket socketpair splice stat statfs statx swapoff swapon symlink symlinkat sync \
    sync_file_range syncfs sysfs sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun \
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate tuxcall umask \
    umount2 uname unlink unlinkat unshare uselib userfaultfd ustat utime utimensat utimes vfork vhangup vmsplice \
    vserver wait4 waitid write writev";

/// The number that libseccomp gives; none if the name has only a stand-in below zero there (absent, or behind a multiplexer).
fn theirs(arch: Arch, name: &str) -> Option<u32> {
    let number = ScmpSyscall::from_name_by_arch(name, arch.name.parse::<ScmpArch>().unwrap()).ok()?;
    u32::try_from(number.as_raw_syscall()).ok()
}

/// libseccomp's name for a number.
fn name(scmp: ScmpArch, nr: u32) -> Option<String> {
    ScmpSyscall::from_raw_syscall(nr as i32).get_name_by_arch(scmp).ok()
}

#[test]
fn every_number_that_libseccomp_knows_is_ours() {
    let mut compared = 0;
    for arch in ARCHS {
        let scmp = arch.name.parse::<ScmpArch>().unwrap();
        // Not from 0 everywhere: libseccomp knows numbers of x32 without their bit too, and `syscall` of mips without its base.
        let bases: &[u32] = match arch.name.trim_start_matches("SCMP_ARCH_") {
            "X32" => &[0x4000_0000],
            "ARM" => &[0, 0xf_0000],
            "MIPS" | "MIPSEL" => &[4000],
            "MIPS64" | "MIPSEL64" => &[5000],
            "MIPS64N32" | "MIPSEL64N32" => &[6000],
            _ => &[0],
        };
        for nr in bases.iter().flat_map(|base| *base..base + 600) {
            let Some(name) = name(scmp, nr) else { continue };
            assert_eq!(arch.number_of(&name), Some(nr), "{name} on {}", arch.name);
            compared += 1;
        }
    }
    assert!(compared > 7000, "{compared}");
}

#[test]
fn no_number_of_ours_is_another_call_of_libseccomp() {
    let read = Arch::X86_64.number_of("read");
    assert_eq!(theirs(Arch::X86_64, "read"), read);
    for arch in ARCHS {
        let scmp = arch.name.parse::<ScmpArch>().unwrap();
        for call in NAMES_OF_X86_64.split_whitespace() {
            let ours = arch.number_of(call);
            if let (Some(ours), Some(theirs)) = (ours, theirs(arch, call)) {
                assert_eq!(ours, theirs, "{call} on {}", arch.name);
            }
            if let Some(known) = ours.and_then(|nr| name(scmp, nr)) {
                assert_eq!(arch.number_of(&known), ours, "{call} on {}", arch.name);
            }
        }
    }
}
