//! The terminal: the one place that writes to standard output and standard error.
//!
//! All output goes through the macros of this module, which shadow the standard ones: `println!` and `eprintln!` write one
//! line, `print!` and `eprint!` several lines of our own. Three guarantees hold for all of them:
//!
//! - A closed pipe, or a full disk behind a redirection, never makes the program panic. Errors of standard error are ignored;
//!   when standard output is closed, a command that only prints exits as other programs do after SIGPIPE, and a command that
//!   does work (see [`outlive_readers`]) continues silently.
//! - Characters that a terminal would interpret instead of display are escaped: control and escape sequences, overrides of the
//!   writing direction. One line stays one line, so that no name or message from outside can start a line of its own.
//! - Output of several lines is made of parts that were escaped separately, with `Visible` or by `render`; colours are kept only
//!   by [`styled`].

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, Write, stderr, stdout},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use loom_expression::{Masker, is_unseen, push_visible, visible};

/// Writes one line to standard output. Line breaks and control characters in the arguments are escaped.
macro_rules! println {
    () => { $crate::console::text(format_args!("\n")) };
    ($($text:tt)*) => { $crate::console::line(format_args!($($text)*)) };
}

/// Writes several lines to standard output. Parts from outside must have been escaped separately.
macro_rules! print {
    ($($text:tt)*) => { $crate::console::text(format_args!($($text)*)) };
}

/// Writes one line to standard error; see `println`. Never fails.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::console::note(format_args!($($text)*)) };
}

/// Writes several lines to standard error; see `print`. Never fails.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::console::note_text(format_args!($($text)*)) };
}

/// The capabilities of the terminal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Console {
    /// Whether standard error is a terminal that supports cursor movements.
    pub(crate) live: bool,
    /// Whether standard error gets colours.
    pub(crate) color: bool,
}

impl Console {
    /// Reads the standard streams, `NO_COLOR` (<https://no-color.org>), `CLICOLOR_FORCE` and `TERM`.
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

/// Switches the labels of secrets off, so that tests can prove that they find unredacted secrets in the output. Exists only in
/// builds with debug assertions.
#[cfg(debug_assertions)]
pub(crate) fn switch_labels_off_for_controls() {
    if std::env::var_os("LOOM_CONTROL_WITHOUT_LABELS").is_some() {
        loom_expression::Labels::switch_off();
    }
}

/// The masker with all secrets that this process has read. All output goes through it.
pub(crate) fn masker() -> &'static Masker {
    static MASKER: LazyLock<Masker> = LazyLock::new(Masker::new);
    &MASKER
}

/// Whether the command continues after its standard output was closed.
static OUTLIVES_READERS: AtomicBool = AtomicBool::new(false);

/// Makes the program continue when its standard output is closed.
pub(crate) fn outlive_readers() {
    OUTLIVES_READERS.store(true, Ordering::Relaxed);
}

/// Writes one line to standard output.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    out(&one_line(text));
}

