//! Leaves the tables for unwinding out of the release build: with `panic = "abort"` nothing reads them, and they are a
//! tenth of the file. What is linked in comes with them, the C library and Rust's own, so that only the linker can.

fn main() {
    println!("cargo::rerun-if-changed=linker.ld");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bin=onggi=-Wl,-T,{root}/linker.ld");
    }
}
