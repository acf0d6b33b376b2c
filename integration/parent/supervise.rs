//! The foreground loop with real terminals: every byte, every signal, no spin, nothing left changed.

use nix::sys::signal::{Signal, raise};
use nix::sys::termios::{LocalFlags, OutputFlags, tcgetattr};
use onggi::sandbox::supervise::{Duties, Terminal, become_reaper, block_signals, supervise};
use onggi::sys::{pidfd, tty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn pair() -> (OwnedFd, OwnedFd) {
    let (master, slave) = tty::open_pair(File::open("/dev/pts").unwrap().as_fd()).unwrap();
    tty::clear_onlcr(master.as_fd()).unwrap();
    (master, slave)
}

fn start(script: &str, slave: Option<OwnedFd>) -> (i32, OwnedFd) {
    // Who starts the tests may ignore signals, and what a shell finds ignored it cannot trap.
    let mut command = Command::new("env");
    command.args(["--default-signal", "setsid", "sh", "-c", script]);
    if let Some(slave) = slave {
        command.stdin(slave.try_clone().unwrap()).stderr(slave.try_clone().unwrap()).stdout(slave);
    } else {
        command.stdin(Stdio::null());
    }
    // A thread of this test reaps it, by its descriptor.
    #[allow(clippy::zombie_processes)]
    let pid = i32::try_from(command.spawn().unwrap().id()).unwrap();
    (pid, pidfd::open(pid).unwrap())
}

/// Runs `script` on a terminal, with these for the caller's.
fn on_terminal(script: &str, input: BorrowedFd, output: BorrowedFd) -> u8 {
    let (master, slave) = pair();
    let (pid, init) = start(script, Some(slave));
    let signals = block_signals().unwrap();
    let windows = [input, output];
    supervise(pid, init.as_fd(), &signals, Some(Terminal { master, input, output, windows: &windows }), Duties::default())
        .unwrap()
}

fn nothing() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn the_status_is_the_code_or_128_and_the_signal() {
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let (pid, init) = start(script, None);
        assert_eq!(supervise(pid, init.as_fd(), &block_signals().unwrap(), None, Duties::default()), Ok(status), "{script}");
    }
}

#[test]
fn another_end_than_success_is_looked_at_before_it_is_reaped() {
    for (script, seen) in [("exit 0", false), ("exit 7", true), ("kill -KILL $$", true)] {
        let (pid, init) = start(script, None);
        let looked = std::cell::Cell::new(false);
        let look = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            assert!(state.contains(") Z "), "{state}");
            looked.set(true);
            Err(onggi::error::Error::exact("not the program's"))
        };
        let ended =
            supervise(pid, init.as_fd(), &block_signals().unwrap(), None, Duties { look: Some(&look), ..Duties::default() });
        assert_eq!(
            (looked.get(), ended.map_err(|e| e.to_string())),
            (seen, if seen { Err("not the program's".into()) } else { Ok(0) })
        );
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "not reaped");
    }
}

#[test]
fn every_signal_is_handed_on() {
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGUSR1, "USR1"), (Signal::SIGINT, "INT"), (Signal::SIGHUP, "HUP")]
    {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let (pid, init) = start(&format!("trap 'exit 9' {name}; touch {}; while :; do sleep 0.05; done", ready.display()), None);
        let signals = block_signals().unwrap();
        while !ready.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        // To this thread, for the others of the test harness have it unblocked. It waits in the descriptor.
        raise(signal).unwrap();
        assert_eq!(supervise(pid, init.as_fd(), &signals, None, Duties::default()), Ok(9), "{name}");
    }
}

#[test]
fn no_byte_is_lost_to_a_slow_reader() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let read = thread::spawn(move || {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 30_000]);
        for turn in 0.. {
            if turn % 40 == 0 {
                thread::sleep(Duration::from_millis(10));
            }
            match reader.read(&mut chunk).unwrap() {
                0 => break,
                n => all.extend_from_slice(&chunk[..n]),
            }
        }
        all
    });
    let input = nothing();
    assert_eq!(on_terminal("seq 1 1000000", input.as_fd(), writer.as_fd()), 0);
    drop(writer);
    let wanted: String = (1..=1_000_000).map(|n| format!("{n}\n")).collect();
    assert!(read.join().unwrap() == wanted.as_bytes());
}

#[test]
fn no_byte_is_lost_to_a_socket_or_a_file() {
    let wanted: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let read = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    let input = nothing();
    assert_eq!(on_terminal("seq 1 100000", input.as_fd(), writer.as_fd()), 0);
    drop(writer);
    assert!(read.join().unwrap() == wanted.as_bytes());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"before\n").unwrap();
    assert_eq!(on_terminal("seq 1 100000", input.as_fd(), file.as_file().as_fd()), 0);
    assert!(std::fs::read_to_string(file.path()).unwrap() == format!("before\n{wanted}"));
}

