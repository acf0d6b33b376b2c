//! What the parent does around a container's start, on a live kernel: hooks, id maps, network devices, consoles, and the
//! foreground loop. Tests that need root say so and pass without it.

#[path = "parent/hooks.rs"]
mod hooks;
#[path = "parent/idmap.rs"]
mod idmap;
#[path = "parent/network.rs"]
mod network;
#[path = "parent/supervise.rs"]
mod supervise;

/// True if this process is root; else says which test did not run.
fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test} needs root");
    }
    root
}
