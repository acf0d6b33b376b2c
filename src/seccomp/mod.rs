//! `linux.seccomp` compiled to classic BPF (seccomp(2), OCI runtime spec config-linux.md, "Seccomp").
//!
//! Pure: a profile in, a program out; loading it is `crate::sys::seccomp`. What a profile means follows runc and libseccomp
//! 2.5, so that an engine's profile gives the verdicts it was written for:
//!
//! * Names that no architecture has are left out and listed in [`Filter::unknown`]. A rule whose action (with its errno) is
//!   the default's says nothing, not even before a later rule of the same call.
//! * Of the unconditional rules for a call the first wins, over all conditional ones too. Conditional rules are tried in the
//!   order of the profile; two with the same conditions and different actions are an error.
//! * The conditions of a rule must all hold, unless two of them look at one argument: then any one suffices.
//! * A program that makes a call newer than every call of the profile gets `ENOSYS`, since C libraries probe for new calls
//!   and give up on `EPERM`. Not when the default lets calls through (ALLOW, LOG, TRACE).
//! * A call of an architecture that is not listed kills the thread, and so does an x32 number unless x32 is listed.
//! * Architectures of 32 bits (x32 among them) compare the low words of arguments.
//!
//! The program is, for each architecture, a binary tree over ranges of numbers: Docker's profile loads in a tenth of the time
//! that a list takes. seccompiler gives the instruction type; its own compiler knows one action and one architecture.

mod arch;
mod assemble;
mod index;
pub mod notify;
mod profile;
pub mod raw;
pub mod stored;
mod syscalls;
mod verdicts;
mod words;

pub use arch::{ARCHS, Arch};
pub use words::{ACTIONS, FLAGS, OPERATORS};

use crate::config::Seccomp;
use crate::error::Result;
use crate::sys::seccomp as kernel;
pub use crate::sys::seccomp::MAX_INSTRUCTIONS;
use assemble::Assembler;
use profile::Profile;
use seccompiler::BpfProgram;

/// A profile, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// 1 to 4096 instructions (`BPF_MAXINSNS`).
    pub program: BpfProgram,
    /// `SECCOMP_FILTER_FLAG_*` that the profile asks for; with `NEW_LISTENER` exactly when `notify` is there. TSYNC is left
    /// out: the process that loads has one thread. So is WAIT_KILLABLE_RECV without a listener, which the kernel refuses.
    pub flags: u32,
    /// The profile has no `flags` at all: SPEC_ALLOW is wanted if the kernel knows it.
    pub spec_allow_optional: bool,
    /// Where the listener goes.
    pub notify: Option<notify::Notify>,
    /// Names in the profile that no architecture knows, in their order.
    pub unknown: Vec<String>,
}

impl Filter {
    /// The flags to load with. `spec_allow` tells whether the kernel knows SPEC_ALLOW (`sys::seccomp::flag_known`).
    pub fn load_flags(&self, spec_allow: bool) -> u32 {
        if self.spec_allow_optional && spec_allow { self.flags | kernel::FLAG_SPEC_ALLOW } else { self.flags }
    }
}

/// Compiles for the machine this runs on. `None`: no default action and no rules, which switches seccomp off.
///
/// Errors name the field under `/linux/seccomp`.
pub fn compile(seccomp: &Seccomp) -> Result<Option<Filter>> {
    compile_for(seccomp, Arch::NATIVE)
}

/// Compiles for a kernel of architecture `native`, which is always among the architectures of the filter.
pub fn compile_for(seccomp: &Seccomp, native: Arch) -> Result<Option<Filter>> {
    if seccomp.default_action.is_empty() && seccomp.syscalls.is_empty() {
        return Ok(None);
    }
    let notify = notify::wanted(seccomp).map_err(|e| e.under("/linux/seccomp"))?;
    let mut flags = words::flags(seccomp).map_err(|e| e.under("/linux/seccomp"))?;
    if notify.is_some() {
        flags |= kernel::FLAG_NEW_LISTENER;
    } else {
        flags &= !kernel::FLAG_WAIT_KILLABLE_RECV;
    }
    let profile = Profile::read(seccomp, native).map_err(|e| e.under("/linux/seccomp"))?;
    let mut chains = verdicts::Chains::default();
    let mut sections = Vec::with_capacity(profile.archs.len());
    for &arch in &profile.archs {
        if sections.iter().any(|(token, _)| *token == arch.token()) {
            continue; // x86_64 and x32 share a token, and a section
        }
        let ranges = verdicts::ranges(&profile, arch.token(), &mut chains).map_err(|e| e.under("/linux/seccomp"))?;
        sections.push((arch.token(), ranges));
    }
    let program = Assembler::new(&chains, profile.default, native.big_endian()).program(&sections)?;
    Ok(Some(Filter { program, flags, spec_allow_optional: seccomp.flags.is_none(), notify, unknown: profile.unknown }))
}
