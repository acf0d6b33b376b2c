//! Cgroups made by systemd: a container is a transient scope (or slice), whose limits systemd knows as properties.
//!
//! What systemd cannot express is written to the files of the same cgroup afterwards by [`super::Cgroup`], which is also
//! all that the other commands need. The client is our own: [`wire`] and [`message`] are the protocol, [`connection`] one
//! blocking connection; no asynchronous runtime, and some six calls.

pub mod address;
pub mod connection;
pub mod message;
pub mod name;
pub mod properties;
pub mod text;
pub mod wire;

pub use address::Instance;
pub use name::Name;

use crate::error::{Errno, Error, Result};
use connection::{Connection, Refused};
use properties::Property;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use wire::Value;

/// How long a job of systemd's may take.
const JOB: Duration = Duration::from_secs(30);

/// A unit to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// What it is called and where it lies.
    pub name: Name,
    /// Whose systemd makes it.
    pub instance: Instance,
    /// What it is told, in order: later ones win.
    pub properties: Vec<Property>,
}

impl Unit {
    /// A unit for the container `id`: what all get, what annotations give, and the limits.
    pub fn new(name: Name, instance: Instance, id: &str, annotated: Vec<Property>, limits: Vec<Property>) -> Self {
        let property = |name: &str, value| (name.to_owned(), value);
        let mut properties = vec![property("Description", Value::text(format!("onggi container {id}")))];
        if name.is_slice() {
            properties.push(property("Wants", Value::texts(&[&name.slice])));
        } else {
            properties.push(property("Slice", Value::text(&*name.slice)));
            properties.push(property("Delegate", Value::Bool(true)));
        }
        for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            properties.push(property(accounting, Value::Bool(true)));
        }
        // Else it would be stopped early at shutdown, and wait for the start of the machine to be complete.
        properties.push(property("DefaultDependencies", Value::Bool(false)));
        // One that failed goes too, and its name is free.
        properties.push(property("CollectMode", Value::text("inactive-or-failed")));
        properties.extend(annotated);
        properties.extend(limits);
        Self { name, instance, properties }
    }
}

/// Where a unit is to be found by later commands, which have no environment to go by. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Whose systemd has it.
    pub instance: Instance,
    /// Where that was spoken to.
    pub address: String,
    /// The unit's name.
    pub unit: String,
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.instance, self.unit, self.address)
    }
}

impl Registered {
    /// Reads the text.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(instance @ ("system" | "user")), Some(unit), Some(address)) => {
                let instance = if instance == "system" { Instance::System } else { Instance::User };
                Ok(Self { instance, address: address.into(), unit: unit.into() })
            }
            _ => Err(Error::new("read the unit's name", format!("{text:?} names none"))),
        }
    }
}

/// A systemd that listens.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
    instance: Instance,
}

impl Systemd {
    /// Connects to the one that makes units for this caller.
    ///
    /// # Errors
    /// There is none, or it does not let us in; with what to do about it.
    pub fn connect(instance: Instance) -> Result<Self> {
        Self::first(instance, &instance.addresses(|name| std::env::var_os(name))?)
    }

    /// Connects to the one that has a unit: where it was spoken to before, else as for a new one.
    ///
    /// # Errors
    /// As [`Systemd::connect`].
    pub fn of(unit: &Registered) -> Result<Self> {
        let mut addresses = vec![unit.address.clone()];
        // Without a session in the environment there is only the one that is known.
        addresses.extend(unit.instance.addresses(|name| std::env::var_os(name)).unwrap_or_default());
        addresses.dedup();
        Self::first(unit.instance, &addresses)
    }

