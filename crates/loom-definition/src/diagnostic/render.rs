//! Renders diagnostics for a terminal: the line of the file, carets under the span, and what to do.

use std::{fmt::Write, ops::Range};

use loom_expression::{Visible, stand_in};

use super::{Diagnostic, Severity};
use crate::text::position;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const CYAN: &str = "\x1b[1;36m";

/// The widest excerpt of a line to print, in characters.
const WIDTH_MAX: usize = 110;

/// Renders one diagnostic with its line of `source`, in the form that compilers use, ending with a line break.
///
/// `source` is the text that the spans refer to; `file_name` is only printed. With `color`, the output contains ANSI
/// escapes of ours; control characters in the text, the file name or the messages are always replaced, so a file
/// cannot control the terminal.
pub fn render(diagnostic: &Diagnostic, source: &str, file_name: &str, color: bool) -> String {
    let paint = |code: &'static str| if color { code } else { "" };
    let tone = match diagnostic.severity {
        Severity::Error => paint(RED),
        Severity::Warning => paint(YELLOW),
    };
    let (blue, bold, reset) = (paint(BLUE), paint(BOLD), paint(RESET));
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{tone}{}[{}]{reset}{bold}: {}{reset}",
        diagnostic.severity,
        diagnostic.code,
        Visible(&diagnostic.message)
    );
    let at = position(source, diagnostic.span.start);
    let widest = diagnostic
        .related
        .iter()
        .map(|(span, _)| position(source, span.start).line)
        .chain([at.line])
        .max()
        .unwrap_or(1);
    let gutter = widest.to_string().len();
    let _ = writeln!(out, "{:gutter$}{blue}-->{reset} {}:{}:{}", "", Visible(file_name), at.line, at.column);
    if !source.is_empty() {
        let _ = writeln!(out, "{:gutter$} {blue}|{reset}", "");
        excerpt(&mut out, source, &diagnostic.span, '^', &diagnostic.label, tone, gutter, color);
        for (span, label) in &diagnostic.related {
            let _ = writeln!(out, "{:gutter$} {blue}|{reset}", "");
            excerpt(&mut out, source, span, '-', label, blue, gutter, color);
        }
    }
    if !diagnostic.pointer.is_empty() {
        let _ =
            writeln!(out, "{:gutter$} {blue}={reset} {bold}at{reset}: {}", "", Visible(&diagnostic.pointer));
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(out, "{:gutter$} {blue}={reset} {}help{reset}: {}", "", paint(CYAN), Visible(hint));
    }
    out
}

/// One line of the file, with marks under the part that the span covers.
fn excerpt(
    out: &mut String,
    source: &str,
    span: &Range<usize>,
    mark: char,
    label: &str,
    tone: &str,
    gutter: usize,
    color: bool,
) {
    let (blue, reset) = if color { (BLUE, RESET) } else { ("", "") };
    let mut start = span.start.min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    let line_number = position(source, start).line;
    let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = source[line_start..].find('\n').map_or(source.len(), |at| line_start + at);
    let line = source[line_start..line_end].trim_end_matches('\r');
    let end = span.end.clamp(start, (line_start + line.len()).max(start));

    let before = source[line_start..start].chars().count();
    let marked = source.get(start..end).map_or(1, |text| text.chars().count()).max(1);
    let characters: Vec<char> = line.chars().collect();
    // A minified file is one long line: show only what surrounds the span.
    let from = if characters.len() <= WIDTH_MAX {
        0
    } else {
        before.saturating_sub(WIDTH_MAX / 3).min(characters.len() - WIDTH_MAX)
    };
    let to = characters.len().min(from + WIDTH_MAX);
    let lead = if from > 0 { "…" } else { "" };
    let trail = if to < characters.len() { "…" } else { "" };
    let shown: String = characters[from..to].iter().copied().map(stand_in).collect();
    let _ = writeln!(out, "{blue}{line_number:gutter$} |{reset} {lead}{shown}{trail}");
    let indent = lead.chars().count()
        + characters[from..before.clamp(from, to)].iter().map(|character| width(*character)).sum::<usize>();
    let shown_end = (before + marked).min(to.max(before + 1));
    let marks = characters
        .get(before..shown_end.min(characters.len()))
        .map_or(1, |marked| marked.iter().map(|character| width(*character)).sum::<usize>())
        .max(1);
    let _ = write!(out, "{:gutter$} {blue}|{reset} {:indent$}{tone}", "", "");
    for _ in 0..marks {
        out.push(mark);
    }
    if !label.is_empty() {
        let _ = write!(out, " {}", Visible(label));
    }
    let _ = writeln!(out, "{reset}");
}

/// The columns that a character takes in a terminal: two for wide East Asian characters and emoji, none for combining
/// marks.
fn width(character: char) -> usize {
    match u32::from(stand_in(character)) {
        0x0300..=0x036f | 0x200b..=0x200d | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
