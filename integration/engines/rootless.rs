//! Podman and Buildah of ordinary users: one with subordinate ids, one without.
//!
//! With the cgroupfs driver each user has a cgroup of their own, as an administrator hands one over; with systemd's driver
//! their user session has it from systemd.

use crate::case::{Case, Need};
use crate::here::{Here, Ran};
use crate::podman::PRELUDE;
use crate::{image, system};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// An ordinary user of the system.
struct User {
    name: &'static str,
    id: u32,
}

/// Has 65536 subordinate ids.
static MANY: LazyLock<User> = LazyLock::new(|| User::make("many", 1000, "many:200000:65536\n"));
/// Has no subordinate id.
static SINGLE: LazyLock<User> = LazyLock::new(|| User::make("single", 1001, ""));

impl User {
    fn make(name: &'static str, id: u32, subordinate: &str) -> User {
        let user = User { name, id };
        let number = id.to_string();
        sh(&format!("groupadd -g 47{number} extra-{name}; useradd -m -s /bin/bash -u {number} -G extra-{name} {name}"));
        for file in ["/etc/subuid", "/etc/subgid"] {
            // useradd adds what it thinks right.
            let others = fs::read_to_string(file).expect("read the subordinate ids");
            let others: String =
                others.lines().filter(|line| !line.starts_with(&format!("{name}:"))).map(|line| format!("{line}\n")).collect();
            fs::write(file, others + subordinate).expect("write the subordinate ids");
        }
        if subordinate.is_empty() {
            let storage = user.home().join(".config/containers");
            fs::create_dir_all(&storage).expect("make a directory");
            let options = "[storage]\ndriver = \"overlay\"\n[storage.options.overlay]\nignore_chown_errors = \"true\"\n";
            fs::write(storage.join("storage.conf"), options).expect("write storage.conf");
            sh(&format!("chown -R {name}: /home/{name}"));
        }
        if system::driver() == "systemd" {
            sh(&format!("loginctl enable-linger {name}; until systemctl is-active user@{id}; do sleep 0.2; done"));
        } else {
            user.hand_a_cgroup_over();
            sh(&format!("install -d -m 700 -o {name} /run/user/{id}"));
        }
        let loaded = user.run(&user.home(), &format!("podman load -qi {}", image::FILE));
        assert!(loaded.success(), "podman load as {name}");
        user
    }

    fn home(&self) -> PathBuf {
        Path::new("/home").join(self.name)
    }

    fn cgroup(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup/users").join(self.name)
    }

    /// As cgroups(7) has it under "delegation": the directory, and the files by which processes and controllers are moved.
    fn hand_a_cgroup_over(&self) {
        let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").expect("read the controllers");
        let group = self.cgroup();
        fs::create_dir_all(group.join("leaf")).expect("make a cgroup");
        for controller in controllers.split_whitespace() {
            fs::write("/sys/fs/cgroup/users/cgroup.subtree_control", format!("+{controller}")).expect("hand a controller down");
        }
        for directory in [group.clone(), group.join("leaf")] {
            for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                chown(directory.join(name), Some(self.id), Some(self.id)).expect("hand a cgroup over");
            }
        }
    }

    /// A command line that runs the script as this user, in a login of theirs.
    fn command(&self, directory: &Path, script: &Path) -> String {
        let User { name, id } = self;
        let (directory, script) = (directory.display(), script.display());
        let kept =
            "\"PATH=$PATH\" \"RUNTIME=$RUNTIME\" \"CGROUPS=$CGROUPS\" \"IMAGE=$IMAGE\" \"TRIES=$TRIES\" TERM=xterm LANG=C.UTF-8";
        let own = format!("HOME=/home/{name} USER={name} XDG_RUNTIME_DIR=/run/user/{id} DIR={directory} NAME=c");
        if system::driver() == "systemd" {
            let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{id}/bus");
            return format!(
                "systemd-run --user -M {name}@.host --pipe --wait -q --collect -p Delegate=yes --working-directory={directory} \
                 env {kept} {own} {bus} bash {script}"
            );
        }
        format!(
            "(echo $BASHPID >{}/leaf/cgroup.procs; cd {directory}; exec setpriv --reuid {id} --regid {id} --init-groups \
             env -i {kept} {own} bash {script})",
            self.cgroup().display()
        )
    }

    fn run(&self, directory: &Path, script: &str) -> std::process::ExitStatus {
        let file = directory.join("script");
        fs::write(&file, script).expect("write a script");
        let command = self.command(directory, &file);
        Command::new("bash").args(["-c", &command]).env_clear().envs(system::environment()).status().expect("start bash")
    }
}

