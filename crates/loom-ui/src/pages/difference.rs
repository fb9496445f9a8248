//! How two JSON documents differ, line by line.

use loom_expression::Value;
use maud::{Markup, html};
use similar::{ChangeTag, TextDiff};

use crate::graph::text::clean;

/// The lines around each difference.
const AROUND: usize = 3;

/// The lines of `new` that `old` does not have, and the other way round, with what is around them.
pub(super) fn of(old: &Value, new: &Value, same: &str, title: &str) -> Markup {
    let (old, new) = (old.to_json_text_pretty(), new.to_json_text_pretty());
    if old == new {
        return html! { p class="muted" { (same) } };
    }
    let difference = TextDiff::from_lines(&old, &new);
    html! {
        p class="muted" { (title) }
        pre class="difference" tabindex="0" {
            @for (place, group) in difference.grouped_ops(AROUND).iter().enumerate() {
                @if place > 0 { span class="muted" { "⋯" } }
                @for operation in group {
                    @for change in difference.iter_changes(operation) { (line(change.tag(), change.value())) }
                }
            }
        }
    }
}

fn line(tag: ChangeTag, text: &str) -> Markup {
    let text = text.trim_end_matches('\n');
    html! {
        @match tag {
            ChangeTag::Equal => { span { "  " (clean(text)) } },
            ChangeTag::Delete => { del { "- " (clean(text)) } },
            ChangeTag::Insert => { ins { "+ " (clean(text)) } },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::from_json_str(text).unwrap()
    }

    #[test]
    fn only_what_differs_and_what_is_around_it_is_shown() {
        let keys = |changed: &str| {
            let all: Vec<String> =
                (0..40).map(|n| format!("\"k{n}\": {}", if n == 20 { changed } else { "1" })).collect();
            value(&format!("{{{}}}", all.join(",")))
        };
        let html = of(&keys("1"), &keys("\"<b>\""), "same", "differs").into_string();
        assert!(html.contains("<del>-   &quot;k20&quot;: 1,"), "{html}");
        assert!(html.contains("<ins>+   &quot;k20&quot;: &quot;&lt;b&gt;&quot;,"), "{html}");
        assert!(html.contains("k17") && !html.contains("k16") && !html.contains("k30"), "{html}");
        assert!(of(&keys("1"), &keys("1"), "same", "differs").into_string().contains("same"));
    }
}
