//! The executions of a run's actions as bars over time, with their attempts.

use loom_expression::{Timestamp, Value};
use maud::{Markup, html};

use super::{
    panel::{address, note_text},
    shell::{Visit, query},
};
use crate::{
    document::{between, count, items, present, text, time},
    graph::text::{clean, fit},
    states::{Calls, short},
};

/// The places in a row: the label ends, the bars begin and end.
const LABEL: f64 = 200.0;
const WIDTH: f64 = 1000.0;
/// The space for the words after a bar.
const AFTER: f64 = 170.0;
const ROW: f64 = 28.0;
const TOP: f64 = 26.0;
/// How far the label of an action in a loop is moved for each loop around it.
const INDENT: f64 = 12.0;

/// The number of executions on a page.
pub const EXECUTIONS: u64 = 100;

/// The chart. `executions` is a page of `GET /api/v1/runs/{id}/executions`, after the first `skipped`.
pub(super) fn timeline(visit: &Visit<'_>, run: &Value, executions: &Value, skipped: u64) -> Markup {
    let id = text(run, "id");
    let Some(start) = time(run, "startTime") else {
        return html! { div class="empty" { p { strong { "The run has not started" } } } };
    };
    let rows: Vec<&Value> = items(executions, "executions")
        .filter(|execution| present(execution, "startTime").is_some())
        .collect();
    if rows.is_empty() {
        return html! { div class="empty" { p { strong { "No action has been executed" } } } };
    }
    let end = time(run, "endTime").unwrap_or(visit.now);
    let span = between(start, end).as_secs_f64().max(0.001);
    let x = |at: Timestamp| LABEL + (WIDTH - LABEL) * (between(start, at).as_secs_f64() / span).min(1.0);
    let height = (rows.len() as f64).mul_add(ROW, TOP) + 8.0;
    html! {
        div class="scroll" tabindex="0" {
            svg class="timeline" role="group" aria-label="Timeline" width=(WIDTH + AFTER) height=(height)
                viewBox={ "0 0 " (WIDTH + AFTER) " " (height) } {
                @for tick in 0..=4_u32 {
                    @let at = LABEL + (WIDTH - LABEL) * f64::from(tick) / 4.0;
                    line class="tick" x1=(at) x2=(at) y1="18" y2=(height) {}
                    text class="axis" x=(at) y="12" text-anchor="middle" {
                        (short(std::time::Duration::from_secs_f64(span * f64::from(tick) / 4.0)))
                    }
                }
                @for (row, execution) in rows.iter().enumerate() {
                    (bars(visit, execution, id, (row as f64).mul_add(ROW, TOP), &x))
                }
            }
        }
        (pages(executions, id, skipped, rows.len() as u64))
    }
}

/// Leads to the executions before and after those that are shown.
fn pages(executions: &Value, id: &str, skipped: u64, shown: u64) -> Markup {
    let next = text(executions, "next");
    if skipped == 0 && next.is_empty() {
        return Markup::default();
    }
    let to = |cursor: &str| format!("/ui/runs/{id}{}", query(&[("tab", "timeline"), ("cursor", cursor)]));
    let before = skipped.saturating_sub(EXECUTIONS);
    html! {
        nav class="pages" aria-label="Pages" {
            @if skipped > 0 { a class="button" rel="prev" href=(to(&if before == 0 { String::new() } else { before.to_string() })) { "Earlier" } }
            span class="muted" { "Executions " (skipped + 1) " to " (skipped + shown) }
            @if !next.is_empty() { a class="button" rel="next" href=(to(next)) { "Later" } }
        }
    }
}

/// An action with the iterations around it, counted from 1: `Send [4]`, `Send [4][1]`.
fn label(execution: &Value) -> String {
    let mut label = clean(text(execution, "action")).into_owned();
    for (at, step) in items(execution, "path").enumerate() {
        let iteration = step.index(1).and_then(Value::as_i64).unwrap_or_default().saturating_add(1);
        label.push_str(if at == 0 { " [" } else { "[" });
        label.push_str(&iteration.to_string());
        label.push(']');
    }
    label
}

fn bars(visit: &Visit<'_>, action: &Value, id: &str, y: f64, x: &impl Fn(Timestamp) -> f64) -> Markup {
    let (label, status) = (label(action), text(action, "status"));
    let indent = (items(action, "path").count() as f64 * INDENT).min(LABEL / 3.0);
    let is_looped = items(action, "path").next().is_some();
    let address = address(id, text(action, "action"), is_looped.then(|| count(action, "number")));
    let Some(start) = time(action, "startTime") else { return Markup::default() };
    let end = time(action, "endTime").unwrap_or(visit.now);
    let took = short(between(start, end));
    let (left, right) = (x(start), x(end));
    let circuits: Vec<(f64, &str, String)> = items(action, "attempts")
        .flat_map(|attempt| {
            let end = time(attempt, "endTime").unwrap_or(visit.now);
            let changes = items(attempt, "notes").filter(|note| text(note, "type").starts_with("breaker."));
            changes.map(move |note| (x(end), text(note, "to"), note_text(note)))
        })
        .collect();
    let attempts: Vec<(f64, f64, &str)> = items(action, "attempts")
        .filter_map(|attempt| {
            let left = x(time(attempt, "startTime")?);
            let right = x(time(attempt, "endTime").unwrap_or(visit.now));
            Some((left, (right - left).max(2.0), text(attempt, "status")))
        })
        .collect();
    html! {
        a href=(address) aria-label={ (label) ", " (status) ", " (took) @for (_, _, said) in &circuits { ", " (said) } } {
            title { (label) ", " (status) ", " (took) }
            text class="label" x=(indent) y=(y + 17.0) { (fit(&label, LABEL - 16.0 - indent, 12.5)) }
            rect class=(if attempts.len() > 1 { "whole waits" } else { "whole" }) data-state=(status) x=(left) y=(y + 6.0) width=((right - left).max(3.0)) height="16" rx="4" {}
            @if attempts.len() > 1 {
                @for (left, width, status) in &attempts {
                    rect class="attempt" data-state=(status) x=(left) y=(y + 10.0) width=(width) height="8" rx="2" {}
                }
            }
            @for (at, to, said) in &circuits {
                path class="circuit" data-state=(to) d={ "M" (at) " " (y + 1.0) "l5 6-5 6-5-6z" } { title { (said) } }
            }
            text class="axis" x=(right + 6.0) y=(y + 18.0) { (took) @for part in Calls::of(action).note() { " · " (part) } }
        }
    }
}