/// Writes several lines to standard output.
pub(crate) fn text(text: fmt::Arguments<'_>) {
    out(&lines(text));
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Writes a requested string, and `end` after it. It is not escaped unless standard output is a terminal, so that the next
/// program gets it unchanged.
pub(crate) fn value(text: &str, end: &str) {
    if stdout().is_terminal() {
        print!("{text}{end}");
    } else {
        out(&format!("{text}{end}"));
    }
}

/// Writes a line for another program to standard output, whatever it is: JSON is not escaped again. Flushed at once.
pub(crate) fn exact_line(text: &str) {
    out(&format!("{text}\n"));
}

/// Writes a string in bold to standard output, which is a terminal.
pub(crate) fn value_styled(text: &str) {
    out(&format!("\x1b[1m{}\x1b[0m", visible(text)));
}

/// Writes a requested string exactly into a file or a pipe; a terminal needs the line to end.
pub(crate) fn exact(text: &str) {
    value(text, if stdout().is_terminal() { "\n" } else { "" });
}

/// Writes JSON and a line break. Control characters are written as JSON escapes, which is equivalent because JSON outside its
/// strings is ASCII.
pub(crate) fn json(text: &str) {
    out(&json_line(text));
}

fn json_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if is_unseen(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = fmt::Write::write_fmt(&mut shown, format_args!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown.push('\n');
    shown
}

/// Writes JSON and a line break to standard error, as [`json`] does to standard output.
pub(crate) fn note_json(text: &str) {
    err(&json_line(text));
}

/// Writes one line to standard error.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    err(&one_line(text));
}

/// Writes several lines to standard error.
pub(crate) fn note_text(text: fmt::Arguments<'_>) {
    err(&lines(text));
}

/// Writes an error to standard error. It may have several lines, such as an excerpt of a file: lines after the first are
/// indented, so that none of them looks like a separate message.
pub(crate) fn error(text: fmt::Arguments<'_>) {
    let text = format!("loom: {text}");
    let mut shown = String::with_capacity(text.len() + 16);
    for (place, line) in text.lines().enumerate() {
        if place > 0 && !line.is_empty() {
            shown.push_str("  ");
        }
        shown.push_str(&visible(line));
        shown.push('\n');
    }
    err(&shown);
}

/// Writes help to standard output, and errors in the arguments to standard error.
pub(crate) fn usage(error: &clap::Error) {
    let help = !error.use_stderr();
    let terminal = if help { stdout().is_terminal() } else { stderr().is_terminal() };
    let text = error.render();
    // clap honours `NO_COLOR` only when it prints itself.
    let plain = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    let text = if terminal && !plain { text.ansi().to_string() } else { text.to_string() };
    if help { out(&styled(&text)) } else { err(&styled(&text)) }
}

/// Writes a string with our own colours, such as a rendered diagnostic, to standard error.
pub(crate) fn note_styled(text: &str) {
    err(&styled(text));
}

/// Escapes everything that a terminal would interpret, except colours (SGR sequences) and line breaks.
pub(crate) fn styled(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_unseen) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = sgr(rest);
        if length > 0 {
            shown.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let mut characters = rest.chars();
        match characters.next() {
            Some('\n') => shown.push('\n'),
            Some(character) => push_visible(&mut shown, character),
            None => {}
        }
        rest = characters.as_str();
    }
    shown.push_str(rest);
    shown
}

/// The length in bytes of the colour sequence at the start of `text`; 0 if there is none.
fn sgr(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let digits = parameters.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if parameters.as_bytes().get(digits) == Some(&b'm') { 2 + digits + 1 } else { 0 }
}

/// Standard error for output that moves the cursor: only the live view uses it, with [`styled`] lines.
#[derive(Debug)]
pub(crate) struct Terminal;

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stderr().lock().write_all(bytes).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The size of the terminal behind standard error, in columns and rows, if there is one.
pub(crate) fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(stderr())?;
    Some((width.0.into(), height.0.into()))
}

fn one_line(text: fmt::Arguments<'_>) -> String {
    let text = text.to_string();
    let mut shown = visible(&text).into_owned();
    shown.push('\n');
    shown
}

fn lines(text: fmt::Arguments<'_>) -> String {
    let text = text.to_string();
    if !text.contains(|character| is_unseen(character) && character != '\n') {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character == '\n' {
            shown.push('\n');
        } else {
            push_visible(&mut shown, character);
        }
    }
    shown
}

fn out(text: &str) {
    let mut out = stdout().lock();
    let text = masker().mask(text);
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    drop(out);
    if error.kind() == ErrorKind::BrokenPipe {
        if !OUTLIVES_READERS.load(Ordering::Relaxed) {
            // The exit code that a shell reports for a program ended by SIGPIPE.
            std::process::exit(141);
        }
        return;
    }
    eprintln!("loom: cannot write to standard output: {error}");
    if !OUTLIVES_READERS.load(Ordering::Relaxed) {
        std::process::exit(2);
    }
}

fn err(text: &str) {
    // A failure to write to standard error cannot be reported anywhere, and must not stop the program.
    stderr().lock().write_all(masker().mask(text).as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_all_other_control_sequences_are_escaped() {
        for (text, shown) in [
            ("\u{1b}[1;31merror\u{1b}[0m: a\nb", "\u{1b}[1;31merror\u{1b}[0m: a\nb"),
            ("\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}[3", r"\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}[3"),
            ("\u{1b}\u{1b}[0m\r\u{202e}é", "\\u{1b}\u{1b}[0m\\r\\u{202e}é"),
        ] {
            assert_eq!(styled(text), shown);
        }
    }

    #[test]
    fn a_line_stays_one_line_and_several_lines_keep_their_breaks() {
        let name = "a\nloom: b\u{1b}[2J";
        assert_eq!(one_line(format_args!("{name}")), "a\\nloom: b\\u{1b}[2J\n");
        assert_eq!(lines(format_args!("{name}\n")), "a\nloom: b\\u{1b}[2J\n");
    }
}
