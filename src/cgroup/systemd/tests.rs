//! Against a systemd that is a thread with a list of answers.

use super::*;
use message::{FIXED, Kind, Message};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

const DIRECT: &str = "unix:path=/run/systemd/private";

/// What the other side does at a call.
enum Say {
    /// Returns these texts (the first as a path).
    Return(&'static [&'static str]),
    /// Refuses: the error's name and words.
    Error(&'static str, &'static str),
    /// A job starts, and ends so.
    Job(&'static str),
    /// The same in the other order.
    EarlyJob(&'static str),
    /// Nothing.
    Nothing,
    /// These bytes, and the end.
    Bytes(&'static [u8]),
}

fn receive(stream: &mut UnixStream) -> Option<Message> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).ok()?;
    let mut bytes = fixed.to_vec();
    bytes.resize(Message::length(&fixed).unwrap(), 0);
    stream.read_exact(&mut bytes[FIXED..]).ok()?;
    Some(Message::from_bytes(&bytes).unwrap())
}

fn message(kind: Kind, reply_to: u32, member: &str, body: Vec<Value>) -> Message {
    Message { kind, serial: 7, reply_to, ..Message::call("", "/org/freedesktop/systemd1", "a.b", member, body) }
}

/// Like systemd's own, it takes what was sent so far in one read: a message that came along would be lost.
fn greet(stream: &mut UnixStream) {
    let mut bytes = [0; 256];
    let size = stream.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..size], b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    stream.write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n").unwrap();
}

/// A systemd that gives these answers; in the end, the calls that it was sent.
fn systemd(instance: Instance, address: &str, answers: Vec<Say>) -> (Result<Systemd>, JoinHandle<Vec<Message>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        greet(&mut theirs);
        let mut calls = Vec::new();
        for answer in answers {
            let Some(call) = receive(&mut theirs) else { break };
            let number = call.serial;
            calls.push(call);
            let mut send = |m: Message| theirs.write_all(&m.to_bytes().unwrap()).unwrap();
            let job = || message(Kind::Return, number, "", vec![Value::Path("/job/1".into())]);
            let end = |how: &str| {
                let body = vec![Value::U32(1), Value::Path("/job/1".into()), Value::text("a.scope"), Value::text(how)];
                message(Kind::Signal, 0, "JobRemoved", body)
            };
            // What systemd tells everybody on its own socket.
            send(message(Kind::Signal, 0, "UnitNew", vec![Value::text("x"), Value::Path("/x".into())]));
            match answer {
                Say::Return(texts) => {
                    send(message(
                        Kind::Return,
                        number,
                        "",
                        texts.iter().map(|t| Value::Variant(Box::new(Value::text(*t)))).collect(),
                    ));
                }
                Say::Error(name, words) => {
                    send(Message { error: name.into(), ..message(Kind::Error, number, "", vec![Value::text(words)]) });
                }
                Say::Job(how) => {
                    send(job());
                    send(end(how));
                }
                Say::EarlyJob(how) => {
                    send(end(how));
                    send(job());
                }
                Say::Nothing => {}
                Say::Bytes(bytes) => theirs.write_all(bytes).unwrap(),
            }
        }
        calls
    });
    let connection = Connection::over(ours, address);
    (connection.map(|connection| Systemd { connection, instance }), thread)
}

fn unit() -> Unit {
    let name = Name::parse("system.slice:onggi:a", "a", "system.slice").unwrap();
    Unit::new(
        name,
        Instance::System,
        "a",
        vec![],
        vec![("TasksMax".into(), Value::U64(5)), ("MemoryZSwapMax".into(), Value::U64(0))],
    )
}

/// What `start` comes to, and the calls.
fn started(answers: Vec<Say>) -> (Result<()>, Vec<Message>) {
    let (systemd, thread) = systemd(Instance::System, DIRECT, answers);
    let mut systemd = systemd.unwrap();
    let result = systemd.start(&unit(), 42).and_then(|job| systemd.finish("onggi-a.scope", &job));
    drop(systemd);
    (result, thread.join().unwrap())
}

fn properties(call: &Message) -> Vec<String> {
    let list = call.body.iter().find_map(|v| if let Value::Array(_, list) = v { Some(list) } else { None });
    let pair = |v: &Value| {
        let Value::Struct(pair) = v else { return None };
        let [Value::Text(name), Value::Variant(value)] = pair.as_slice() else { return None };
        Some(format!("{name}={value}"))
    };
    list.unwrap().iter().filter_map(pair).collect()
}

