//! What kind of place the output goes to: a terminal or a file, with colours or without.

use std::{
    fmt,
    io::{ErrorKind, IsTerminal, Write, stderr, stdout},
};

/// Where the output goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Console {
    /// Standard error is a terminal that understands cursor movements.
    pub(crate) live: bool,
    /// Standard error takes colours.
    pub(crate) color: bool,
}

impl Console {
    /// Looks at the standard streams, at `NO_COLOR` (<https://no-color.org>), `CLICOLOR_FORCE` and `TERM`.
    #[expect(clippy::disallowed_methods, reason = "this is where the binary reads its environment")]
    pub(crate) fn from_environment() -> Console {
        let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0");
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let (no_color, force) =
            (std::env::var("NO_COLOR").is_ok_and(|v| !v.is_empty()), set("CLICOLOR_FORCE"));
        let color = |terminal: bool| !no_color && (force || (terminal && !dumb));
        let err = stderr().is_terminal();
        Console { live: err && !dumb, color: color(err) }
    }
}

/// Writes to standard output. When nobody reads it any more, as `head` does once it has enough, the program ends as others do
/// then: without a word.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let Err(error) = stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        // What a shell gives for a program that SIGPIPE ended.
        std::process::exit(141);
    }
    eprintln!("loom: could not write to standard output: {error}");
    std::process::exit(2);
}
