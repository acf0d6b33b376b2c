//! argv -> command -> exit status; the only place that prints an error.

fn main() {}
