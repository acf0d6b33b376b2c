//! Our program and libseccomp's, run side by side: no call may get another verdict.

use crate::{bpf, engine, libseccomp_as_runc as oracle, made, random};
use onggi::config::Seccomp;
use onggi::seccomp::compile;

const CALLS: usize = 1_000_000;

fn compare(name: &str, profile: &Seccomp, calls: usize, tree: bool) {
    let profile = oracle::known_names(profile);
    let ours = compile(&profile).unwrap().unwrap();
    assert_eq!(ours.unknown, Vec::<String>::new());
    let theirs = oracle::program(&profile, tree).unwrap_or_else(|e| panic!("{name}: libseccomp: {e}"));
    let stub = oracle::Stub::new(&profile);
    let pool = random::Pool::of(&profile);
    let mut random = random::Random(0x9e37_79b9_7f4a_7c15);
    // Numbers and arguments are drawn apart and then combined: drawing is what takes long in a build without optimisation.
    let drawn: Vec<(bpf::Data, [u32; 16])> =
        std::iter::repeat_with(|| pool.call(&mut random)).map(|call| (call, call.words())).take(1 << 16).collect();
    for _ in 0..calls {
        let r = random.next();
        let target = &drawn[(r >> 48) as usize].0;
        let mut words = drawn[(r >> 32 & 0xffff) as usize].1;
        (words[0], words[1]) = (target.nr, target.arch);
        let want = match stub.answer(target.arch, target.nr) {
            Some(answer) => answer,
            None => bpf::run_words(&theirs, &words),
        };
        let got = bpf::run_words(&ours.program, &words);
        assert!(got == want, "{name}: {words:x?}: {got:#x}, not {want:#x}");
    }
}

#[test]
fn engines_profiles_agree_with_libseccomp() {
    for (name, profile) in engine::profiles() {
        compare(name, &profile, CALLS, true);
        compare(name, &profile, CALLS / 100, false);
    }
}

#[test]
fn made_profiles_agree_with_libseccomp() {
    let made = made::profiles();
    assert!(made.len() >= 30);
    for (name, profile) in made {
        compare(name, &profile, CALLS, true);
        compare(name, &profile, CALLS / 100, false);
    }
}

/// Every number that any architecture has, with arguments that meet and miss conditions: nothing left to chance.
#[test]
fn every_number_agrees_with_libseccomp() {
    for (name, profile) in engine::profiles().into_iter().chain(made::profiles()) {
        let profile = oracle::known_names(&profile);
        let ours = compile(&profile).unwrap().unwrap();
        let theirs = oracle::program(&profile, true).unwrap();
        let stub = oracle::Stub::new(&profile);
        for arch in [0xc000_003e, 0x4000_0003] {
            for nr in (0..1100).chain(0x4000_0000..0x4000_0450) {
                for value in [0, 1, 16, 40, u64::MAX] {
                    let call = bpf::Data { nr, arch, args: [value; 6] };
                    let want = stub.answer(arch, nr).unwrap_or_else(|| bpf::run(&theirs, &call));
                    assert_eq!(bpf::run(&ours.program, &call), want, "{name}: {call:x?}");
                }
            }
        }
    }
}
