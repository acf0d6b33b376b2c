//! The kernel as judge: programs loaded and asked by real system calls, none of which is ever carried out.
//!
//! Every verdict of a program is first turned into an errno of its own, so that whatever call is made, with whatever
//! arguments, the filter answers with a number that tells the verdict. The thread that loads the program can make no
//! call any more, not even to end: it leaves its answers in memory and spins until its process, a run of this test binary
//! for this purpose, is over.

use crate::bpf::{self, Data};
use crate::{engine, made, random};
use onggi::config::Seccomp;
use onggi::seccomp::compile;
use onggi::sys::seccomp as kernel;
use seccompiler::sock_filter;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const CALLS: usize = 10_000;
const HELPER: &str = "ONGGI_SECCOMP_HELPER";
const FIRST: u32 = 1000;
/// The status of a helper that has compared all its calls.
const DONE: i32 = 42;

/// The program with each distinct verdict an errno from 1000 on, and the verdicts in that order.
fn told_by_errno(program: &[sock_filter]) -> (Vec<sock_filter>, Vec<u32>) {
    let mut verdicts = Vec::new();
    let mut program = program.to_vec();
    for i in program.iter_mut().filter(|i| i.code == 0x06) {
        let place = verdicts.iter().position(|v| *v == i.k).unwrap_or_else(|| {
            verdicts.push(i.k);
            verdicts.len() - 1
        });
        i.k = 0x0005_0000 | (FIRST + place as u32);
    }
    (program, verdicts)
}

/// For the calling thread; lets it load a filter without being root.
pub fn no_new_privs() {
    // SAFETY: prctl with plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
}

/// Makes the call as a program of x86_64 does; the errno.
fn call_64(data: &Data) -> i64 {
    let a = data.args;
    let ret: i64;
    // SAFETY: the filter answers the call with an errno, so the kernel does nothing; the instruction clobbers rcx and r11 only.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") u64::from(data.nr) => ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], out("rcx") _, out("r11") _, options(nostack));
    }
    ret.wrapping_neg()
}

/// Makes the call as a program of x86 does: the low words of the arguments count.
fn call_32(data: &Data) -> i64 {
    let a = data.args;
    let ret: u64;
    // SAFETY: as above. rbx and rbp, which the compiler keeps for itself, are put back; the stack pointer is back before the end.
    unsafe {
        std::arch::asm!("push rbx", "push rbp", "mov rbx, r8", "mov rbp, r9", "int 0x80", "pop rbp", "pop rbx",
            inlateout("rax") u64::from(data.nr) => ret, inlateout("r8") a[0] => _, in("rcx") a[1], in("rdx") a[2],
            in("rsi") a[3], in("rdi") a[4], inlateout("r9") a[5] => _, lateout("r10") _, lateout("r11") _);
    }
    -i64::from(ret as i32)
}

fn x86(profile: &Seccomp) -> bool {
    profile.architectures.iter().any(|name| name == "SCMP_ARCH_X86")
}

/// Compares the kernel's answers with the interpreter's, in a thread of this process.
fn ask(name: &'static str, profile: &Seccomp, int80: bool) {
    let original = compile(profile).unwrap().unwrap().program;
    let (program, verdicts) = told_by_errno(&original);
    let pool = random::Pool::of(profile);
    let mut random = random::Random(99);
    let (token_64, token_32) = (0xc000_003e, 0x4000_0003);
    let token = if int80 { token_32 } else { token_64 };
    // uretprobe and uprobe pass every filter (6.14, seccomp_uprobe_exception) and kill who makes them without cause.
    let askable = |call: &Data| call.arch == token && (int80 || ![335, 336].contains(&call.nr));
    let calls: Vec<Data> = std::iter::repeat_with(|| pool.call(&mut random)).filter(askable).take(CALLS).collect();
    let done = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(Mutex::new(vec![0i64; calls.len()]));
    let (thread_done, thread_answers, thread_calls) = (done.clone(), answers.clone(), calls.clone());
    std::thread::spawn(move || {
        let mut out = thread_answers.lock().unwrap();
        no_new_privs();
        kernel::load(&program, 0).unwrap();
        for (call, answer) in thread_calls.iter().zip(out.iter_mut()) {
            *answer = if int80 { call_32(call) } else { call_64(call) };
        }
        drop(out); // nobody waits for the lock, so it is given back without a call
        thread_done.store(true, Ordering::Release);
        loop {
            std::hint::spin_loop();
        }
    });
    while !done.load(Ordering::Acquire) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for (call, errno) in calls.iter().zip(answers.lock().unwrap().iter()) {
        let seen = Data { args: call.args.map(|a| if int80 { a & 0xffff_ffff } else { a }), ..*call };
        let want = bpf::run(&original, &seen);
        let got = usize::try_from(errno - i64::from(FIRST)).ok().and_then(|i| verdicts.get(i));
        assert_eq!(got, Some(&want), "{name}: {call:x?}: errno {errno}");
    }
}

/// Run by [`helper`] alone: one profile, one way to call.
#[test]
fn in_a_process_of_its_own() {
    let Ok(job) = std::env::var(HELPER) else { return };
    let (kind, index) = job.split_once(' ').unwrap();
    let profiles: Vec<_> = engine::profiles().into_iter().chain(made::profiles()).collect();
    let (name, profile) = &profiles[index.parse::<usize>().unwrap()];
    ask(name, profile, kind == "x86");
    // Without the harness's own end: the spinning thread goes with the process.
    std::process::exit(DONE);
}

fn helper(kind: &str, index: usize) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernel::in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
        .env(HELPER, format!("{kind} {index}"))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn the_kernel_agrees_on_x86_64_and_x32() {
    for (index, (name, _)) in engine::profiles().into_iter().chain(made::profiles()).enumerate() {
        assert_eq!(helper("x86_64", index).code(), Some(DONE), "{name}");
    }
}

#[test]
fn the_kernel_agrees_on_x86() {
    use std::os::unix::process::ExitStatusExt;
    for (index, (name, profile)) in engine::profiles().into_iter().chain(made::profiles()).enumerate() {
        if !x86(&profile) {
            continue;
        }
        let status = helper("x86", index);
        if status.signal() == Some(libc::SIGSEGV) {
            eprintln!("this kernel takes no calls of x86 (CONFIG_IA32_EMULATION)");
            return;
        }
        assert_eq!(status.code(), Some(DONE), "{name}");
    }
}
