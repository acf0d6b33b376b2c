//! seccomp programs against libseccomp, seccompiler, the kernel, and the rules themselves. Needs libseccomp-dev, not root.

mod bpf;
mod differential;
mod engine;
mod figures;
mod kernel;
mod libseccomp_as_runc;
mod made;
mod random;
mod rules;
mod seccompiler_oracle;
mod table;
