//! The panel of an action: one of its executions, with inputs, outputs and attempts.

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    json,
    shell::{Visit, badge, instant, query, term, took},
};
use crate::{
    document::{count, error, items, present, text, time},
    graph::text::clean,
};

/// The panel. `action` is `GET /api/v1/runs/{id}/actions/{action}?cursor=…&limit=1`.
pub(super) fn panel(visit: &Visit<'_>, action: &Value, id: &str) -> Markup {
    let name = text(action, "name");
    let total = count(action, "occurrenceCount");
    let shown = items(action, "occurrences").next();
    html! {
        h2 { (clean(name)) }
        p class="muted" { (clean(text(action, "type"))) }
        @if let Some(occurrence) = shown {
            @if total > 1 { (pager(action, occurrence, id, total)) }
            (execution(visit, occurrence))
        } @else {
            p { (badge(text(action, "status"))) }
            p class="muted" { "This action has not been executed." }
        }
    }
}

/// Leads to the other executions of an action in a loop, by number.
fn pager(action: &Value, occurrence: &Value, id: &str, total: u64) -> Markup {
    let (name, number) = (text(action, "name"), count(occurrence, "number"));
    let to = |number: u64| {
        let cursor = number.saturating_sub(1).to_string();
        format!("/ui/runs/{id}{}#details", query(&[("action", name), ("execution", &cursor)]))
    };
    html! {
        nav class="pager" aria-label="Executions" {
            @if number > 1 { a class="button" rel="prev" href=(to(number - 1)) aria-label="Previous execution" { "‹" } }
            span { "Execution " (number) " of " (total) }
            @if number < total { a class="button" rel="next" href=(to(number + 1)) aria-label="Next execution" { "›" } }
        }
        form class="pager" method="get" action={ "/ui/runs/" (id) "#details" } {
            input type="hidden" name="action" value=(name);
            label { "Go to" input type="number" name="number" min="1" max=(total) value=(number); }
            button { "Show" }
        }
    }
}

fn execution(visit: &Visit<'_>, occurrence: &Value) -> Markup {
    html! {
        dl class="summary narrow" {
            (term("Status", &badge(text(occurrence, "status"))))
            @if present(occurrence, "code").is_some() { (term("Code", &html! { (clean(text(occurrence, "code"))) })) }
            (term("Started", &instant(time(occurrence, "startTime"))))
            (term("Duration", &took(time(occurrence, "startTime"), time(occurrence, "endTime"), visit.now)))
            @for step in items(occurrence, "path") {
                @let name = step.index(0).and_then(Value::as_str).unwrap_or_default();
                @let index = step.index(1).and_then(Value::as_i64).unwrap_or_default();
                (term("Iteration", &html! { (index) " of " (clean(name)) }))
            }
        }
        @if let Some((code, message)) = error(occurrence) {
            div class="notice bad" { p { strong { (clean(code)) } } p { (json::marked(message)) } }
        }
        @if items(occurrence, "attempts").next().is_some() { (attempts(visit, occurrence)) }
        @for (name, title) in [("inputs", "Inputs"), ("outputs", "Outputs"), ("trackedProperties", "Tracked properties")] {
            @if let Some(value) = present(occurrence, name) {
                (json::boxed(title, value))
                @if items(occurrence, "untrusted").any(|part| part.as_str() == Some(name)) {
                    p class="muted" { "Contains untrusted data: text of a language model, or what a tool fetched." }
                }
            }
        }
    }
}

fn attempts(visit: &Visit<'_>, occurrence: &Value) -> Markup {
    html! {
        section {
            h3 { "Attempts" }
            ol class="attempts" {
                @for attempt in items(occurrence, "attempts") {
                    li {
                        div class="line" {
                            strong { "Attempt " (count(attempt, "attempt")) }
                            @if text(attempt, "phase") != "call" { " (" (clean(text(attempt, "phase"))) ")" }
                            @if present(attempt, "status").is_some() { " " (badge(text(attempt, "status"))) }
                            @else { " " (badge("Running")) }
                            span class="number" { (took(time(attempt, "startTime"), time(attempt, "endTime"), visit.now)) }
                        }
                        @if let Some((code, message)) = error(attempt) { p class="muted" { (clean(code)) ": " (json::marked(message)) } }
                        @for note in items(attempt, "notes") { p class="muted" { (note_text(note)) } }
                        @if present(attempt, "nextDue").is_some() { p class="muted" { "Next attempt at " (instant(time(attempt, "nextDue"))) } }
                    }
                }
            }
        }
    }
}

/// What a policy did around an attempt: its type and its values.
fn note_text(note: &Value) -> String {
    let mut words = vec![clean(text(note, "type")).into_owned()];
    for (name, value) in note.as_object().into_iter().flatten() {
        if &**name != "type" && !value.is_null() {
            words.push(format!("{} {}", clean(name), clean(&value.text())));
        }
    }
    words.join(" · ")
}
