//! The stylesheet, the script and the icon, which the server sends as they are.

use std::fmt::Write;

use crate::graph::STYLE;

/// The script of all pages.
pub const SCRIPT: &str = include_str!("../assets/loom.js");

/// The icon of all pages.
pub const ICON: &str = include_str!("../assets/loom.svg");

/// The rules of pages, without those of drawings.
const PAGES: &str = include_str!("../assets/pages.css");

/// The stylesheet of all pages. The variables of the drawings are repeated for a theme that the visitor chose.
pub fn stylesheet() -> String {
    let mut out = format!("{STYLE}{PAGES}");
    let blocks: Vec<&str> = STYLE
        .split(":root {")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(block, _)| block)
        .collect();
    for (theme, block) in ["light", "dark"].into_iter().zip(blocks) {
        let block = block.replace("color-scheme: light dark;", "");
        // Writing to a String cannot fail.
        let _ = writeln!(out, ":root[data-theme=\"{theme}\"] {{ color-scheme: {theme};{block}}}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_theme_has_every_variable() {
        let style = stylesheet();
        let of = |theme: &str| {
            let (_, rest) = style.split_once(&format!(":root[data-theme=\"{theme}\"] {{")).unwrap();
            rest.split_once('}').unwrap().0.matches("--").count()
        };
        assert_eq!(of("light"), of("dark"));
        assert!(of("dark") >= 15 && style.contains("color-scheme: dark;"));
    }

    #[test]
    fn assets_stay_small_and_need_nothing_from_elsewhere() {
        let style = stylesheet();
        assert!(style.len() + SCRIPT.len() <= 60 << 10, "{} + {}", style.len(), SCRIPT.len());
        assert!(SCRIPT.lines().count() < 400);
        for text in [&style, SCRIPT] {
            assert!(!text.contains("http") && !text.contains("@import") && !text.contains("eval("));
        }
    }
}
