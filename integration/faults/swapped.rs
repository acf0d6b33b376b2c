//! The ground moves while `create` works (SEC-04, SEC-07, SEC-13, SEC-14, SEC-24): before each of its system calls in turn names
//! are exchanged with links to the host's canary, for good or for that one call; or a mount is put over a path in the
//! container's mount namespace. The canary stays as it was, the host's mounts too, and `create` makes what was asked for or
//! leaves nothing.

mod scenes;

use super::scene::{Scene, Who, confined};
use super::table::{Sweep, Tried};
use crate::bundle::Bundle;
use crate::canary::Canary;
use crate::case::Case;
use std::fs;
use std::time::Duration;

const PEERS: &str = "CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881";

/// What is done before a call.
enum Attack {
    /// Names of the bundle's home and links beside them, exchanged.
    Swap(Vec<(String, String)>),
    /// A file or directory of the canary put over a path of the container.
    Cover { source: &'static str, target: &'static str },
}

/// A bundle, an attack on it, and what its program has to find if it is made.
struct Scenario {
    name: String,
    bundle: fn(Bundle, &Canary) -> Bundle,
    attack: Attack,
    /// What is wrong with the created container; its program has not been started.
    created: fn(&Scene) -> Vec<String>,
    /// What is wrong with what the program has found.
    found: fn(&Scene, &Canary, &str) -> Vec<String>,
    terminal: bool,
    vm: bool,
}

pub fn cases() -> Vec<Case> {
    scenes::all().into_iter().flat_map(modes).collect()
}

/// Exchanged for good, and for one call; a mount stays.
fn modes(scenario: Scenario) -> Vec<Case> {
    let scenario = std::sync::Arc::new(scenario);
    let modes: &[&str] = match (&scenario.attack, scenario.name.contains("hidden")) {
        (Attack::Cover { .. }, _) => &["mount"],
        // Whoever may take a name away for a moment can have a path that is to be hidden looked for in that moment.
        (_, true) => &["swap"],
        (_, false) => &["swap", "flip"],
    };
    let one = |mode: &'static str| {
        let scenario = scenario.clone();
        let what = match mode {
            "swap" => "exchanged",
            "flip" => "exchanged_for_one_call",
            _ => "covered",
        };
        let name = format!("{}_{what}_at_any_call_leads_nowhere", scenario.name.replace(['/', ' '], "_"));
        let case = Case::of(module_path!(), &name, {
            let scenario = scenario.clone();
            move || sweep(&scenario, mode)
        });
        let case = case.ours(PEERS);
        if scenario.vm { case.vm("AppArmor") } else { case }
    };
    modes.iter().copied().map(one).collect()
}

fn sweep(scenario: &Scenario, mode: &str) {
    let (whole, calls) = point(scenario, "tree-count", 0);
    assert!(whole.wrong.is_empty(), "{}, undisturbed: {:?}", scenario.name, whole.wrong);
    let sweep = Sweep {
        command: "create ID".into(),
        who: "root",
        mode: match &scenario.attack {
            Attack::Cover { target, .. } => format!("{target} covered"),
            Attack::Swap(_) if mode == "flip" => format!("{} swapped for one call", scenario.name),
            Attack::Swap(_) => format!("{} swapped", scenario.name),
        },
        calls,
        first: 1,
        step: if crate::stage::vm() { 120 } else { 60 },
    };
    let wrong = sweep.check(|at| point(scenario, mode, at).0);
    assert!(wrong.is_empty(), "{wrong}");
}

fn point(scenario: &Scenario, mode: &str, at: u64) -> (Tried, u64) {
    let bundle = confined(Who::Root);
    let canary = Canary::new(&bundle);
    let bundle = (scenario.bundle)(bundle.set("/process/terminal", scenario.terminal), &canary);
    let home = bundle.home.display().to_string();
    let scene = Scene::new(Who::Root, bundle);
    let argument = match (&scenario.attack, mode) {
        (_, "tree-count") => "tree-count".into(),
        (Attack::Swap(pairs), mode) => {
            let pairs: Vec<String> = pairs.iter().map(|(a, b)| format!("{home}/{a}:{home}/{b}")).collect();
            format!("tree-{mode}={}", pairs.join(","))
        }
        (Attack::Cover { source, target }, _) => {
            let (canary, rootfs) = (canary.path.display(), scene.bundle.rootfs());
            format!("tree-mount={canary}/{source}:{target}:{}", rootfs.display())
        }
    };
    let mut wrong = Vec::new();
    let words: &[&str] = if scenario.terminal { &["create", "--console-socket=HOME/console", "ID"] } else { &["create", "ID"] };
    let Some(report) = scene.trace(&argument, at, words, None, super::hangs()) else {
        let hanging = Tried::hanging(at);
        scene.mop_up(&hanging.wrong);
        return (hanging, 0);
    };
    if report.printed.contains("panicked") {
        wrong.push(format!("panics: {}", report.printed.trim()));
    }
    if report.status == 0 {
        wrong.extend((scenario.created)(&scene));
        let start = scene.call(&["start", "ID"]);
        if start.status == 0 {
            let path = scene.bundle.home.join("out/found");
            let whole = |text: &String| text.ends_with("END\n");
            let mut found = String::new();
            if scene.within(Duration::from_secs(10), |_| {
                found = fs::read_to_string(&path).unwrap_or_default();
                whole(&found)
            }) {
                wrong.extend((scenario.found)(&scene, &canary, &found));
            } else {
                wrong.push(format!("the program does not come to its end: {found}"));
            }
        } else if start.stderr.lines().count() != 1 || report.place.is_none() {
            wrong.push(format!("does not start: {}", start.stderr.trim()));
        }
    } else {
        if report.printed.lines().count() != 1 {
            wrong.push(format!("fails in other than one line: {:?}", report.printed));
        }
        if report.place.is_none() {
            wrong.push(format!("fails undisturbed: {}", report.printed.trim()));
        }
        wrong.extend(scene.before.delta());
    }
    if !canary.is_unchanged() {
        wrong.push("the canary has changed".into());
    }
    scene.clear(&mut wrong);
    (Tried { call: report.call, place: report.place, wrong, hangs: false }, report.calls)
}
