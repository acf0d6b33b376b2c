//! A bundle in a line, run in a line, and everything about it removed when it goes out of scope.

use crate::case::{name_of_runtime, runtime};
use crate::stage::{self, WORK, shell_status, vm};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest time that any one command may take before the test fails: the virtual machine is emulated, and the one with
/// systemd has more to do.
pub fn limit() -> Duration {
    Duration::from_secs(match (stage::systemd(), vm()) {
        (true, _) => 200,
        (false, true) => 120,
        (false, false) => 30,
    })
}

/// A directory with `config.json` and `rootfs`, the container made of it, and a state directory (`--root`) of its own.
///
/// The id is its own as well, so that whatever carries it (cgroup, mount, process) belongs to this test.
pub struct Bundle {
    /// Directory that holds all of it; the bundle itself is `bundle` in it, so that a change of its mode is possible.
    pub home: PathBuf,
    /// Id of the container.
    pub id: String,
    /// What will be written to `config.json`; edit it by the methods.
    pub config: Value,
    runtime: String,
    flags: Vec<String>,
    runs: Cell<u32>,
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// Exit status as a shell gives it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What standard error says, read as a person would: runc's log lines without their quoting, its warnings left out.
    pub fn error(&self) -> String {
        let lines = self.stderr.lines().filter(|line| !line.contains(" level=warning "));
        lines.map(|line| line.replace("\\\"", "\"")).collect::<Vec<_>>().join("\n")
    }
}

impl Bundle {
    /// The default `spec` configuration (without a terminal) on a busybox root file system; runs `true`.
    pub fn new() -> Bundle {
        Bundle::with(&PROGRAMS)
    }

    /// The same with a few of busybox's programs: where there are thousands of bundles, links are most of the work.
    pub fn with<S: AsRef<str>>(programs: &[S]) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // All of one length: what is left behind is looked for by its id, and none is the beginning of another.
        let id = format!("t{}-{:05}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = Path::new(WORK).join(&id);
        let config = serde_json::from_str(include_str!("data/default.json")).expect("parse the default configuration");
        let mut bundle = Bundle { home, id, config, runtime: runtime(), flags: Vec::new(), runs: Cell::new(0) };
        fs::create_dir_all(bundle.dir()).expect("make the bundle");
        make_rootfs(&bundle.rootfs(), programs);
        // crun raises a limit before it loads a device filter, and fails where that is not allowed.
        if !vm() && name_of_runtime() == "crun" {
            bundle = bundle.remove("/linux/resources");
        }
        bundle
    }

    /// The bundle directory.
    pub fn dir(&self) -> PathBuf {
        self.home.join("bundle")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("rootfs")
    }

    /// The state directory, given to the runtime as `--root`.
    pub fn root(&self) -> PathBuf {
        self.home.join("state")
    }

    /// `/process/args`.
    pub fn args<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Bundle {
        let args: Vec<Value> = args.into_iter().map(|arg| json!(arg.as_ref())).collect();
        self.set("/process/args", args)
    }

    /// Runs a script of busybox's shell.
    pub fn sh(self, script: &str) -> Bundle {
        self.args(["sh", "-c", script])
    }

    /// Runs the program of `inside.rs`.
    pub fn inside(self, args: &[&str]) -> Bundle {
        self.args(std::iter::once(&"/inside").chain(args))
    }

