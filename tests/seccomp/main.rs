//! seccomp programs against libseccomp, seccompiler, the kernel, and the rules themselves. Needs libseccomp-dev, not root.
//!
//! Engines' profiles are taken as on amd64, so what is native there is compared there only.

mod bpf;
#[cfg(target_arch = "x86_64")]
mod differential;
#[cfg(target_arch = "x86_64")]
mod engine;
#[cfg(target_arch = "x86_64")]
mod figures;
mod judge;
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(target_arch = "x86_64")]
mod libseccomp_as_runc;
#[cfg(target_arch = "x86_64")]
mod made;
mod random;
mod rules;
mod seccompiler_oracle;
mod table;
