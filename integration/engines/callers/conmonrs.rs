//! conmon-rs: global options twice, `exec` without a process.json.

use super::ok;
use crate::case::Case;
use crate::here::Here;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

/// The options that come twice, on every call.
const TWICE: &str = "driver=; [ $CGROUPS = cgroupfs ] || driver=--systemd-cgroup
    twice() { $RUNTIME --root=$R $driver --root=$R $driver \"$@\"; }
    trap 'cri delete --force $NAME' EXIT";

fn case(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    Case::new("conmonrs", name, covers, move |here| ok(here, &format!("{TWICE}\n{script}")))
}

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "create",
            "`create --bundle B --pid-file P ID`: silent, and the pid file is a number and nothing else",
            "box $DIR/b
            is '' eval \"twice create --bundle $DIR/b --pid-file $DIR/pid $NAME </dev/null >$DIR/out 2>&1\"
            is '' cat $DIR/out
            [ $(wc -l <$DIR/pid) = 0 ] && [ -d /proc/$(cat $DIR/pid) ]
            is '' cri start $NAME
            is_now running",
        ),
        case(
            "create_fails",
            "a failure is told on standard error, in UTF-8, and there is no pid file",
            "box $DIR/b '.process.args = [\"nosuch\"]'
            fails 1 'nosuch' twice create --bundle $DIR/b --pid-file $DIR/pid $NAME
            ! [ -e $DIR/pid ]
            { twice create --bundle $DIR/b $NAME 2>&1 >/dev/null </dev/null || true; } | iconv -f UTF-8 -t UTF-8 >/dev/null",
        ),
        case(
            "exec",
            "`exec -d --pid-file=P ID CMD ARGS`: environment, user, directory are the container's own",
            "box $DIR/b '.process.user = {uid: 7, gid: 8} | .process.cwd = \"/bin\" | .process.env += [\"A=own\"]'
            twice create --bundle $DIR/b $NAME </dev/null >$DIR/out 2>&1
            cri start $NAME
            twice exec -d --pid-file=$DIR/exec-pid $NAME sh -c 'echo $(id -u):$(id -g) $PWD $A --flag -d' </dev/null >$DIR/out 2>&1
            eventually grep -q . $DIR/out
            is '7:8 /bin own --flag -d' cat $DIR/out
            like '^[0-9]+$' cat $DIR/exec-pid
            [ $(wc -l <$DIR/exec-pid) = 0 ]",
        )
        .except("crun", "runs it in /, not in the container's directory"),
        case(
            "exec_fails",
            "a missing program: told on standard error, exit code not 0, no pid file",
            "box $DIR/b
            twice create --bundle $DIR/b $NAME </dev/null >$DIR/out 2>&1
            cri start $NAME
            ! twice exec -d --pid-file=$DIR/exec-pid $NAME nosuch </dev/null >$DIR/out 2>&1
            like nosuch cat $DIR/out
            ! [ -s $DIR/exec-pid ]
            is_now running",
        ),
        Case::new("conmonrs", "terminal", "`--console-socket=S` of create, `--console-socket=S --tty` of exec", terminal),
    ]
}

/// Both masters arrive, and what is written to the slaves comes out of them.
fn terminal(here: &Here) {
    let link = std::env::temp_dir().join(&here.name);
    let listener = UnixListener::bind(&link).expect("bind a socket");
    let done = here.dir.join("read");
    let masters = std::thread::spawn(move || {
        let mut read = Vec::new();
        for connection in listener.incoming().take(2) {
            let mut message = [0; 4096];
            let connection = connection.expect("accept");
            let (master, _) = onggi::sys::socket::recv_fd(connection.as_fd(), &mut message).expect("one descriptor");
            let mut text = [0; 64];
            let length = File::from(master).read(&mut text).expect("read the terminal");
            read.push(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned());
        }
        std::fs::write(done, "").expect("tell that both were read");
        read
    });
    let socket = link.display();
    ok(
        here,
        &format!(
            "{TWICE}
            box $DIR/b '.process.terminal = true | .process.args = [\"sh\", \"-c\", \"echo first $(tty); sleep 1000\"]'
            is '' twice create --bundle $DIR/b --pid-file $DIR/pid --console-socket={socket} $NAME
            cri start $NAME
            is '' twice exec -d --console-socket={socket} --tty --pid-file=$DIR/exec-pid $NAME sh -c 'echo second $(tty); sleep 1000'
            eventually test -e $DIR/read"
        ),
    );
    let read = masters.join().expect("read both terminals");
    assert!(read.first().is_some_and(|text| text.starts_with("first /dev/pts/0")), "{read:?}");
    assert!(read.last().is_some_and(|text| text.starts_with("second /dev/pts/")), "{read:?}");
}