    fn first(instance: Instance, addresses: &[String]) -> Result<Self> {
        let mut failed: Option<Error> = None;
        for address in addresses {
            match Connection::open(address) {
                Ok(connection) => return Ok(Self { connection, instance }),
                // The first that is more than an absent socket tells most.
                Err(e) => match &failed {
                    Some(before) if before.errno() != Some(Errno(libc::ENOENT)) => {}
                    _ => failed = Some(e),
                },
            }
        }
        let error = failed.unwrap_or_else(|| Error::new("speak to systemd", "no address"));
        if !error.hint_text().is_empty() {
            return Err(error);
        }
        Err(match instance {
            Instance::System => error.hint("is this host booted with systemd? Else leave out --systemd-cgroup"),
            Instance::User => error.hint(address::no_session()),
        })
    }

    /// What later commands find the unit by.
    pub fn register(&self, unit: &str) -> Registered {
        Registered { instance: self.instance, address: self.connection.address().into(), unit: unit.into() }
    }

    /// Makes the unit with `pid` in it, a slice without, and waits until it is there.
    ///
    /// # Errors
    /// What systemd says; also one of that name that is there and lives.
    pub fn start(&mut self, unit: &Unit, pid: u32) -> Result<()> {
        let mut properties = unit.properties.clone();
        if !unit.name.is_slice() {
            properties.push(("PIDs".into(), Value::Array("u".into(), vec![Value::U32(pid)])));
        }
        let name = unit.name.unit.as_str();
        let mut cleared = false;
        let job = loop {
            let body =
                vec![Value::text(name), Value::text("replace"), pairs(&properties), Value::Array("(sa(sv))".into(), vec![])];
            match self.connection.manager("StartTransientUnit", body)? {
                Ok(answer) => break answer.texts().first().map(|job| (*job).to_owned()).unwrap_or_default(),
                // Somebody has made it before: containers may share a slice.
                Err(refused) if is_there(&refused) && unit.name.is_slice() => return Ok(()),
                Err(refused) if is_there(&refused) && !cleared => {
                    // What is left of one that failed.
                    cleared = true;
                    self.reset(name)?;
                }
                Err(refused) => match unknown_property(&refused, &properties) {
                    // A systemd that does not know it does not touch the file either.
                    Some(unknown) => properties.retain(|(name, _)| *name != unknown),
                    None => return Err(self.refused(&format!("make the unit {name}"), &refused)),
                },
            }
        };
        self.wait(&job, &format!("make the unit {name}"))
    }