    /// Sets the value at a JSON pointer; makes the objects on the way; `-` as the last part appends to a list.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Bundle {
        set(&mut self.config, pointer, value.into());
        self
    }

    /// Removes the value at a JSON pointer, which must be there.
    pub fn remove(mut self, pointer: &str) -> Bundle {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        match self.config.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(key).expect("a value to remove")),
            Some(Value::Array(list)) => drop(list.remove(key.parse().expect("an index"))),
            _ => panic!("nothing at {pointer}"),
        }
        self
    }

    /// Adds a mount.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Bundle {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Adds a namespace that the default configuration lacks.
    pub fn namespace(self, kind: &str) -> Bundle {
        self.set("/linux/namespaces/-", json!({"type": kind}))
    }

    /// Gives all five sets these capabilities.
    pub fn capabilities(self, names: &[&str]) -> Bundle {
        ["bounding", "effective", "permitted", "inheritable", "ambient"]
            .iter()
            .fold(self, |bundle, set| bundle.set(&format!("/process/capabilities/{set}"), json!(names)))
    }

    /// Writes a file into the root file system.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Bundle {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a parent")).expect("make the parent directory");
        fs::write(&path, content).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set its mode");
        self
    }

    /// Adds a global flag to every call of the runtime.
    pub fn flag(mut self, flag: &str) -> Bundle {
        self.flags.push(flag.into());
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("print the configuration");
        fs::write(self.dir().join("config.json"), text).expect("write config.json");
    }

    /// The runtime with its global flags and these arguments, not started yet.
    pub fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.root()).args(&self.flags);
        for arg in args {
            command.arg(arg.as_ref());
        }
        command.current_dir(self.dir()).stdin(Stdio::null());
        command
    }

    /// Calls the runtime: `call(["kill", &id, "KILL"])`.
    pub fn call<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.finish(self.command(args))
    }

    /// Starts a command with its streams in files (a container that stays would keep a pipe open) and waits for it.
    pub fn finish(&self, command: Command) -> Output {
        let shown = format!("{command:?}");
        self.finish_within(command, limit()).unwrap_or_else(|| panic!("{shown} hangs"))
    }

    /// The same; `None` (and it is killed) when the time is over.
    pub fn finish_within(&self, mut command: Command, limit: Duration) -> Option<Output> {
        let number = self.runs.replace(self.runs.get() + 1);
        let path = |stream: &str| self.home.join(format!("{number}.{stream}"));
        let open = |stream: &str| File::create(path(stream)).expect("make a file for a stream");
        command.stdout(open("stdout")).stderr(open("stderr"));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let status = within(&mut child, limit)?;
        let read = |stream: &str| String::from_utf8_lossy(&fs::read(path(stream)).expect("read a stream")).into_owned();
        Some(Output { status, stdout: read("stdout"), stderr: read("stderr") })
    }

    /// `run` in the foreground.
    pub fn run(&self) -> Output {
        self.run_with(&[])
    }

    /// `run` with more flags.
    pub fn run_with(&self, flags: &[&str]) -> Output {
        self.write();
        self.call(["run"].iter().chain(flags).chain(&[self.id.as_str()]))
    }

    /// `run`, which must succeed; what it printed.
    pub fn stdout(&self) -> String {
        let output = self.run();
        assert!(output.status == 0 && output.error().is_empty(), "{output:?}");
        output.stdout
    }

    /// `run` of `/inside report`, which must succeed; the report.
    pub fn report(self, more: &[&str]) -> Value {
        let args: Vec<&str> = std::iter::once("report").chain(more.iter().copied()).collect();
        let printed = self.inside(&args).stdout();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// `create`, which must succeed.
    pub fn create(&self) -> Container<'_> {
        self.create_with(&[])
    }

    /// `create` with more flags, which must succeed.
    pub fn create_with(&self, flags: &[&str]) -> Container<'_> {
        self.write();
        let pid_file = self.home.join("pid").display().to_string();
        let output = self.call(["create", "--pid-file", &pid_file].iter().chain(flags).chain(&[self.id.as_str()]));
        assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
        let pid = fs::read_to_string(pid_file).expect("read the pid file").parse().expect("a number in the pid file");
        Container { bundle: self, pid }
    }

    /// `run --detach`, which must succeed.
    pub fn detach(&self) -> Container<'_> {
        self.write();
        let pid_file = self.home.join("pid").display().to_string();
        let output = self.call(["run", "--detach", "--pid-file", &pid_file, &self.id]);
        assert!(output.status == 0 && output.stderr.is_empty(), "{output:?}");
        let pid = fs::read_to_string(pid_file).expect("read the pid file").parse().expect("a number in the pid file");
        Container { bundle: self, pid }
    }

    /// `run`, which must fail with one line that holds `text`, and leave nothing behind.
    pub fn fails(&self, text: &str) -> Output {
        let before = crate::hostdelta::Snapshot::of(self);
        let output = self.run();
        assert!(output.status != 0, "succeeds: {output:?}");
        let error = output.error();
        assert!(error.contains(text), "{text:?} not in {output:?}");
        assert_eq!(error.lines().count(), 1, "one line: {output:?}");
        before.assert_unchanged();
        output
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.root().join(&self.id).exists() {
            let _ = self.command(["delete", "--force", &self.id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.home);
        }
    }
}

