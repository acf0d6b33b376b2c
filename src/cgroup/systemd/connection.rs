//! One connection to a systemd or to a bus: blocking calls with a time limit, and the signal that ends a job.
//!
//! Authentication is `EXTERNAL` without a name: the other side takes the user from the socket. A number would have to be
//! the one that the other side sees, which is another one in a user namespace.

use super::address::{Place, is_direct, places};
use super::message::{FIXED, JOB_REMOVED, Kind, Message};
use super::wire::Value;
use crate::error::{Errno, Error, Result};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

/// How long one answer may take. While systemd reloads it answers nobody, and on a busy machine that is half a minute.
const ANSWER: Duration = Duration::from_secs(90);

/// Jobs that ended before we asked for them: there is one of ours at a time.
const REMEMBERED: usize = 64;

/// systemd's name on a bus, its object, its interface.
const SYSTEMD: [&str; 3] = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
/// The bus's own.
const BUS: [&str; 3] = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];
/// The one signal that is wanted of a bus.
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved',path='/org/freedesktop/systemd1'";

/// A call that was answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The error's name, as `org.freedesktop.DBus.Error.AccessDenied`.
    pub name: String,
    /// Its words.
    pub text: String,
}

/// What a call brings: a failure of the connection, or an answer.
pub type Answer = Result<std::result::Result<Message, Refused>>;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
    /// No bus in between.
    direct: bool,
    address: String,
    /// Jobs that ended, by their object's path, and how.
    ended: VecDeque<(String, String)>,
    limit: Duration,
}

impl Connection {
    /// Connects and makes itself known.
    ///
    /// # Errors
    /// Nobody listens there, or does not want us.
    pub fn open(address: &str) -> Result<Self> {
        let mut last = None;
        for place in places(address)? {
            let stream = match place {
                Place::File(path) => UnixStream::connect(OsStr::from_bytes(&path)),
                Place::Abstract(name) => SocketAddr::from_abstract_name(name).and_then(|a| UnixStream::connect_addr(&a)),
            };
            match stream {
                Ok(stream) => return Self::over(stream, address),
                Err(e) => last = Some(failed(format!("connect to {address}"), "connect", &e)),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(format!("connect to {address}"), "no address")))
    }

    /// The same over a socket that is connected.
    pub fn over(stream: UnixStream, address: &str) -> Result<Self> {
        let direct = is_direct(address);
        let mut connection = Self { stream, serial: 0, direct, address: address.into(), ended: VecDeque::new(), limit: ANSWER };
        connection.authenticate()?;
        if !direct {
            let words = |r: Refused| Error::new(format!("use the bus {address}"), format!("{}: {}", r.name, r.text));
            connection.call(BUS, "Hello", Vec::new())?.map_err(words)?;
            connection.call(BUS, "AddMatch", vec![Value::text(MATCH)])?.map_err(words)?;
            // Without it systemd says nothing to a bus. A bus without systemd is worded by the call that matters.
            let _told = connection.manager("Subscribe", Vec::new())?;
        }
        Ok(connection)
    }

    /// Where it leads.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets how long an answer may take.
    #[cfg(test)]
    pub fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    fn step(&self) -> String {
        format!("speak to systemd at {}", self.address)
    }

    fn authenticate(&mut self) -> Result<()> {
        let end = Instant::now() + self.limit;
        // All at once: systemd forgets a message that comes in the same read as the last of these lines.
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", end)?;
        for want in ["DATA", "OK "] {
            let line = self.line(end)?;
            if !line.starts_with(want) {
                return Err(Error::new(self.step(), format!("it does not let this user in: {line:?}"))
                    .hint("is it the bus of another user? Check XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS"));
            }
        }
        Ok(())
    }

