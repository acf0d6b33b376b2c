# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_onggi_global_optspecs
    string join \n v/version root= log= log-format= log-level= debug s/systemd-cgroup cgroup-manager= rootless= criu= h/help
end

function __fish_onggi_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_onggi_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_onggi_using_subcommand
    set -l cmd (__fish_onggi_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c onggi -n "__fish_onggi_needs_command" -l root -d 'directory of container state [default: /run/onggi, or $XDG_RUNTIME_DIR/onggi without root]' -r
complete -c onggi -n "__fish_onggi_needs_command" -l log -d 'append messages to FILE; an error is still printed on stderr' -r
complete -c onggi -n "__fish_onggi_needs_command" -l log-format -d 'text or json [default: text]' -r
complete -c onggi -n "__fish_onggi_needs_command" -l log-level -d 'least level that is logged: error, warning, info or debug [default: error]' -r
complete -c onggi -n "__fish_onggi_needs_command" -l cgroup-manager -d 'cgroupfs, systemd, or disabled: no cgroup, no limits [default: cgroupfs]' -r
complete -c onggi -n "__fish_onggi_needs_command" -l rootless -d 'true, false or auto; without effect: what the caller may do is found out' -r
complete -c onggi -n "__fish_onggi_needs_command" -l criu -d 'ignored; accepted for callers of old versions of runc' -r
complete -c onggi -n "__fish_onggi_needs_command" -s v -l version -d 'print name, commit and specification'
complete -c onggi -n "__fish_onggi_needs_command" -l debug -d 'the same as --log-level debug'
complete -c onggi -n "__fish_onggi_needs_command" -s s -l systemd-cgroup -d 'make cgroups through systemd (cgroupsPath is slice:prefix:name)'
complete -c onggi -n "__fish_onggi_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "run" -d 'create and start a container, wait for it, delete it'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "create" -d 'create a container whose program waits for start'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "start" -d 'run the program of a created container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "state" -d 'print the state of a container as JSON'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "kill" -d 'send a signal to a container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "delete" -d 'remove a stopped container and all that was made for it'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "list" -d 'list the containers under the state root'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "spec" -d 'write a config.json to start from'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "plan" -d 'print what a bundle means on this host, step by step, and change nothing'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "features" -d 'print what this program supports as JSON'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "exec" -d 'run another process in a container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "ps" -d 'list the processes of a container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "events" -d 'print statistics and events of a container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "update" -d 'change the limits of a container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "pause" -d 'stop all processes of a container'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "resume" -d 'let a paused container go on'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "checkpoint" -d 'save a running container with CRIU'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "restore" -d 'restore a container from a checkpoint'
complete -c onggi -n "__fish_onggi_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c onggi -n "__fish_onggi_using_subcommand run" -s b -l bundle -d 'directory that holds config.json [default: .]' -r
complete -c onggi -n "__fish_onggi_using_subcommand run" -s f -l config -d 'read FILE in the place of config.json, relative to the bundle' -r
complete -c onggi -n "__fish_onggi_using_subcommand run" -l console-socket -d 'unix socket that is sent the master end of the container\'s terminal' -r
complete -c onggi -n "__fish_onggi_using_subcommand run" -l pidfd-socket -d 'unix socket that is sent a pidfd of the container\'s first process' -r
complete -c onggi -n "__fish_onggi_using_subcommand run" -l pid-file -d 'write the pid of the new process to FILE' -r
complete -c onggi -n "__fish_onggi_using_subcommand run" -l preserve-fds -d 'pass N more file descriptors, from 3 + $LISTEN_FDS on [default: 0]' -r
complete -c onggi -n "__fish_onggi_using_subcommand run" -l no-pivot -d 'do not use pivot_root (for a root filesystem on a ramdisk)'
complete -c onggi -n "__fish_onggi_using_subcommand run" -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c onggi -n "__fish_onggi_using_subcommand run" -s d -l detach -d 'leave once the process runs'
complete -c onggi -n "__fish_onggi_using_subcommand run" -l keep -d 'do not delete the container when it ends'
complete -c onggi -n "__fish_onggi_using_subcommand run" -l no-subreaper -d 'do not reap processes that the container leaves behind'
complete -c onggi -n "__fish_onggi_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand create" -s b -l bundle -d 'directory that holds config.json [default: .]' -r
complete -c onggi -n "__fish_onggi_using_subcommand create" -s f -l config -d 'read FILE in the place of config.json, relative to the bundle' -r
complete -c onggi -n "__fish_onggi_using_subcommand create" -l console-socket -d 'unix socket that is sent the master end of the container\'s terminal' -r
complete -c onggi -n "__fish_onggi_using_subcommand create" -l pidfd-socket -d 'unix socket that is sent a pidfd of the container\'s first process' -r
complete -c onggi -n "__fish_onggi_using_subcommand create" -l pid-file -d 'write the pid of the new process to FILE' -r
complete -c onggi -n "__fish_onggi_using_subcommand create" -l preserve-fds -d 'pass N more file descriptors, from 3 + $LISTEN_FDS on [default: 0]' -r
complete -c onggi -n "__fish_onggi_using_subcommand create" -l no-pivot -d 'do not use pivot_root (for a root filesystem on a ramdisk)'
complete -c onggi -n "__fish_onggi_using_subcommand create" -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c onggi -n "__fish_onggi_using_subcommand create" -s d -l detach -d 'leave once the process runs'
complete -c onggi -n "__fish_onggi_using_subcommand create" -l no-subreaper -d 'do not reap processes that the container leaves behind'
complete -c onggi -n "__fish_onggi_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand state" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand kill" -s a -l all -d 'signal every process of the container'
complete -c onggi -n "__fish_onggi_using_subcommand kill" -s r -l regex -d 'the id is a regular expression; signal all that match'
complete -c onggi -n "__fish_onggi_using_subcommand kill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand delete" -s f -l force -d 'kill the container first'
complete -c onggi -n "__fish_onggi_using_subcommand delete" -s r -l regex -d 'the id is a regular expression; delete all that match'
complete -c onggi -n "__fish_onggi_using_subcommand delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand list" -s f -l format -d 'table or json [default: table]' -r
complete -c onggi -n "__fish_onggi_using_subcommand list" -s q -l quiet -d 'ids only'
complete -c onggi -n "__fish_onggi_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand spec" -s b -l bundle -d 'directory that holds config.json [default: .]' -r
complete -c onggi -n "__fish_onggi_using_subcommand spec" -l rootless -d 'for a user without root: a user namespace with the caller\'s ids'
complete -c onggi -n "__fish_onggi_using_subcommand spec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand plan" -s b -l bundle -d 'directory that holds config.json [default: .]' -r
complete -c onggi -n "__fish_onggi_using_subcommand plan" -s f -l format -d 'text or json [default: text]' -r
complete -c onggi -n "__fish_onggi_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand features" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l console-socket -d 'unix socket that is sent the master end of the container\'s terminal' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l pidfd-socket -d 'unix socket that is sent a pidfd of the container\'s first process' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l cwd -d 'working directory in the container' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s e -l env -d 'add an environment variable' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s u -l user -d 'numeric user and group' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s g -l additional-gids -d 'add a supplementary group' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s p -l process -d 'take the process object from FILE, - for stdin' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l pid-file -d 'write the pid of the new process to FILE' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l process-label -d 'SELinux label of the process' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l apparmor -d 'AppArmor profile of the process' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s c -l cap -d 'add a capability to the bounding, effective and permitted sets' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l preserve-fds -d 'pass N more file descriptors, from 3 + $LISTEN_FDS on [default: 0]' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l cgroup -d 'sub-cgroup of the container\'s to run in, which must exist' -r
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s t -l tty -d 'allocate a terminal'
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s d -l detach -d 'leave once the process runs'
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l no-new-privs -d 'set no_new_privs'
complete -c onggi -n "__fish_onggi_using_subcommand exec" -l ignore-paused -d 'allow a paused container'
complete -c onggi -n "__fish_onggi_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand ps" -s f -l format -d 'table or json [default: table]' -r
complete -c onggi -n "__fish_onggi_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand events" -l interval -d 'time between two statistics [default: 5s]' -r
complete -c onggi -n "__fish_onggi_using_subcommand events" -l stats -d 'print statistics once and leave'
complete -c onggi -n "__fish_onggi_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand update" -s r -l resources -d 'a resources object, - for stdin' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l blkio-weight -d 'io weight, 10 to 1000' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-period -d 'period of the cpu limit' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-quota -d 'cpu time in a period' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-burst -d 'cpu time that may be saved up' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-share -d 'relative cpu weight' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-rt-period -d 'real-time period (cgroup v1)' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-rt-runtime -d 'real-time runtime (cgroup v1)' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpu-idle -d 'run only when nothing else wants the cpu' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpuset-cpus -d 'cpus to use' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l cpuset-mems -d 'memory nodes to use' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l kernel-memory -d 'obsolete' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l kernel-memory-tcp -d 'obsolete' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l memory -d 'memory limit' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l memory-reservation -d 'memory that is protected' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l memory-swap -d 'memory and swap together, -1 for no limit' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l pids-limit -d 'number of processes' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l l3-cache-schema -d 'Intel RDT L3 cache schema' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -l mem-bw-schema -d 'Intel RDT memory bandwidth schema' -r
complete -c onggi -n "__fish_onggi_using_subcommand update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l image-path -d 'directory of the image files [default: ./checkpoint]' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l work-path -d 'directory of CRIU\'s log and other work files [default: that of the images]' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l manage-cgroups-mode -d 'soft, full, strict or ignore [default: soft]' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l empty-ns -d 'leave out what the namespace holds: network' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l network-lock -d 'iptables, nftables or skip' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l parent-path -d 'images of an earlier pre-dump, relative to the image directory' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l status-fd -d 'write a NUL to FD once the pages can be fetched (with --lazy-pages), and close it' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l page-server -d 'send the pages to a page server' -r
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l tcp-established -d 'allow open TCP connections'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l ext-unix-sk -d 'allow unix sockets whose other end is outside'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l shell-job -d 'allow a terminal that is outside'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l lazy-pages -d 'leave memory to be fetched on demand, by criu lazy-pages'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l file-locks -d 'keep file locks'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l auto-dedup -d 'drop pages from an earlier image once they are saved or restored'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l leave-running -d 'go on after the checkpoint'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'skip TCP connections that are being made'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l link-remap -d 'allow files that are open under a removed name'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -l pre-dump -d 'save the memory only, and go on'
complete -c onggi -n "__fish_onggi_using_subcommand checkpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -s b -l bundle -d 'directory that holds config.json [default: .]' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l console-socket -d 'unix socket that is sent the master end of the container\'s terminal' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l pidfd-socket -d 'unix socket that is sent a pidfd of the container\'s first process' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l pid-file -d 'write the pid of the new process to FILE' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l preserve-fds -d 'pass N more file descriptors, from 3 + $LISTEN_FDS on [default: 0]' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l image-path -d 'directory of the image files [default: ./checkpoint]' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l work-path -d 'directory of CRIU\'s log and other work files [default: that of the images]' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l manage-cgroups-mode -d 'soft, full, strict or ignore [default: soft]' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l empty-ns -d 'leave out what the namespace holds: network' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l network-lock -d 'iptables, nftables or skip' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l parent-path -d 'images of an earlier pre-dump, relative to the image directory' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l lsm-profile -d 'security label of the restored processes' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l lsm-mount-context -d 'SELinux context of mounts' -r
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l no-pivot -d 'do not use pivot_root (for a root filesystem on a ramdisk)'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l no-new-keyring -d 'keep the caller\'s session keyring'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l tcp-established -d 'allow open TCP connections'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l ext-unix-sk -d 'allow unix sockets whose other end is outside'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l shell-job -d 'allow a terminal that is outside'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l lazy-pages -d 'leave memory to be fetched on demand, by criu lazy-pages'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l file-locks -d 'keep file locks'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l auto-dedup -d 'drop pages from an earlier image once they are saved or restored'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -s d -l detach -d 'leave once the process runs'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l no-subreaper -d 'do not reap processes that the container leaves behind'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l keep -d 'do not delete the container when it ends'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -l tcp-close -d 'close TCP connections'
complete -c onggi -n "__fish_onggi_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "run" -d 'create and start a container, wait for it, delete it'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "create" -d 'create a container whose program waits for start'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "start" -d 'run the program of a created container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "state" -d 'print the state of a container as JSON'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "kill" -d 'send a signal to a container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "delete" -d 'remove a stopped container and all that was made for it'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "list" -d 'list the containers under the state root'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "spec" -d 'write a config.json to start from'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "plan" -d 'print what a bundle means on this host, step by step, and change nothing'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "features" -d 'print what this program supports as JSON'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "exec" -d 'run another process in a container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "ps" -d 'list the processes of a container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "events" -d 'print statistics and events of a container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "update" -d 'change the limits of a container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "pause" -d 'stop all processes of a container'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "resume" -d 'let a paused container go on'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "checkpoint" -d 'save a running container with CRIU'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "restore" -d 'restore a container from a checkpoint'
complete -c onggi -n "__fish_onggi_using_subcommand help; and not __fish_seen_subcommand_from run create start state kill delete list spec plan features exec ps events update pause resume checkpoint restore help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
