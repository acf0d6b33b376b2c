//! The seccomp compiler: a profile made of the bytes, its program run as the kernel would run it, against the rules
//! themselves judged one by one, over calls made of the bytes and over those beside the profile's own numbers and values.
#![no_main]

#[path = "../../seccomp/bpf.rs"]
#[allow(dead_code)]
mod bpf;
#[path = "../../seccomp/judge.rs"]
mod judge;
#[path = "../../seccomp/random.rs"]
mod random;

use bpf::{Data, depth, run};
use judge::judge;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use onggi::config::Seccomp;
use onggi::seccomp::{ARCHS, Arch, MAX_INSTRUCTIONS, compile_for, raw, stored};
use random::{Pool, Random};
use serde_json::{Value, json};

const ACTIONS: [&str; 7] = ["ALLOW", "ERRNO", "TRACE", "LOG", "TRAP", "KILL", "KILL_PROCESS"];
const OPERATORS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
/// None that is behind a multiplexer on any architecture: `judge` knows none.
const NAMES: [&str; 18] = [
    "read",
    "write",
    "openat",
    "clone",
    "lseek",
    "ioctl",
    "futex",
    "mmap",
    "prctl",
    "execveat",
    "chown32",
    "personality",
    "mseal",
    "pwritev2",
    "mount",
    "clone3",
    "no_such_call",
    "exit_group",
];
const LISTED: [&str; 5] = ["X86_64", "X86", "X32", "ARM", "AARCH64"];

fn value(bytes: &mut Unstructured) -> Result<u64> {
    Ok(match bytes.int_in_range(0..=3u8)? {
        0 => u64::from(bytes.arbitrary::<u8>()?),
        1 => u64::from(bytes.arbitrary::<u32>()?),
        2 => 1 << bytes.int_in_range(0..=63u8)?,
        _ => bytes.arbitrary()?,
    })
}

fn profile(bytes: &mut Unstructured) -> Result<Seccomp> {
    let mut rules: Vec<Value> = Vec::new();
    let default = format!("SCMP_ACT_{}", bytes.choose(&ACTIONS)?);
    let listed: Vec<String> =
        LISTED.iter().filter(|_| bytes.ratio(1, 3).unwrap_or(false)).map(|arch| format!("SCMP_ARCH_{arch}")).collect();
    for _ in 0..bytes.int_in_range(0..=40u8)? {
        let mut names = vec![*bytes.choose(&NAMES)?];
        // When the bytes are at their end every ratio holds.
        while names.len() < 4 && bytes.ratio(1, 3)? {
            names.push(*bytes.choose(&NAMES)?);
        }
        let mut args: Vec<Value> = Vec::new();
        while args.len() < 6 && bytes.ratio(1, 2)? {
            let op = format!("SCMP_CMP_{}", bytes.choose(&OPERATORS)?);
            args.push(
                json!({"index": bytes.int_in_range(0..=5u8)?, "op": op, "value": value(bytes)?, "valueTwo": value(bytes)?}),
            );
        }
        let action = *bytes.choose(&ACTIONS)?;
        let errno = if ["ERRNO", "TRACE"].contains(&action) { Some(bytes.int_in_range(0..=4095u16)?) } else { None };
        rules.push(json!({"names": names, "action": format!("SCMP_ACT_{action}"), "errnoRet": errno, "args": args}));
    }
    let json = json!({"defaultAction": default, "architectures": listed, "syscalls": rules});
    Ok(serde_json::from_value(json).expect("a profile"))
}

fn call(bytes: &mut Unstructured) -> Result<Data> {
    let arch = *bytes.choose(&ARCHS)?;
    let nr = match bytes.choose_iter(NAMES)? {
        name if bytes.ratio(1, 2)? => arch.number_of(name).unwrap_or(0),
        _ => bytes.arbitrary()?,
    };
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = value(bytes)?;
    }
    Ok(Data { nr, arch: arch.token(), args })
}

fuzz_target!(|bytes: &[u8]| {
    let mut left = Unstructured::new(bytes);
    let Ok(profile) = profile(&mut left) else { return };
    let filter = match compile_for(&profile, Arch::X86_64) {
        Ok(filter) => filter.expect("it has a default action"),
        Err(e) => {
            let words = e.to_string();
            assert!(words.contains("same conditions and another action") || words.contains("the kernel takes 4096"), "{words}");
            return;
        }
    };
    assert!((1..=MAX_INSTRUCTIONS).contains(&filter.program.len()));
    // Every way through it ends: the kernel's checker wants that, too.
    assert!(depth(&filter.program) <= filter.program.len());
    if let Some(kept) = stored::bytes(&filter) {
        assert_eq!(stored::filter(&kept).expect("it comes back").program.len(), filter.program.len());
    }
    while !left.is_empty()
        && let Ok(call) = call(&mut left)
    {
        assert_eq!(run(&filter.program, &call), judge(&profile, &call), "{call:x?} {profile:#?}");
    }
    let seed = bytes.iter().fold(1, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)) | 1;
    let (pool, mut random) = (Pool::of(&profile), Random(seed));
    for _ in 0..200 {
        let call = pool.call(&mut random);
        assert_eq!(run(&filter.program, &call), judge(&profile, &call), "{call:x?} {profile:#?}");
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(filter) = raw::filter(text, Some(&profile))
    {
        assert!((1..=MAX_INSTRUCTIONS).contains(&filter.program.len()));
    }
});