#[test]
fn a_scope_is_made_of_a_process() {
    for answer in [Say::Job("done"), Say::EarlyJob("done")] {
        let (result, calls) = started(vec![answer]);
        result.unwrap();
        assert_eq!((calls.len(), calls[0].member.as_str()), (1, "StartTransientUnit"));
        assert_eq!(calls[0].texts(), ["onggi-a.scope", "fail"]);
        assert_eq!(calls[0].body[2].signature(), "a(sv)");
        assert_eq!(calls[0].body[3].signature(), "a(sa(sv))");
        assert_eq!(calls[0].destination, "", "there is no bus to say it to");
        assert_eq!(
            properties(&calls[0]),
            [
                "Description='onggi container a'",
                "Slice='system.slice'",
                "Delegate=true",
                "MemoryAccounting=true",
                "CPUAccounting=true",
                "IOAccounting=true",
                "TasksAccounting=true",
                "DefaultDependencies=false",
                "CollectMode='inactive-or-failed'",
                "TasksMax=5",
                "MemoryZSwapMax=0",
                "PIDs=[42]",
            ]
        );
    }
}

#[test]
fn a_slice_is_made_without_processes() {
    let name = Name::parse("a.slice::a-b.slice", "a", "system.slice").unwrap();
    let unit = Unit::new(name, Instance::System, "a", vec![], vec![]);
    let (systemd, thread) = systemd(Instance::System, DIRECT, vec![Say::Job("done")]);
    systemd.unwrap().start(&unit, 42).unwrap();
    let told = properties(&thread.join().unwrap()[0]);
    assert!(told.contains(&"Wants=['a.slice']".into()) && !told.iter().any(|p| p.starts_with("PIDs") || p.starts_with("Del")));
}

#[test]
fn a_job_that_fails_is_an_error() {
    let e = started(vec![Say::Job("failed")]).0.unwrap_err().to_string();
    assert!(e.starts_with("make the unit onggi-a.scope: systemd says: failed"), "{e}");
}

#[test]
fn a_name_is_claimed_and_what_lives_is_let_alone() {
    const GONE: Say = Say::Error("org.freedesktop.systemd1.NoSuchUnit", "Unit a.scope not loaded.");
    for (answers, methods, free) in [
        (vec![GONE], vec!["GetUnit"], true),
        (vec![Say::Return(&["/a"]), Say::Return(&[]), GONE], vec!["GetUnit", "ResetFailedUnit", "GetUnit"], true),
        (
            vec![Say::Return(&["/a"]), Say::Return(&[]), Say::Return(&["/a"])],
            vec!["GetUnit", "ResetFailedUnit", "GetUnit"],
            false,
        ),
    ] {
        let (systemd, thread) = systemd(Instance::System, DIRECT, answers);
        let mut systemd = systemd.unwrap();
        let claimed = systemd.claim("a.scope");
        drop(systemd);
        let calls = thread.join().unwrap();
        assert_eq!(calls.iter().map(|c| c.member.as_str()).collect::<Vec<_>>(), methods);
        match claimed {
            Ok(()) => assert!(free),
            Err(e) => {
                assert_eq!((free, e.field()), (false, "/linux/cgroupsPath"));
                assert!(e.to_string().contains("a.scope") && e.to_string().contains("systemctl stop"), "{e}");
            }
        }
    }
}

#[test]
fn a_limit_that_an_older_systemd_does_not_know_is_left_to_the_file() {
    let unknown =
        Say::Error("org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set property MemoryZSwapMax, or unknown property.");
    let (result, calls) = started(vec![unknown, Say::Job("done")]);
    result.unwrap();
    assert!(properties(&calls[0]).contains(&"MemoryZSwapMax=0".into()));
    assert!(!properties(&calls[1]).contains(&"MemoryZSwapMax=0".into()));
    let other = Say::Error("org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set property Delegate, or unknown property.");
    assert!(started(vec![other]).0.is_err());
}

