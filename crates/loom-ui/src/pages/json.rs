//! Values as people read them: indented JSON, in which redacted parts stand out.

use loom_expression::{MASK, Value};
use maud::{Markup, html};

use crate::graph::text::clean;

/// The most characters of a value that a page shows.
const SHOWN_MAX: usize = 20_000;

/// A value in a box of its own, with a heading.
pub(super) fn boxed(title: &str, value: &Value) -> Markup {
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_json_text_pretty(),
    };
    let cut = text.char_indices().nth(SHOWN_MAX).map(|(at, _)| at);
    let shown = &text[..cut.unwrap_or(text.len())];
    html! {
        section class="value" {
            h3 { (title) @if text.contains(MASK) { " " span class="badge idle" { "partly redacted" } } }
            pre tabindex="0" { (marked(shown)) }
            @if cut.is_some() { p class="muted" { "Shortened; the API returns all of it." } }
        }
    }
}

/// A text whose redacted parts are marked.
pub(super) fn marked(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split(MASK).enumerate() {
            @if at > 0 { mark title="redacted" { (MASK) } }
            @for (number, line) in part.split('\n').enumerate() {
                @if number > 0 { "\n" }
                (clean(line))
            }
        }
    }
}
