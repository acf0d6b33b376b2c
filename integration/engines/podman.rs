//! Podman, as root.

use crate::case::Case;
use crate::daemons;
use crate::here::Here;

fn case(name: &'static str, covers: &'static str, run: fn(&Here)) -> Case {
    Case::new("podman", name, covers, run)
}

pub fn cases() -> Vec<Case> {
    vec![case("run", "a program runs, prints, and its exit code comes back", run)]
}

fn run(here: &Here) {
    daemons::podman();
    here.sh("podman run --rm --network none $IMAGE sh -c 'echo hello; exit 7'").exits(7).prints_just("hello");
}
