//! An image without a registry: busybox, as a tar that is an OCI layout and a docker archive in one.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// The file.
pub const FILE: &str = "/var/lib/engines/image.tar";
/// Its name in full; Docker calls it `box`.
pub const NAME: &str = "docker.io/library/box:latest";

/// Where it is put together.
const WORK: &str = "/var/lib/engines/image";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n";

/// Writes [`FILE`]. Its program by default is `sleep infinity`, so that it does for a pod's first container too.
pub fn write() {
    let work = Path::new(WORK);
    let root = work.join("root");
    for directory in ["bin", "etc", "tmp", "root", "home", "data", "var/tmp", "www"] {
        fs::create_dir_all(root.join(directory)).expect("make a directory");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("set a mode");
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("copy busybox");
    let applets = Command::new("/usr/bin/busybox").arg("--list").output().expect("run busybox").stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("make a link");
    }
    for (name, content) in [("passwd", PASSWD), ("group", GROUP), ("not-executable", "#!/bin/sh\n")] {
        fs::write(root.join("etc").join(name), content).expect("write a file");
    }
    fs::write(root.join("www/index.html"), "served by a container\n").expect("write a file");
    fs::create_dir_all(work.join("out/blobs/sha256")).expect("make a directory");
    run("tar", &["--owner=0", "--group=0", "--sort=name", "-C", &format!("{WORK}/root"), "-cf", &format!("{WORK}/layer"), "."]);

    let layer = Blob::add(&fs::read(work.join("layer")).expect("read the layer"), "application/vnd.oci.image.layer.v1.tar");
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "infinity"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
        "history": [{"created": "2024-01-01T00:00:00Z"}],
    });
    let config = Blob::add(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor(), "layers": [layer.descriptor()],
    });
    let mut index = Blob::add(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json").descriptor();
    index["annotations"] = json!({"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "latest"});
    let files = [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ("index.json", json!({"schemaVersion": 2, "manifests": [index]})),
        ("manifest.json", json!([{"Config": config.path(), "RepoTags": ["box:latest"], "Layers": [layer.path()]}])),
    ];
    for (name, content) in files {
        fs::write(work.join("out").join(name), content.to_string()).expect("write a file");
    }
    run("tar", &["-C", &format!("{WORK}/out"), "-cf", FILE, "."]);
    fs::remove_dir_all(work).expect("remove the pieces");
}

/// A file of the layout, named by its hash.
struct Blob {
    hash: String,
    size: usize,
    kind: &'static str,
}

impl Blob {
    fn add(content: &[u8], kind: &'static str) -> Blob {
        let file = Path::new(WORK).join("blob");
        fs::write(&file, content).expect("write a blob");
        let sum = Command::new("sha256sum").arg(&file).output().expect("run sha256sum").stdout;
        let hash = String::from_utf8_lossy(&sum).split(' ').next().expect("a hash").to_owned();
        let blob = Blob { hash, size: content.len(), kind };
        fs::rename(&file, Path::new(WORK).join("out").join(blob.path())).expect("name a blob");
        blob
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hash)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hash)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": self.digest(), "size": self.size})
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("start a program");
    assert!(status.success(), "{program} {arguments:?}");
}
