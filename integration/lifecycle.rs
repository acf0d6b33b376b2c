//! create, start, state, kill, delete, list: what engines read and match (the words of the errors are runc's).

use crate::bundle::Bundle;
use crate::case;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![case!(run_prints_what_the_program_prints)]
}

fn run_prints_what_the_program_prints() {
    assert_eq!(Bundle::new().args(["echo", "hello"]).stdout(), "hello\n");
}