fn sh(script: &str) {
    let ran = Command::new("sh").args(["-c", script]).env_clear().envs(system::environment()).output().expect("start sh");
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Runs the script, which must succeed, as that user.
#[track_caller]
fn ok(here: &Here, user: &User, script: &str) -> Ran {
    let directory = user.home().join(&here.name);
    fs::create_dir_all(&directory).expect("make a directory");
    chown(&directory, Some(user.id), Some(user.id)).expect("give it to the user");
    let file = directory.join("script");
    let functions = include_str!("prelude.sh");
    fs::write(&file, format!("set -euo pipefail\n{functions}\n{PRELUDE}\nNAME={}\n{script}\n", here.name)).expect("write it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("let it be read");
    here.sh(&user.command(&directory, &file)).ok()
}

fn many(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    Case::new("rootless", name, covers, |here| ok(here, &MANY, script))
}

fn single(name: &'static str, covers: &'static str, script: &'static str) -> Case {
    Case::new("rootless", name, covers, |here| ok(here, &SINGLE, script))
}

pub fn cases() -> Vec<Case> {
    [life(), ids(), surroundings(), limits(), alone()].into_iter().flatten().collect()
}

fn life() -> Vec<Case> {
    vec![
        many(
            "run",
            "a program runs and its exit code comes back; one that is missing, or cannot be run",
            "is hello podman run $BOX echo hello
            fails 7 '^$' podman run $BOX sh -c 'exit 7'
            fails 127 'not found in|[Nn]o such file' podman run $BOX nosuch
            fails 126 '[Pp]ermission denied' podman run $BOX /etc/not-executable",
        ),
        many(
            "exec",
            "exec: output, exit code, user, terminal, standard input, a missing program",
            "podman run -d --name $NAME $OFF $IMAGE
            is one podman exec $NAME echo one
            fails 9 '^$' podman exec $NAME sh -c 'exit 9'
            is 'uid=1000(user) gid=1000(user) groups=2000(extra)' podman exec -u user $NAME id
            is hello bash -c \"echo hello | podman exec -i $NAME cat\"
            like '33 99' terminal \"podman exec -it $NAME sh -c '$SIZED'\"
            fails 127 'not found in|[Nn]o such file' podman exec $NAME nosuch
            like 'sleep infinity' podman top $NAME
            podman rm -ft0 $NAME",
        ),
        many(
            "life",
            "logs, signals, stop, restart, removal",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'trap \"echo got hup\" HUP; echo up; while :; do sleep 0.1; done'
            eventually said $NAME up
            podman kill -s HUP $NAME
            eventually said $NAME 'got hup'
            podman stop -t 1 $NAME
            is 137 podman wait $NAME
            podman start $NAME
            podman rm -ft0 $NAME
            ! podman container exists $NAME",
        ),
        many(
            "terminal",
            "-it: a terminal of the size of the caller's",
            "like '33 99' terminal \"podman run -it $BOX sh -c 'tty; $SIZED'\"",
        ),
        many(
            "pause",
            "pause and unpause, in a cgroup that was handed over",
            "podman run -d --name $NAME $OFF $IMAGE sh -c 'while :; do echo tick; sleep 0.02; done'
            eventually said $NAME tick
            podman pause $NAME
            lines() { podman logs $NAME | wc -l; }
            eventually still lines
            before=$(lines)
            podman unpause $NAME
            eventually eval '[ $before -lt $(lines) ]'
            podman rm -ft0 $NAME",
        ),
        many(
            "pod",
            "two containers of a pod share its namespaces",
            "podman pod create --name $NAME --share net,ipc,uts,pid $OFF
            podman run -d --pod $NAME --name $NAME-1 $IMAGE sleep 4741
            like 'sleep 4741' podman run --rm --pod $NAME $IMAGE ps
            podman pod rm -ft0 $NAME",
        ),
        many(
            "build",
            "podman build and buildah run, with chroot's isolation and the runtime's",
            "printf 'FROM %s\\nRUN id -u >/b\\nUSER 1000\\nRUN id -u >/tmp/u\\nCMD cat /b /tmp/u\\n' $IMAGE >$DIR/Dockerfile
            podman build --network none -t $NAME $DIR
            is $'0\\n1000' podman run --rm $OFF localhost/$NAME
            podman rmi -f localhost/$NAME
            container=$(buildah from $IMAGE)
            is hello buildah run --runtime $RUNTIME --isolation rootless --network none $container echo hello
            fails 5 '' buildah run --runtime $RUNTIME --isolation rootless --network none $container sh -c 'exit 5'
            buildah rm $container",
        ),
        many(
            "checkpoint_refused",
            "checkpoint is root's alone, and Podman says so",
            "podman run -d --name $NAME $OFF $IMAGE
            fails 125 'requires root' podman container checkpoint $NAME
            podman rm -ft0 $NAME",
        ),
    ]
}

fn ids() -> Vec<Case> {
    vec![
        many(
            "maps",
            "root inside is the user outside, other ids are subordinate ones",
            "like \"^ *0 +$(id -u) +1$\" podman run $BOX cat /proc/self/uid_map
            like '^ *1 +200000 +65536$' podman run $BOX cat /proc/self/uid_map
            is 200999 bash -c \"podman run -v $DIR:/mnt $BOX sh -c 'touch /mnt/made; chown 1000 /mnt/made'; stat -c %u $DIR/made\"
            podman unshare rm $DIR/made",
        ),
        many(
            "keep_id",
            "--userns=keep-id: the user is themselves, also in exec, and files are theirs",
            "podman run -d --name $NAME --userns keep-id -v $DIR:/mnt $OFF $IMAGE
            is $(id -u) podman exec $NAME id -u
            podman exec $NAME touch /mnt/made
            is $(id -u) stat -c %u $DIR/made
            is 0 podman exec -u 0 $NAME id -u
            podman rm -ft0 $NAME
            is 5:6 podman run --userns keep-id:uid=5,gid=6 $BOX sh -c 'echo $(id -u):$(id -g)'",
        ),
        many(
            "nomap",
            "--userns=nomap: the user's own id is not in the container",
            "unlike \"^ *[0-9]+ +0 +1$\" podman run --userns nomap $BOX cat /proc/self/uid_map",
        ),
        many(
            "keep_groups",
            "--group-add keep-groups: a file that only a supplementary group may read can be read",
            "echo secret >$DIR/file; chgrp extra-many $DIR/file; chmod 040 $DIR/file
            fails 1 denied podman run -u 5 -v $DIR:/mnt $BOX cat /mnt/file
            is secret podman run -u 5 --group-add keep-groups -v $DIR:/mnt $BOX cat /mnt/file",
        )
        .except("runc", "Podman asks for it by an annotation that crun came up with"),
        many(
            "privileged",
            "--privileged is all of the user namespace, and no more",
            "is ok podman run --privileged $BOX sh -c 'mount -t tmpfs t /tmp && echo ok'
            fails 1 'denied|not permitted|Read-only' podman run --privileged $BOX sh -c 'echo 1 >/proc/sys/kernel/panic'",
        ),
    ]
}

fn surroundings() -> Vec<Case> {
    vec![
        // Not with the routes of the machine: pasta cannot copy those of the bridges that other cases have made.
        many(
            "publish",
            "a port published through pasta is answered by the container",
            "podman run -d --name $NAME --network pasta:-a,10.0.2.15,-n,24,-g,10.0.2.2 -p 18081:80 $IMAGE httpd -f -h /www
            eventually curl -sf http://127.0.0.1:18081/
            is 'served by a container' curl -s http://127.0.0.1:18081/
            podman rm -ft0 $NAME",
        ),
        many(
            "host_namespaces",
            "--network and --pid host: /sys and /proc of the host take the place of new ones",
            "is $(readlink /proc/self/ns/net) podman run --rm --network host $IMAGE readlink /proc/self/ns/net
            like . podman run --rm --network host $IMAGE ls /sys/class/net/lo
            like conmon podman run --pid host $BOX ps
            is hi podman run --ipc host --uts host $BOX echo hi",
        ),
        many(
            "volumes",
            "binds, named volumes, tmpfs, read-only roots, masked paths",
            "fails 1 Read-only podman run -v $DIR:/mnt:ro $BOX touch /mnt/made
            is made podman run -v $NAME:/data $BOX sh -c 'touch /data/made; ls /data'
            podman volume rm $NAME
            like 'noexec.*size=1024k' podman run --tmpfs /small:size=1m,noexec $BOX grep ' /small ' /proc/mounts
            fails 1 Read-only podman run --read-only $BOX touch /made
            fails 1 Read-only podman run --read-only --read-only-tmpfs=false $BOX touch /dev/made
            is 0 podman run $BOX sh -c 'cat /proc/timer_list | wc -l'",
        ),
        many(
            "rootfs",
            "--rootfs runs a directory of the user's",
            "mkdir -p $DIR/root/bin; cp /usr/bin/busybox $DIR/root/bin/sh
            is hi podman run --rm $OFF --rootfs $DIR/root /bin/sh -c 'echo hi'",
        ),
        many(
            "device",
            "--device is a bind of the host's node",
            "like '^c.*10, 229.* /dev/fuse' podman run --device /dev/fuse $BOX ls -l /dev/fuse
            like '^ok$' podman run $BOX sh -c 'echo >/dev/null && head -c 1 /dev/zero >/dev/full || echo ok'",
        ),
        many(
            "confined",
            "seccomp, capabilities, no new privileges, limits of processes",
            "is $'Seccomp:\\t2' podman run $BOX grep Seccomp: /proc/self/status
            is 0000000000002000 podman run --cap-drop ALL --cap-add NET_RAW $BOX awk '/^CapEff/ { print $2 }' /proc/self/status
            is $'NoNewPrivs:\\t1' podman run --security-opt no-new-privileges $BOX grep NoNewPrivs /proc/self/status
            is '500 600' podman run --ulimit nofile=500:600 $BOX sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'",
        ),
    ]
}

fn limits() -> Vec<Case> {
    let limits = "podman run -d --name $NAME --memory 64m --cpus 0.5 --pids-limit 50 $OFF $IMAGE
        is '67108864 50000 100000 50' podman exec $NAME sh -c 'cd /sys/fs/cgroup; echo $(cat memory.max cpu.max pids.max)'
        podman update --memory 128m $NAME
        is '134217728 50' podman exec $NAME sh -c 'cd /sys/fs/cgroup; echo $(cat memory.max pids.max)'
        podman rm -ft0 $NAME";
    vec![
        many(
            "limits",
            "memory, processors, processes of an ordinary user, and their update, where a cgroup was delegated",
            limits,
        )
        .needs(Need::Controllers),
        many(
            "out_of_memory",
            "a container that takes more than its memory is killed",
            "fails 137 '' podman run --memory 16m --memory-swap 16m $BOX sh -c 'exec tail -c 100m /dev/zero'",
        )
        .needs(Need::Controllers),
    ]
}

/// A user without subordinate ids.
fn alone() -> Vec<Case> {
    vec![
        single(
            "single_id",
            "without subordinate ids: the container has one id, root, who is the user",
            "is hello podman run $BOX echo hello
            like \"^ *0 +$(id -u) +1$\" podman run $BOX cat /proc/self/uid_map
            is $(id -u) bash -c \"podman run -v $DIR:/mnt $BOX touch /mnt/made; stat -c %u $DIR/made\"
            fails 7 '^$' podman run $BOX sh -c 'exit 7'",
        ),
        single(
            "single_id_exec",
            "exec, terminal, signals and removal with one id",
            "podman run -d --name $NAME $OFF $IMAGE
            is 0 podman exec $NAME id -u
            like '33 99' terminal \"podman exec -it $NAME sh -c '$SIZED'\"
            podman kill $NAME
            is 137 podman wait $NAME
            podman rm -ft0 $NAME",
        ),
        single(
            "single_id_other_user",
            "another user than root is refused: there is no id for them",
            "got podman run -u 5 $BOX id
            [ $code -ge 125 ] || broken \"it ran: $out\"",
        ),
        single(
            "single_id_terminal",
            "a terminal, whose group is not there with one id",
            "like '33 99' terminal \"podman run -it $BOX sh -c '$SIZED'\"",
        ),
        single(
            "single_id_build",
            "podman build with one id",
            "printf 'FROM %s\\nRUN id -u >/b\\nCMD cat /b\\n' $IMAGE >$DIR/Dockerfile
            podman build --network none -t $NAME $DIR
            is 0 podman run --rm $OFF localhost/$NAME
            podman rmi -f localhost/$NAME",
        ),
    ]
}
