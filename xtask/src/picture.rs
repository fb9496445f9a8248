//! Draws the picture in the README: the output of `loom example flaky` on a colour terminal, as SVG.

use std::{fmt::Write, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

const COMMAND: &str = "loom example flaky";
const FILE: &str = "docs/pictures/flaky.svg";

/// The width of a character and the height of a line, in pixels. The font is monospaced, 14 pixels high.
const ADVANCE: f64 = 8.43;
const LEADING: f64 = 20.0;
const MARGIN: f64 = 18.0;
/// The height of the title bar with its three buttons.
const TITLE: f64 = 40.0;

/// Runs the example and writes the picture.
pub(crate) fn write(root: &Path) -> Result<()> {
    println!("== picture");
    let output = Command::new("cargo")
        .args(["run", "--quiet", "--locked", "--package", "loom-workflow", "--", "example", "flaky"])
        .env("CLICOLOR_FORCE", "1")
        .env_remove("NO_COLOR")
        .current_dir(root)
        .output()
        .with_context(|| format!("cannot run `{COMMAND}`"))?;
    if !output.status.success() {
        bail!("`{COMMAND}` failed with {}", output.status);
    }
    let text = String::from_utf8(output.stderr).context("the terminal's text is UTF-8")?;
    // The output before the tree names a port that differs each time, and the response after it is not part of the picture.
    let tree = text.split_once("\n\n").map_or(text.as_str(), |(_, rest)| rest);
    let tree = tree.split_once("\n\n").map_or(tree, |(tree, _)| tree);
    fs::write(root.join(FILE), draw(tree)).with_context(|| format!("cannot write {FILE}"))?;
    println!("wrote {FILE}");
    Ok(())
}

/// Draws the lines of a terminal as SVG.
fn draw(text: &str) -> String {
    let lines: Vec<Vec<(Style, String)>> = text.lines().map(runs).collect();
    let length =
        |line: &Vec<(Style, String)>| line.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
    let columns = lines.iter().map(length).max().unwrap_or(0).max(COMMAND.len() + 2);
    let width = columns as f64 * ADVANCE + 2.0 * MARGIN;
    let height = TITLE + (lines.len() + 1) as f64 * LEADING + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" role=\"img\" aria-label=\"{COMMAND}\">\n\
         <style>\n\
         text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; fill: #d0d7de; white-space: pre; }}\n\
         .bold {{ font-weight: 700; fill: #ffffff; }}\n.dim {{ fill: #8b949e; }}\n.red {{ fill: #ff7b72; }}\n.green {{ fill: #56d364; }}\n.yellow {{ fill: #e3b341; }}\n.cyan {{ fill: #79c0ff; }}\n\
         </style>\n\
         <rect width=\"{width:.0}\" height=\"{height:.0}\" rx=\"8\" fill=\"#161b22\"/>\n\
         <circle cx=\"22\" cy=\"20\" r=\"6\" fill=\"#ff5f57\"/><circle cx=\"42\" cy=\"20\" r=\"6\" fill=\"#febc2e\"/><circle cx=\"62\" cy=\"20\" r=\"6\" fill=\"#28c840\"/>\n"
    );
    let prompt = vec![(Style::Green, "$ ".to_owned()), (Style::Bold, COMMAND.to_owned())];
    for (index, line) in std::iter::once(&prompt).chain(&lines).enumerate() {
        let y = TITLE + index as f64 * LEADING + 14.0;
        let mut column = 0;
        for (style, text) in line {
            // Renderers treat leading and trailing spaces differently, so each word has an explicit position.
            let word = text.trim();
            if !word.is_empty() {
                let indent = text.chars().take_while(|character| *character == ' ').count();
                let x = MARGIN + (f64::from(column) + indent as f64) * ADVANCE;
                let escaped = word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let long = word.chars().count() as f64 * ADVANCE;
                // Writing to a String cannot fail.
                let _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.0}\" textLength=\"{long:.1}\" lengthAdjust=\"spacingAndGlyphs\"{}>{escaped}</text>",
                    style.class()
                );
            }
            column += u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The style that a sequence `ESC [ n m` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    fn class(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => " class=\"bold\"",
            Style::Dim => " class=\"dim\"",
            Style::Red => " class=\"red\"",
            Style::Green => " class=\"green\"",
            Style::Yellow => " class=\"yellow\"",
            Style::Cyan => " class=\"cyan\"",
        }
    }
}

/// Splits a line into runs of one style each, and drops other control sequences.
fn runs(line: &str) -> Vec<(Style, String)> {
    let mut found: Vec<(Style, String)> = Vec::new();
    let mut style = Style::Plain;
    for (index, part) in line.split('\u{1b}').enumerate() {
        let mut text = part;
        if index > 0 {
            let end =
                part.find(|character: char| character.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
            style = match &part[..end] {
                "[0m" => Style::Plain,
                "[1m" => Style::Bold,
                "[2m" => Style::Dim,
                "[31m" => Style::Red,
                "[32m" => Style::Green,
                "[33m" => Style::Yellow,
                "[36m" => Style::Cyan,
                _ => style,
            };
            text = &part[end..];
        }
        if text.is_empty() {
            continue;
        }
        match found.last_mut() {
            Some((last, known)) if *last == style => known.push_str(text),
            _ => found.push((style, text.to_owned())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Style, draw, runs};

    #[test]
    fn colours_become_runs() {
        let line = "\u{1b}[2m├─ \u{1b}[0m\u{1b}[32m✔\u{1b}[0m Ask\u{1b}[2m  200\u{1b}[0m";
        let expected =
            [(Style::Dim, "├─ "), (Style::Green, "✔"), (Style::Plain, " Ask"), (Style::Dim, "  200")];
        assert_eq!(runs(line), expected.map(|(style, text)| (style, text.to_owned())));
    }

    #[test]
    fn text_is_escaped() {
        let svg = draw("a < b & c\n");
        assert!(svg.contains(">a &lt; b &amp; c</text>"), "{svg}");
    }
}
