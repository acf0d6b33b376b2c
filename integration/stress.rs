//! F-08, F-09, F-21: the same thing over and over, and at once; and an account of what that has left on the host.
//!
//! `make test` does some hundreds of each; `make stress` (`ONGGI_STRESS=full`) ten thousand, and prints the figures.

mod account;

use crate::bundle::{Bundle, within};
use crate::case;
use crate::case::Case;
use crate::hostdelta::Snapshot;
use crate::survival::at_once;
use account::Account;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const OURS: &str = "others lose some, leave some, or end otherwise";

pub fn cases() -> Vec<Case> {
    vec![
        case!(f_21_short_runs_lose_nothing_and_leave_nothing).ours(OURS),
        case!(f_21_short_execs_have_the_right_status_and_leave_nothing).ours(OURS),
        case!(f_09_a_hundred_containers_at_once_leave_nothing).ours(OURS),
        case!(f_08_six_commands_at_once_have_one_winner_each).ours(OURS),
        case!(the_account_sees_what_is_left),
    ]
}

/// How often: in full, so many hundredths of that, or as a sample.
fn times(full: u32, sample: u32) -> u32 {
    match std::env::var("ONGGI_STRESS").as_deref() {
        Ok("full") => full,
        Ok(part) => (full * part.parse::<u32>().expect("full, or a number of hundredths")).div_ceil(100),
        Err(_) => sample,
    }
}

/// Longest that one of these may take: something hangs else.
const HANGS: Duration = Duration::from_secs(30);

/// What starts each command of a bundle, for several threads.
struct Line {
    id: String,
    words: Vec<std::ffi::OsString>,
    dir: std::path::PathBuf,
}

impl Line {
    fn of(bundle: &Bundle) -> Line {
        let none = bundle.command::<&str>([]);
        let words = std::iter::once(none.get_program()).chain(none.get_args()).map(ToOwned::to_owned).collect();
        Line { id: bundle.id.clone(), words, dir: bundle.dir() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(words).current_dir(&self.dir).stdin(Stdio::null());
        command
    }
}

/// The command with streams that nobody reads, and how it must end.
fn ends(mut command: Command, status: i32) -> Result<Duration, String> {
    let start = Instant::now();
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start a command");
    match within(&mut child, HANGS) {
        None => Err("hangs".into()),
        Some(found) if found == status => Ok(start.elapsed()),
        Some(found) => {
            let mut said = String::new();
            let _ = std::io::Read::read_to_string(&mut child.stderr.take().expect("a pipe"), &mut said);
            Err(format!("ends with {found}: {}", said.trim()))
        }
    }
}

/// Two at a time, as there are processors; tells the longest.
fn repeat(what: &str, count: u32, one: impl Fn(u32) -> Result<Duration, String> + Sync) {
    let (begin, next) = (Instant::now(), std::sync::atomic::AtomicU32::new(0));
    let (longest, wrong) = (Mutex::new(Duration::ZERO), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    match one(n) {
                        Ok(took) => {
                            let mut longest = longest.lock().expect("no panic under the lock");
                            *longest = took.max(*longest);
                        }
                        Err(error) => wrong.lock().expect("no panic under the lock").push(format!("{n}: {error}")),
                    }
                }
            });
        }
    });
    let (longest, wrong) = (longest.into_inner().expect("no panic"), wrong.into_inner().expect("no panic"));
    let took = begin.elapsed();
    eprintln!("{what}: {count} in {took:.1?}, {} wrong, the longest took {longest:.0?}", wrong.len());
    assert!(wrong.is_empty(), "{what}: {:#?}", &wrong[..wrong.len().min(20)]);
}

fn f_21_short_runs_lose_nothing_and_leave_nothing() {
    let bundle = Bundle::new();
    bundle.write();
    let (before, account) = (Snapshot::of(&bundle), Account::take(&bundle));
    let line = Line::of(&bundle);
    repeat("run true", times(10_000, 300), |n| ends(line.command(&["run", &format!("{}-{n}", line.id)]), 0));
    account.assert_unchanged();
    before.assert_unchanged();
}

fn f_21_short_execs_have_the_right_status_and_leave_nothing() {
    let bundle = Bundle::new().args(["sleep", "100000"]);
    let container = bundle.detach();
    let (before, account) = (Snapshot::of(&bundle), Account::take(&bundle));
    let open = || std::fs::read_dir(format!("/proc/{}/fd", container.pid)).expect("list its descriptors").count();
    let had = open();
    let line = Line::of(&bundle);
    repeat("exec false", times(10_000, 300), |_| ends(line.command(&["exec", &line.id, "false"]), 1));
    assert_eq!(open(), had);
    account.assert_unchanged();
    before.assert_unchanged();
    container.ok("delete", &["--force"]);
}

