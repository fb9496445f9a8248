//! The actions of a run as bars over time, with their attempts.

use loom_expression::{Timestamp, Value};
use maud::{Markup, html};

use super::shell::{Visit, query};
use crate::{
    document::{between, count, items, present, text, time},
    graph::text::{clean, fit},
    states::short,
};

/// The places in a row: the label ends, the bars begin and end.
const LABEL: f64 = 200.0;
const WIDTH: f64 = 1000.0;
/// The space for the words after a bar.
const AFTER: f64 = 170.0;
const ROW: f64 = 28.0;
const TOP: f64 = 26.0;

/// The chart. `actions` is `GET /api/v1/runs/{id}/actions`.
pub(super) fn timeline(visit: &Visit<'_>, run: &Value, actions: &Value, id: &str) -> Markup {
    let Some(start) = time(run, "startTime") else {
        return html! { div class="empty" { p { strong { "The run has not started" } } } };
    };
    let end = time(run, "endTime").unwrap_or(visit.now);
    let span = between(start, end).as_secs_f64().max(0.001);
    let x = |at: Timestamp| LABEL + (WIDTH - LABEL) * (between(start, at).as_secs_f64() / span).min(1.0);
    let timed: Vec<&Value> =
        items(actions, "actions").filter(|action| present(action, "startTime").is_some()).collect();
    let repeated: Vec<&Value> =
        items(actions, "actions").filter(|action| count(action, "occurrenceCount") > 1).collect();
    let height = (timed.len() as f64).mul_add(ROW, TOP) + 8.0;
    html! {
        div class="scroll" {
            svg class="timeline" role="group" aria-label="Timeline" width=(WIDTH + AFTER) height=(height)
                viewBox={ "0 0 " (WIDTH + AFTER) " " (height) } {
                @for tick in 0..=4_u32 {
                    @let at = LABEL + (WIDTH - LABEL) * f64::from(tick) / 4.0;
                    line class="tick" x1=(at) x2=(at) y1="18" y2=(height) {}
                    text class="axis" x=(at) y="12" text-anchor="middle" {
                        (short(std::time::Duration::from_secs_f64(span * f64::from(tick) / 4.0)))
                    }
                }
                @for (row, action) in timed.iter().enumerate() {
                    (bars(visit, action, id, (row as f64).mul_add(ROW, TOP), &x))
                }
            }
        }
        @if !repeated.is_empty() {
            p class="muted" { "Actions in loops are listed in the graph, with a picker for their executions: "
                @for (at, action) in repeated.iter().take(20).enumerate() {
                    @if at > 0 { ", " }
                    a href=(address(id, text(action, "name"))) { (clean(text(action, "name"))) } " (" (count(action, "occurrenceCount")) "×)"
                }
                "."
            }
        }
    }
}

fn address(id: &str, action: &str) -> String {
    format!("/ui/runs/{id}{}#details", query(&[("action", action)]))
}

fn bars(visit: &Visit<'_>, action: &Value, id: &str, y: f64, x: &impl Fn(Timestamp) -> f64) -> Markup {
    let (name, status) = (text(action, "name"), text(action, "status"));
    let Some(start) = time(action, "startTime") else { return Markup::default() };
    let end = time(action, "endTime").unwrap_or(visit.now);
    let took = short(between(start, end));
    let (left, right) = (x(start), x(end));
    let attempts: Vec<(f64, f64, &str)> = items(action, "attempts")
        .filter_map(|attempt| {
            let left = x(time(attempt, "startTime")?);
            let right = x(time(attempt, "endTime").unwrap_or(visit.now));
            Some((left, (right - left).max(2.0), text(attempt, "status")))
        })
        .collect();
    html! {
        a href=(address(id, name)) aria-label={ (clean(name)) ", " (status) ", " (took) } {
            title { (clean(name)) ", " (status) ", " (took) }
            text class="label" x="0" y=(y + 17.0) { (fit(&clean(name), LABEL - 16.0, 12.5)) }
            rect class=(if attempts.len() > 1 { "whole waits" } else { "whole" }) data-state=(status) x=(left) y=(y + 6.0) width=((right - left).max(3.0)) height="16" rx="4" {}
            @if attempts.len() > 1 {
                @for (left, width, status) in &attempts {
                    rect class="attempt" data-state=(status) x=(left) y=(y + 10.0) width=(width) height="8" rx="2" {}
                }
            }
            text class="axis" x=(right + 6.0) y=(y + 18.0) { (took) @if attempts.len() > 1 { " · " (attempts.len()) " attempts" } }
        }
    }
}
