//! Onggi, an OCI low-level container runtime.
//!
//! A container is a [`plan`]: the parent compiles `config.json` and what it knows of the host into an ordered list of
//! steps, the child of one `clone3` runs them in a loop, then `execve`. A file uses lower floors only (`tests/tidy.rs`):
//!
//! ```text
//! 6  main, cli            argv -> command -> exit status
//! 5  commands             one file a command: load, check, call down, print
//! 4  sandbox              brings a plan to life
//! 3  plan                 what config.json means here, as data: no I/O, no system call
//! 2  cgroup seccomp host store hooks console criu idmap network notify rdt seal
//! 1  config               what the user said
//! 0  error log sys        sys is the kernel: thin, typed, the only `unsafe`
//! ```
//!
//! The exceptions: `host` describes the cgroup hierarchy and says where resctrl is, `log` writes errors, and a command is given what `cli` made of
//! its arguments.
#![deny(unsafe_code)]
// Nothing in the product may panic where a value could say so, or cut a number. Tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::unimplemented,
        clippy::todo,
        clippy::dbg_macro,
        clippy::exit,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::undocumented_unsafe_blocks
    )
)]
#![warn(missing_docs)]

pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod config;
pub mod console;
pub mod criu;
pub mod error;
pub mod hooks;
pub mod host;
pub mod idmap;
pub mod log;
pub mod network;
pub mod notify;
pub mod plan;
pub mod rdt;
pub mod sandbox;
pub mod seal;
pub mod seccomp;
pub mod store;
pub mod sys;
