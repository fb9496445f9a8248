//! Bar charts of counts in each minute. The words around a chart are HTML, so that they keep their size when it is narrow.

use loom_expression::Value;
use maud::{Markup, html};

use crate::document::{count, items};

/// The height of the bars, in the units of the drawing. A minute is one unit wide.
const HEIGHT: f64 = 40.0;

/// What a bar consists of: the property of a minute, and the class that colours it.
pub(super) type Series<'a> = (&'a str, &'a str);

/// A chart of properties of each minute of `history`. The second series is the part of the first that is drawn in its own colour.
/// `said` is what the chart shows, in words.
pub(super) fn chart(
    name: &str,
    said: &str,
    history: &Value,
    whole: Series<'_>,
    part: Option<Series<'_>>,
) -> Markup {
    let minutes: Vec<&Value> = items(history, "minutes").collect();
    let of = |minute: &Value, series: Series<'_>| count(minute, series.0);
    let most = minutes.iter().map(|minute| of(minute, whole)).max().unwrap_or_default();
    let most_said = (most > 0).then(|| format!(", at most {most} in a minute"));
    let scale = if most == 0 { 0.0 } else { HEIGHT / most as f64 };
    html! {
        figure class="chart" {
            figcaption { strong { (name) } " " span class="muted" { (said) @if let Some(most) = &most_said { (most) } } }
            svg viewBox={ "0 0 " (minutes.len().max(1)) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-label={ (name) " in each minute of the last hour: " (said) @if let Some(most) = &most_said { (most) } } {
                @for (place, minute) in minutes.iter().enumerate() {
                    @let all = of(minute, whole);
                    @if all > 0 { (bar(place, all as f64 * scale, whole.1)) }
                    @if let Some(series) = part {
                        @let some = of(minute, series).min(all);
                        @if some > 0 { (bar(place, some as f64 * scale, series.1)) }
                    }
                }
            }
            div class="scale muted" aria-hidden="true" {
                span { "an hour ago" }
                span { "now" }
            }
        }
    }
}

/// A bar that stands on the ground; one that counts something is never too low to be seen.
fn bar(place: usize, height: f64, class: &str) -> Markup {
    let height = height.max(HEIGHT / 40.0);
    html! { rect class=(class) x=(place as f64 + 0.1) y=(HEIGHT - height) width="0.8" height=(height) {} }
}