fn f_09_a_hundred_containers_at_once_leave_nothing() {
    let bundle = Bundle::new().args(["sleep", "100000"]);
    bundle.write();
    // One for all rounds: what each leaves adds up.
    let (before, account) = (Snapshot::of(&bundle), Account::take(&bundle));
    let id = |n: u32| format!("{}-{n}", bundle.id);
    for round in 0..times(20, 1) {
        let begin = Instant::now();
        for words in [vec!["create"], vec!["start"], vec!["exec", "true"], vec!["kill", "KILL"], vec!["delete", "--force"]] {
            let start = |n: u32| {
                let own = id(n);
                let mut line = vec![words[0], own.as_str()];
                if words[1..] == ["--force"] {
                    line.insert(1, "--force")
                } else {
                    line.extend(&words[1..])
                }
                let said = std::fs::File::create(bundle.home.join(format!("said.{n}"))).expect("make a file");
                bundle.command(line).stdout(Stdio::null()).stderr(said).spawn().expect("start a command")
            };
            let mut children: Vec<Child> = (0..100).map(start).collect();
            for (n, child) in children.iter_mut().enumerate() {
                let status = within(child, 4 * HANGS);
                let said = std::fs::read_to_string(bundle.home.join(format!("said.{n}"))).unwrap_or_default();
                assert!(status == Some(0) && said.is_empty(), "round {round}: {words:?} of {n}: {status:?} {said}");
            }
        }
        eprintln!("round {round}: the lives of 100 containers at once took {:.1?}", begin.elapsed());
        account.assert_unchanged();
        before.assert_unchanged();
    }
}

/// Six of each on one container. Of each command one wins, where only one can; the rest say in one line why not.
fn f_08_six_commands_at_once_have_one_winner_each() {
    let bundle = Bundle::new().args(["sleep", "100000"]);
    bundle.write();
    let account = Account::take(&bundle);
    let id = bundle.id.as_str();
    let (begin, rounds) = (Instant::now(), times(200, 20));
    for round in 0..rounds {
        let before = Snapshot::of(&bundle);
        for (words, winners, why) in [
            (vec!["create", id], Some(1), &["container with given ID already exists"][..]),
            (vec!["start", id], Some(1), &["cannot start an already running container"]),
            (vec!["exec", id, "true"], Some(6), &[]),
            (vec!["state", id], Some(6), &[]),
            (vec!["kill", id, "KILL"], None, &["container not running"]),
            (vec!["delete", "--force", id], Some(6), &[]),
        ] {
            let ends = at_once(&bundle, &vec![words.clone(); 6]);
            for (status, said) in &ends {
                let clean = said.lines().count() == 1 && why.iter().any(|why| said.contains(why));
                assert!(*status == 0 && said.is_empty() || *status == 1 && clean, "round {round}: {words:?}: {ends:?}");
            }
            let won = ends.iter().filter(|(status, _)| *status == 0).count();
            assert!(winners.map_or(won >= 1, |winners| won == winners), "round {round}: {words:?}: {won} won: {ends:?}");
        }
        // And all six of them together.
        let ends = at_once(&bundle, &[vec!["create", id]]);
        assert_eq!(ends, [(0, String::new())]);
        let all = [
            vec!["start", id],
            vec!["exec", id, "true"],
            vec!["state", id],
            vec!["kill", id, "KILL"],
            vec!["pause", id],
            vec!["delete", "--force", id],
        ];
        for ((status, said), words) in at_once(&bundle, &all).iter().zip(&all) {
            let clean = if *status == 0 { said.is_empty() } else { [1, 255].contains(status) && said.lines().count() == 1 };
            // A program that is killed in its exec has the status of that.
            let ended = words[0] == "exec" && *status == 137 && said.is_empty();
            assert!(clean || ended, "round {round}: {words:?} ends with {status} and says {said:?}");
            assert!(words[0] != "delete" || *status == 0, "round {round}: {said:?}");
        }
        before.assert_unchanged();
    }
    eprintln!("{rounds} rounds of 6 x 6 and 6 commands at once took {:.1?}", begin.elapsed());
    account.assert_unchanged();
}

fn the_account_sees_what_is_left() {
    let bundle = Bundle::new();
    let account = Account::take(&bundle);
    let group = std::path::Path::new("/sys/fs/cgroup").join(format!("left-{}", bundle.id));
    std::fs::create_dir(&group).expect("make a cgroup");
    let left = account.delta();
    std::fs::remove_dir(group).expect("remove it");
    assert!(left.iter().any(|line| line.starts_with("cgroups")), "{left:?}");
    let kept: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").expect("open a file")).collect();
    let left = account.delta();
    drop(kept);
    assert!(left.iter().any(|line| line.starts_with("descriptors")), "{left:?}");
    // By a thread that is in each for a moment.
    let kept = std::thread::spawn(|| {
        let make = |_| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            std::fs::File::open("/proc/thread-self/ns/net").expect("keep it")
        };
        (0..60).map(make).collect::<Vec<_>>()
    });
    let kept = kept.join().expect("no panic");
    let left = account.delta();
    drop(kept);
    assert!(left.iter().any(|line| line.starts_with("network namespaces")), "{left:?}");
}