    /// A line of the authentication, without its end. What follows it is not touched.
    fn line(&mut self, end: Instant) -> Result<String> {
        const LONGEST: usize = 1024;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n") {
            let mut one = [0];
            self.read(&mut one, end)?;
            bytes.extend(one);
            if bytes.len() > LONGEST {
                return Err(Error::new(self.step(), "it speaks no D-Bus"));
            }
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Calls a method of systemd's manager.
    pub fn manager(&mut self, method: &str, body: Vec<Value>) -> Answer {
        self.call(SYSTEMD, method, body)
    }

    /// Asks systemd whether it is there: when it answers, it has done all that it was told before.
    pub fn ping(&mut self) -> Answer {
        self.call([SYSTEMD[0], SYSTEMD[1], "org.freedesktop.DBus.Peer"], "Ping", Vec::new())
    }

    /// Reads a property of systemd's manager.
    pub fn property(&mut self, name: &str) -> Answer {
        let body = vec![Value::text(SYSTEMD[2]), Value::text(name)];
        self.call([SYSTEMD[0], SYSTEMD[1], "org.freedesktop.DBus.Properties"], "Get", body)
    }

    fn call(&mut self, [name, path, interface]: [&str; 3], method: &str, body: Vec<Value>) -> Answer {
        let end = Instant::now() + self.limit;
        let mut message = Message::call(if self.direct { "" } else { name }, path, interface, method, body);
        self.serial += 1;
        message.serial = self.serial;
        self.write(&message.to_bytes()?, end)?;
        loop {
            let answer = self.next(end)?;
            if answer.reply_to != self.serial {
                continue;
            }
            match answer.kind {
                Kind::Return => return Ok(Ok(answer)),
                Kind::Error => {
                    let text = answer.texts().first().map_or_else(String::new, |t| (*t).to_owned());
                    return Ok(Err(Refused { name: answer.error, text }));
                }
                _ => {}
            }
        }
    }

    /// Waits for the end of a job: how it ended, `done` if well; `None` when the time is over first.
    pub fn job(&mut self, job: &str, limit: Duration) -> Result<Option<String>> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| path == job) {
                return Ok(self.ended.remove(at).map(|(_, how)| how));
            }
            match self.next(end) {
                Err(e) if e.errno() == Some(Errno(libc::ETIMEDOUT)) => return Ok(None),
                other => drop(other?),
            }
        }
    }

    /// The next message; ends of jobs are remembered.
    fn next(&mut self, end: Instant) -> Result<Message> {
        let mut bytes = vec![0; FIXED];
        self.read(&mut bytes, end)?;
        let fixed: [u8; FIXED] = bytes.as_slice().try_into().unwrap_or([0; FIXED]);
        bytes.resize(Message::length(&fixed)?, 0);
        self.read(bytes.get_mut(FIXED..).unwrap_or_default(), end)?;
        let message = Message::from_bytes(&bytes)?;
        if message.kind == Kind::Signal && message.member == JOB_REMOVED {
            // Number, job, unit, result.
            if let [job, _, how] = message.texts().as_slice() {
                if self.ended.len() == REMEMBERED {
                    self.ended.pop_front();
                }
                self.ended.push_back(((*job).to_owned(), (*how).to_owned()));
            }
        }
        Ok(message)
    }

    fn read(&mut self, mut into: &mut [u8], end: Instant) -> Result<()> {
        while !into.is_empty() {
            let left = self.left(end)?;
            let done = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(into));
            match done {
                Ok(0) => return Err(Error::new(self.step(), "it has closed the connection")),
                Ok(n) => into = into.get_mut(n..).unwrap_or_default(),
                Err(e) => self.again(&e, "read")?,
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], end: Instant) -> Result<()> {
        while !bytes.is_empty() {
            let left = self.left(end)?;
            let done = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write(bytes));
            match done {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(e) => self.again(&e, "write")?,
            }
        }
        Ok(())
    }

    /// What is left of the time, never nothing: that would mean for ever.
    fn left(&self, end: Instant) -> Result<Duration> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::sys(self.step(), "read", Errno(libc::ETIMEDOUT)));
        }
        Ok(left)
    }

    /// Whether it is only the time limit of one call or a signal: the time that is left tells.
    fn again(&self, e: &io::Error, call: &'static str) -> Result<()> {
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
            _ => Err(failed(self.step(), call, e)),
        }
    }
}

fn failed(step: String, call: &'static str, e: &io::Error) -> Error {
    match e.raw_os_error() {
        Some(n) => Error::sys(step, call, Errno(n)),
        None => Error::new(step, e.to_string()),
    }
}
