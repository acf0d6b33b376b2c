//! The parent in other namespaces, which its child is to live in and cannot enter by itself: PID and time namespaces, and what lies
//! above a user namespace that is joined by path.

use super::open::Opened;
use crate::error::{Context, Error, Result};
use crate::plan::Plan;
use crate::sys::clone::{self, flags};
use crate::sys::namespaces::Namespaces;
use crate::sys::{auxv, creds};
use std::os::fd::{AsFd, OwnedFd};

/// Namespaces that the parent is in just for the clone.
pub(super) struct Around {
    home: Vec<(OwnedFd, u64)>,
}

impl Around {
    /// Enters what the plan lists, or nothing. `own` are the runtime's namespaces, if somebody has looked them up.
    pub(super) fn enter(plan: &Plan, slots: &[Opened], own: Option<Namespaces>) -> Result<Self> {
        let mut around = Self { home: Vec::new() };
        let entered = around.enter_all(plan, slots, own);
        if let Err(e) = entered {
            around.leave()?;
            return Err(e);
        }
        Ok(around)
    }

    fn enter_all(&mut self, plan: &Plan, slots: &[Opened], mut own: Option<Namespaces>) -> Result<()> {
        let joins = plan.namespaces.outer.iter().any(|(_, kind)| *kind == flags::NEWPID);
        // The child would be there to be traced from its first instruction (CVE-2016-9962). Only to write maps a user must
        // own its files in procfs; then it says so itself.
        if joins && (plan.namespaces.maps.is_none() || auxv::euid() == 0) {
            creds::set_undumpable().step("prctl", || "become undumpable".into())?;
        }
        for (slot, kind) in &plan.namespaces.outer {
            let name = crate::plan::namespaces::name(*kind);
            self.remember(*kind, &mut own)?;
            let field = plan.opens.get(slot.0).map_or("", |o| &o.field);
            let Some(Opened::Fd(fd, _)) = slots.get(slot.0) else { continue };
            clone::setns(fd.as_fd(), *kind).step("setns", || format!("enter the {name} namespace")).map_err(|e| {
                let e = e.at(field);
                if *kind == flags::NEWPID { e.hint("it must be the runtime's own or one below it") } else { e }
            })?;
        }
        if let Some(offsets) = &plan.namespaces.time {
            let at = |e: Error| e.at("/linux/timeOffsets");
            self.remember(flags::NEWTIME, &mut own)?;
            clone::unshare(flags::NEWTIME).step("unshare", || "make a time namespace".into()).map_err(at)?;
            if !offsets.is_empty() {
                std::fs::write("/proc/self/timens_offsets", offsets)
                    .step("write", || "write the offsets of the time namespace".into())
                    .map_err(at)?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, kind: u64, own: &mut Option<Namespaces>) -> Result<()> {
        let step = || format!("open the runtime's {} namespace", crate::plan::namespaces::name(kind));
        let own = match own {
            Some(own) => own,
            None => own.insert(Namespaces::own().step("openat", step)?),
        };
        self.home.push((own.open(kind).step("openat", step)?, kind));
        Ok(())
    }

    /// Comes back.
    pub(super) fn leave(self) -> Result<()> {
        for (fd, kind) in &self.home {
            let name = crate::plan::namespaces::name(*kind);
            clone::setns(fd.as_fd(), *kind).step("setns", || format!("return to the runtime's {name} namespace"))?;
        }
        Ok(())
    }
}