/// A container that `create` or `run --detach` made. The bundle's end deletes it.
pub struct Container<'a> {
    pub bundle: &'a Bundle,
    /// Process id that the pid file gave.
    pub pid: i32,
}

impl Container<'_> {
    /// `COMMAND FLAGS... ID ARGS...`: what begins with `--` goes before the id.
    pub fn call(&self, command: &str, args: &[&str]) -> Output {
        let (flags, args): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.starts_with("--"));
        let words = std::iter::once(command).chain(flags).chain([self.bundle.id.as_str()]).chain(args);
        self.bundle.call(words)
    }

    /// The same, which must succeed in silence.
    pub fn ok(&self, command: &str, args: &[&str]) {
        let output = self.call(command, args);
        assert!(output.status == 0 && output.stdout.is_empty() && output.stderr.is_empty(), "{command} {args:?}: {output:?}");
    }

    /// `start`, which must succeed.
    pub fn start(&self) -> &Self {
        self.ok("start", &[]);
        self
    }

    /// `kill`, which must succeed.
    pub fn kill(&self, signal: &str) -> &Self {
        self.ok("kill", &[signal]);
        self
    }

    /// What `state` prints.
    pub fn state(&self) -> Value {
        let output = self.call("state", &[]);
        assert_eq!(output.status, 0, "{output:?}");
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().into()
    }

    /// Waits until the first process has ended; its exit status.
    pub fn wait(&self) -> i32 {
        stage::exit_status(self.pid).unwrap_or_else(|| panic!("process {} does not end", self.pid))
    }

    /// What the container has printed so far.
    pub fn stdout(&self) -> String {
        self.stream("stdout")
    }

    /// The same for its standard error.
    pub fn stderr(&self) -> String {
        self.stream("stderr")
    }

    fn stream(&self, name: &str) -> String {
        // The call that created it was the first one.
        fs::read_to_string(self.bundle.home.join(format!("0.{name}"))).expect("read a stream")
    }
}

/// Exit status of the child, or `None` (and it is killed) when the time is over.
pub fn within(child: &mut Child, limit: Duration) -> Option<i32> {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait().expect("wait for a command") {
            return Some(shell_status(&status));
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Polls until it holds, for [`limit`] at most.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + limit();
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    let mut parts = pointer.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let part = part.replace("~1", "/").replace("~0", "~");
        if part == "-" && last {
            if place.is_null() {
                *place = json!([]);
            }
            place.as_array_mut().expect("a list").push(value);
            return;
        }
        place = match place {
            Value::Array(list) => &mut list[part.parse::<usize>().expect("an index")],
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                other.as_object_mut().unwrap_or_else(|| panic!("{pointer}: not an object")).entry(part).or_insert(Value::Null)
            }
        };
    }
    *place = value;
}

/// All of busybox's.
static PROGRAMS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let list = Command::new("busybox").arg("--list").output().expect("run busybox (package busybox-static)");
    String::from_utf8_lossy(&list.stdout).lines().map(Into::into).collect()
});

/// Busybox with a link for each of these programs, the program of `inside.rs`, and the usual empty directories.
fn make_rootfs<S: AsRef<str>>(rootfs: &Path, programs: &[S]) {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
        fs::create_dir_all(rootfs.join(directory)).expect("make a directory");
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("set the mode of /tmp");
    for program in programs.iter().map(AsRef::as_ref).filter(|program| *program != "busybox") {
        symlink("busybox", rootfs.join("bin").join(program)).expect("link a program");
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        .expect("write passwd");
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("write group");
    link_program(&find_program("busybox").expect("find busybox"), &rootfs.join("bin/busybox"));
    link_program(&std::env::current_exe().expect("find this program"), &rootfs.join("inside"));
}

/// Links a program of tens of megabytes that is copied once, and by another process: one that is forked here meanwhile would
/// hold the file open for writing (ETXTBSY).
fn link_program(program: &Path, link: &Path) {
    static FIRST: Mutex<()> = Mutex::new(());
    let copy = Path::new(WORK).join(link.file_name().expect("a name"));
    let first = FIRST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !copy.exists() {
        assert!(Command::new("cp").arg(program).arg(&copy).status().expect("run cp").success());
    }
    drop(first);
    fs::hard_link(copy, link).expect("link a program");
}

/// Where a program lies, by PATH, as a path that does not depend on it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}