#[test]
fn refusals_say_what_to_do() {
    for (instance, name, words) in [
        (Instance::System, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "root alone"),
        (Instance::System, "org.freedesktop.DBus.Error.AccessDenied", "root alone"),
        (Instance::User, "org.freedesktop.DBus.Error.AccessDenied", "XDG_RUNTIME_DIR"),
        (Instance::System, "org.freedesktop.DBus.Error.ServiceUnknown", "booted"),
        (Instance::User, "org.freedesktop.DBus.Error.ServiceUnknown", "loginctl"),
    ] {
        let (systemd, _thread) = systemd(instance, DIRECT, vec![Say::Error(name, "Interactive authentication required.")]);
        let e = systemd.unwrap().start(&unit(), 1).unwrap_err();
        assert!(e.to_string().contains("systemd says: Interactive authentication required ("), "{e}");
        assert!(e.hint_text().contains(words), "{e}");
    }
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    const GONE: Say = Say::Error("org.freedesktop.systemd1.NoSuchUnit", "Unit onggi-a.scope not loaded.");
    for (answers, fine) in [
        (vec![GONE, GONE], true),
        (vec![Say::Job("done"), Say::Return(&[])], true),
        (vec![Say::Job("done"), GONE], true),
        (vec![Say::Error("org.freedesktop.DBus.Error.AccessDenied", "no")], false),
        (vec![Say::Job("canceled")], false),
    ] {
        let (systemd, _thread) = systemd(Instance::System, DIRECT, answers);
        assert_eq!(systemd.unwrap().stop("onggi-a.scope").is_ok(), fine);
    }
}

#[test]
fn a_bus_is_told_who_is_there() {
    let answers = vec![Say::Return(&[]), Say::Return(&[]), Say::Return(&[]), Say::Return(&[]), Say::Return(&[])];
    let (systemd, thread) = systemd(Instance::User, "unix:path=/run/user/1000/bus", answers);
    systemd.unwrap().set("a.scope", &[("TasksMax".into(), Value::U64(1))]).unwrap();
    let calls = thread.join().unwrap();
    let methods: Vec<_> = calls.iter().map(|c| (c.destination.as_str(), c.member.as_str())).collect();
    let (bus, manager) = ("org.freedesktop.DBus", "org.freedesktop.systemd1");
    assert_eq!(
        methods,
        [(bus, "Hello"), (bus, "AddMatch"), (manager, "Subscribe"), (manager, "SetUnitProperties"), (manager, "Ping")]
    );
    assert_eq!(calls[3].body[1], Value::Bool(true), "for this boot alone");
}

#[test]
fn the_manager_s_own_cgroup() {
    let (systemd, _thread) = systemd(Instance::User, DIRECT, vec![Say::Return(&["/user.slice/u@1.service"])]);
    assert_eq!(systemd.unwrap().root().unwrap(), PathBuf::from("user.slice/u@1.service"));
}

#[test]
fn nonsense_and_silence_have_an_end() {
    for bytes in
        [&b"l\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00"[..], b"nonsense", b"HTTP/1.1 400 Bad Request\r\n"]
    {
        let bytes: &'static [u8] = Vec::leak(bytes.to_vec());
        let (systemd, _thread) = systemd(Instance::System, DIRECT, vec![Say::Bytes(bytes)]);
        assert!(systemd.unwrap().start(&unit(), 1).is_err());
    }
    let (systemd, thread) = systemd(Instance::System, DIRECT, vec![Say::Nothing, Say::Nothing]);
    let mut systemd = systemd.unwrap();
    systemd.connection.limit(Duration::from_millis(50));
    let e = systemd.start(&unit(), 1).unwrap_err();
    assert_eq!(e.errno(), Some(Errno(libc::ETIMEDOUT)), "{e}");
    drop(systemd);
    thread.join().unwrap();
}

#[test]
fn who_is_not_let_in_is_told() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    let e = Connection::over(ours, DIRECT).unwrap_err().to_string();
    assert!(e.contains("REJECTED") && e.contains("XDG_RUNTIME_DIR"), "{e}");
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(Connection::over(ours, DIRECT).is_err());
}

#[test]
fn where_nobody_listens_the_hint_fits_the_caller() {
    let absent = ["unix:path=/nonexistent/private".to_owned(), "unix:path=/nonexistent/bus".to_owned()];
    let e = Systemd::first(Instance::System, &absent).unwrap_err();
    assert!(e.hint_text().contains("--systemd-cgroup"), "{e}");
    let e = Systemd::first(Instance::User, &absent).unwrap_err();
    assert!(e.hint_text().contains("loginctl enable-linger"), "{e}");
}

#[test]
fn what_is_stored_of_a_unit_comes_back() {
    let unit =
        Registered { instance: Instance::User, address: "unix:path=/run/user/1000/bus".into(), unit: "onggi-a.scope".into() };
    assert_eq!(unit.to_string(), "user onggi-a.scope unix:path=/run/user/1000/bus");
    assert_eq!(Registered::parse(&unit.to_string()).unwrap(), unit);
    for bad in ["", "user", "user a.scope", "nobody a.scope unix:path=/x"] {
        assert!(Registered::parse(bad).is_err(), "{bad}");
    }
}
