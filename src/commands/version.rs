//! `--version`, in the three lines that Docker, nerdctl and go-runc take apart.

use crate::config::OCI_VERSION;

/// The text. The word of the first line that follows the program's name stands nowhere else: Docker takes the last line
/// that holds it. `program` is the name that the binary was called by, `onggi` or `runc`.
pub fn text(program: &str) -> String {
    let number = env!("CARGO_PKG_VERSION");
    let commit = option_env!("ONGGI_COMMIT").filter(|c| !c.is_empty()).unwrap_or(number);
    format!("{program} version {number}\ncommit: {commit}\nspec: {}\n", OCI_VERSION)
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_line_has_the_word() {
        let text = super::text("runc");
        assert_eq!(text.lines().filter(|l| l.contains("version")).count(), 1);
        assert!(text.starts_with("runc version 0.") && text.contains("\ncommit: ") && text.ends_with("\nspec: 1.3.0\n"));
    }
}