    /// Tells new limits of a unit that is there, and waits until they are in force.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let mut properties = properties.to_vec();
        while !properties.is_empty() {
            let body = vec![Value::text(unit), Value::Bool(true), pairs(&properties)];
            match self.connection.manager("SetUnitProperties", body)? {
                Ok(_) => break,
                Err(refused) => match unknown_property(&refused, &properties) {
                    Some(unknown) => properties.retain(|(name, _)| *name != unknown),
                    None => return Err(self.refused(&format!("set properties of the unit {unit}"), &refused)),
                },
            }
        }
        // It answers before it writes the files; the next message is read after that.
        self.connection.ping()?.map(drop).map_err(|refused| self.refused("wait for systemd", &refused))
    }

    /// Ends a unit, whose processes are gone, and whatever is remembered of it. One that is gone is a success.
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let step = format!("stop the unit {unit}");
        match self.connection.manager("StopUnit", vec![Value::text(unit), Value::text("replace")])? {
            Ok(answer) => {
                let job = answer.texts().first().map(|job| (*job).to_owned()).unwrap_or_default();
                self.wait(&job, &step)?;
            }
            Err(refused) if is_gone(&refused) => {}
            Err(refused) => return Err(self.refused(&step, &refused)),
        }
        self.reset(unit)
    }

    /// Kills every process of a unit.
    pub fn kill(&mut self, unit: &str) -> Result<()> {
        let body = vec![Value::text(unit), Value::text("all"), Value::I32(libc::SIGKILL)];
        match self.connection.manager("KillUnit", body)? {
            Ok(_) => Ok(()),
            Err(refused) if is_gone(&refused) || refused.name.ends_with(".NoSuchProcess") => Ok(()),
            Err(refused) => Err(self.refused(&format!("kill the unit {unit}"), &refused)),
        }
    }

    /// Moves a process into a unit's cgroup, or into one `below` it: for a user who may not do it by the file.
    pub fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<()> {
        let body = vec![Value::text(unit), Value::text(below), Value::Array("u".into(), vec![Value::U32(pid)])];
        let answer = self.connection.manager("AttachProcessesToUnit", body)?;
        answer.map(drop).map_err(|refused| self.refused(&format!("move a process into the unit {unit}"), &refused))
    }

    /// The directory, below the mount of cgroup2, that its units lie in.
    pub fn root(&mut self) -> Result<PathBuf> {
        let answer = self.connection.property("ControlGroup")?;
        let answer = answer.map_err(|refused| self.refused("ask for systemd's own cgroup", &refused))?;
        match answer.body.first() {
            Some(Value::Variant(inner)) if matches!(**inner, Value::Text(_)) => {
                let Value::Text(path) = &**inner else { return Ok(PathBuf::new()) };
                Ok(path.trim_start_matches('/').into())
            }
            _ => Err(Error::new("ask for systemd's own cgroup", "it gives none")),
        }
    }

    fn reset(&mut self, unit: &str) -> Result<()> {
        match self.connection.manager("ResetFailedUnit", vec![Value::text(unit)])? {
            Ok(_) => Ok(()),
            Err(refused) if is_gone(&refused) => Ok(()),
            Err(refused) => Err(self.refused(&format!("clear the unit {unit}"), &refused)),
        }
    }

    fn wait(&mut self, job: &str, step: &str) -> Result<()> {
        match self.connection.job(job, JOB)?.as_deref() {
            Some("done") => Ok(()),
            Some(how) => Err(Error::new(step, format!("systemd says: {how}")).hint("journalctl has its reason")),
            None => Err(Error::new(step, format!("systemd is not done within {JOB:?}")).hint("systemctl list-jobs")),
        }
    }

    /// Words what systemd says, and what to do about it.
    fn refused(&self, step: &str, refused: &Refused) -> Error {
        let Refused { name, text } = refused;
        let short = name.rsplit('.').next().unwrap_or_default();
        let error = Error::new(
            step,
            if text.is_empty() { name.clone() } else { format!("systemd says: {}", text.trim_end_matches('.')) },
        );
        match short {
            "UnitExists" => error.at("/linux/cgroupsPath").hint(
                "another container or service has this name: see `systemctl status`, then `systemctl stop`, or choose another linux.cgroupsPath",
            ),
            "InteractiveAuthorizationRequired" | "AccessDenied" | "AuthFailed" => error.hint(match self.instance {
                Instance::System => "the system's systemd makes units for root alone",
                Instance::User => {
                    "this is not the systemd of your own session: check XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS"
                }
            }),
            "ServiceUnknown" | "NameHasNoOwner" | "SpawnChildExited" => error.hint(match self.instance {
                Instance::System => "no systemd is on this bus: is this host booted with it?",
                Instance::User => address::no_session(),
            }),
            _ => error,
        }
    }
}

/// `a(sv)`.
fn pairs(properties: &[Property]) -> Value {
    let pair = |(name, value): &Property| Value::Struct(vec![Value::text(&**name), Value::Variant(Box::new(value.clone()))]);
    Value::Array("(sv)".into(), properties.iter().map(pair).collect())
}

fn is_there(refused: &Refused) -> bool {
    refused.name == "org.freedesktop.systemd1.UnitExists"
}

fn is_gone(refused: &Refused) -> bool {
    refused.name == "org.freedesktop.systemd1.NoSuchUnit"
}

/// The property that an older systemd does not know, if that is why it refused: only limits, which are written as files too.
fn unknown_property(refused: &Refused, properties: &[Property]) -> Option<String> {
    let name = refused.text.strip_prefix("Cannot set property ")?.split(',').next()?;
    // The last is for a new scope alone.
    const NEW: [&str; 4] = ["MemoryZSwapMax", "AllowedCPUs", "AllowedMemoryNodes", "OOMPolicy"];
    (NEW.contains(&name) && properties.iter().any(|(n, _)| n == name)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
