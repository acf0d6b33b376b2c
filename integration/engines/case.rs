//! One case: what it is called, what it covers, what it needs.

use crate::here::Here;
use crate::stage;
use crate::system;
use libtest_mimic::Trial;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::RwLock;

/// A case; made by [`Case::new`].
pub struct Case {
    engine: &'static str,
    name: &'static str,
    covers: &'static str,
    run: Box<dyn Fn(&Here) + Send>,
    needs: Vec<Need>,
    except: Vec<(&'static str, &'static str)>,
    long: bool,
    alone: bool,
}

/// What not every host has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Need {
    /// The cgroup v2 controllers memory, cpu, pids, io and cpuset.
    Controllers,
    /// systemd as the first process, and as the one who makes the cgroups.
    SystemdDriver,
    /// AppArmor switched on, and its parser.
    AppArmor,
    /// A runtime that has `checkpoint` and `restore`, and criu.
    Checkpoint,
    /// The right to raise limits and lower the OOM score (`CAP_SYS_RESOURCE`).
    Resources,
}

/// What the name of a case's last try ends in.
const LAST: &str = "_once_more";

/// Cases hold it for reading; one that looks at the whole system holds it for writing.
static TURN: RwLock<()> = RwLock::new(());

impl Case {
    /// `covers` is one line for readers of the list. What the function returns is of no interest.
    pub fn new<T>(
        engine: &'static str,
        name: &'static str,
        covers: &'static str,
        run: impl Fn(&Here) -> T + Send + 'static,
    ) -> Case {
        let run = Box::new(move |here: &Here| drop(run(here)));
        Case { engine, name, covers, run, needs: Vec::new(), except: Vec::new(), long: false, alone: false }
    }

    pub fn needs(mut self, need: Need) -> Case {
        self.needs.push(need);
        self
    }

    /// Does not run with that runtime, because of the reason.
    pub fn except(mut self, runtime: &'static str, reason: &'static str) -> Case {
        self.except.push((runtime, reason));
        self
    }

    /// Not for the quick round.
    pub fn long(mut self) -> Case {
        self.long = true;
        self
    }

    /// Not at the same time as any other.
    pub fn alone(mut self) -> Case {
        self.alone = true;
        self
    }

    fn reason_against(&self) -> Option<String> {
        let runtime = system::runtime_name();
        let docker = || {
            // Docker asks for limits by itself, as nothing to the others where there is no controller.
            let refused = self.engine == "docker" && runtime == "crun" && !system::has_controllers();
            refused.then(|| "crun: refuses what Docker asks for without the controllers".to_owned())
        };
        let except = self.except.iter().find(|(name, _)| *name == runtime).map(|(name, reason)| format!("{name}: {reason}"));
        let missing = || self.needs.iter().find_map(|need| need.missing()).map(str::to_owned);
        let elsewhere = || (stage::vm_only() && self.needs.is_empty()).then(|| "runs natively as well".to_owned());
        let long = || (self.long && system::quick()).then(|| "long: run by make test-engines".to_owned());
        except.or_else(docker).or_else(missing).or_else(elsewhere).or_else(long)
    }

    fn once(&self, name: &str) {
        let here = Here::new(self.engine, name);
        if self.alone {
            let _turn = TURN.write();
            (self.run)(&here);
        } else {
            let _turn = TURN.read();
            (self.run)(&here);
        }
    }

    pub fn trial(self) -> Trial {
        let reason = self.reason_against();
        let ignored = reason.is_some();
        Trial::test(format!("{}::{}", self.engine, self.name), move || {
            // The engines have races of their own: what fails once or twice is told, what fails three times is a failure. ctr
            // and dockerd, say, lose the output of a short program under load: at its end they cancel the open of the FIFO
            // that their own thread has not come back from (moby#45689; OpenFifo in containerd/fifo). Seen with runc, crun
            // and Onggi, once in 50 to 300 programs; never with one that lives 0.1 s longer.
            for tried in ["", "_again", LAST] {
                // By another name: what the one before has left is not in its way.
                let name = format!("{}{tried}", self.name);
                let run = || self.once(&name);
                if tried == LAST {
                    run();
                } else if std::panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
                    continue;
                }
                if !tried.is_empty() {
                    eprintln!("{}::{}: passed when tried again", self.engine, self.name);
                }
                break;
            }
            Ok(())
        })
        .with_kind(reason.unwrap_or_default())
        .with_ignored_flag(ignored)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{}::{}", self.engine, self.name);
        write!(to, "{name:<36} {}", self.covers)?;
        for need in &self.needs {
            write!(to, " [{need:?}]")?;
        }
        if self.long { write!(to, " [long]") } else { Ok(()) }
    }
}

impl Need {
    /// The reason why it cannot be had here.
    fn missing(self) -> Option<&'static str> {
        match self {
            Need::Controllers => (!system::has_controllers()).then_some("no memory, cpu and pids controllers on cgroup v2 here"),
            Need::SystemdDriver => (!system::has_systemd_driver()).then_some("systemd does not make the cgroups here"),
            Need::AppArmor => (!system::has_apparmor()).then_some("no AppArmor here"),
            Need::Checkpoint => (!system::has_checkpoint()).then_some("no runtime with checkpoint, or no criu"),
            Need::Resources => (!system::has_resources()).then_some("no CAP_SYS_RESOURCE here"),
        }
    }
}