#[test]
fn a_reader_that_leaves_does_not_hang_the_container() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let input = nothing();
    assert_eq!(on_terminal("seq 1 300000; exit 5", input.as_fd(), writer.as_fd()), 5);
}

#[test]
fn input_arrives_whole_though_it_is_read_late() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("got");
    let wanted: String = (1..=20_000).map(|n| format!("line {n}\n")).collect();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let text = wanted.clone();
    let write = thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
    let null = File::options().write(true).open("/dev/null").unwrap();
    let script = format!("sleep 0.3; head -n 20000 > {}", to.display());
    assert_eq!(on_terminal(&script, reader.as_fd(), null.as_fd()), 0);
    write.join().unwrap();
    assert!(std::fs::read_to_string(to).unwrap() == wanted);
}

#[test]
fn a_process_that_keeps_the_terminal_does_not_keep_us() {
    let begin = Instant::now();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let input = nothing();
    assert_eq!(on_terminal("setsid sleep 5 & echo last words; exit 4", input.as_fd(), writer.as_fd()), 4);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "last words\n");
}

#[test]
fn a_terminal_that_nobody_holds_is_no_reason_to_spin_or_to_end() {
    // The first number is the time on a processor, in ns.
    let cpu = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let (mut reader, writer) = std::io::pipe().unwrap();
    let input = nothing();
    let (before, begin) = (cpu(), Instant::now());
    let script = "t=$(tty); exec <&- >&- 2>&-; sleep 1; echo back > $t; exit 6";
    assert_eq!(on_terminal(script, input.as_fd(), writer.as_fd()), 6);
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(cpu() - before < Duration::from_millis(60), "{:?}", cpu() - before);
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "back\n");
}

#[test]
fn the_end_is_told_at_once() {
    let input = nothing();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let quickest = (0..5).map(|_| {
        let begin = Instant::now();
        on_terminal("exit 0", input.as_fd(), null.as_fd());
        begin.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_millis(80), "{quickest:?}");
}

#[test]
fn the_callers_terminal_is_raw_meanwhile_has_its_size_copied_and_is_restored() {
    let (outer_master, outer) = pair();
    tty::set_size(&outer, tty::Size { height: 41, width: 111 }).unwrap();
    let before = tcgetattr(&outer).unwrap();
    let watcher = {
        let outer = outer.try_clone().unwrap();
        thread::spawn(move || {
            let mut seen = String::new();
            let mut chunk = [0; 256];
            let mut outer_master = File::from(outer_master);
            while !seen.contains("typed:") {
                let n = outer_master.read(&mut chunk).unwrap();
                seen.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
                if seen.contains("41 111") && !seen.contains("typed:") {
                    let during = tcgetattr(&outer).unwrap();
                    assert!(!during.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::ECHO));
                    assert!(during.output_flags.contains(OutputFlags::OPOST));
                    outer_master.write_all(b"hello\r").unwrap();
                }
            }
            (seen, outer_master)
        })
    };
    // It runs before it is looked after, unlike a container's program: its terminal may have no size yet.
    let script = "until stty size | grep -v '^0 0'; do sleep 0.01; done; read line; echo typed:$line; exit 2";
    let status = on_terminal(script, outer.as_fd(), outer.as_fd());
    let (seen, _open) = watcher.join().unwrap();
    assert_eq!(status, 2);
    assert!(seen.contains("typed:hello"), "{seen:?}");
    assert_eq!(tcgetattr(&outer).unwrap(), before);
}

/// In a process of its own, for it reaps every child.
#[test]
fn orphans_are_reaped_and_an_ignored_sigchld_loses_nothing() {
    if std::env::var_os("ONGGI_TEST_REAPER").is_some() {
        become_reaper().unwrap();
        let script = "for i in 1 2 3; do sh -c 'sleep 0.1 & exit 0'; done; sleep 0.6
            cat /proc/[0-9]*/stat 2>/dev/null | grep -q \" Z $PPID \" && exit 9; exit 3";
        let (pid, init) = start(script, None);
        let signals = block_signals().unwrap();
        assert_eq!(supervise(pid, init.as_fd(), &signals, None, Duties { reaper: true, ..Duties::default() }), Ok(3));
        assert_eq!(pidfd::reap_any(), Ok(None));
        let left = procfs::process::all_processes()
            .unwrap()
            .flatten()
            .filter(|process| process.stat().is_ok_and(|stat| stat.ppid == i32::try_from(std::process::id()).unwrap()));
        assert_eq!(left.count(), 0);
        return;
    }
    // Blocked from the start, for else the first thread of the test harness would take it.
    let output = Command::new("env")
        .args(["--ignore-signal=CHLD", "--block-signal=CHLD"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "supervise::orphans_are_reaped_and_an_ignored_sigchld_loses_nothing"])
        .env("ONGGI_TEST_REAPER", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
