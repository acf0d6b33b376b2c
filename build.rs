//! What is decided when the program is built: how it starts, and what is left out of it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=linker.ld");
    println!("cargo::rerun-if-changed=order.ld");
    println!("cargo::rerun-if-changed={START}");
    // order.ld: what commands run lies side by side in the file.
    // linker.ld: with `panic = "abort"` nothing reads the tables for unwinding, and they are a tenth of the file. What is linked
    // in comes with them, the C library and Rust's own, so that only the linker can leave them out.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        for script in ["linker.ld", "order.ld"] {
            println!("cargo::rustc-link-arg-bin=onggi=-Wl,-T,{}", root.join(script).display());
        }
    }
    println!("cargo::rustc-check-cfg=cfg(own_start)");
    if is_for_here() && own_start_works(&root.join(START)) {
        println!("cargo::rustc-cfg=own_start");
    }
}

/// Names what is glibc's own, which may be otherwise in another version of it.
const START: &str = "src/sys/glibc.rs";

/// Whether the program is made for the machine that makes it, static, for x86-64 with glibc.
fn is_for_here() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|text| text.split(',').any(|part| part == value));
    env::var_os("HOST") == env::var_os("TARGET")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_FEATURE", "crt-static")
}

/// Builds a program with that start-up, as the product is built, and runs it: arguments, environment, memory, a thread and an errno must be right.
fn own_start_works(start: &Path) -> bool {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let (source, program) = (out.join("start.rs"), out.join("start"));
    let text = format!("#![no_main]\n#[path = {start:?}]\nmod glibc;\n{TRIAL}");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let linker = env::var("RUSTC_LINKER").map(|linker| format!("-Clinker={linker}")).ok();
    let built = std::fs::write(&source, text).is_ok()
        && Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition=2024", "--crate-name=start", "-Cpanic=abort", "-Copt-level=2"])
            .args(flags.split('\x1f').filter(|flag| !flag.is_empty()))
            .args(linker)
            .arg("-o")
            .arg(&program)
            .arg(&source)
            .output()
            .is_ok_and(|output| output.status.success());
    built
        && Command::new(&program)
            .arg("one")
            .env_clear()
            .env("NUMBER", "two")
            .output()
            .is_ok_and(|output| output.status.success() && output.stdout == b"one two true true\n")
}

const TRIAL: &str = r#"
#[unsafe(no_mangle)]
extern "C" fn main(_: i32, _: *const *const u8) -> i32 {
    let large = vec![7_u8; 3 << 20];
    let same = std::thread::spawn(move || large.clone() == large).join().unwrap_or(false);
    let absent = std::fs::read("/proc/none").is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    let word = std::env::args().nth(1).unwrap_or_default();
    println!("{word} {} {same} {absent}", std::env::var("NUMBER").unwrap_or_default());
    0
}
"#;
