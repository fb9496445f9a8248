//! The panel of an action: one of its executions, with inputs, outputs and attempts.

use std::time::Duration;

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    json,
    shell::{Visit, badge, instant, post, query, term, took},
};
use crate::{
    document::{count, error, items, present, text, time},
    graph::text::clean,
    states::{FAILURES, short},
};

/// The panel. `action` is `GET /api/v1/runs/{id}/actions/{action}?cursor=…&limit=1`, and `run` is the run.
pub(super) fn panel(visit: &Visit<'_>, action: &Value, run: &Value) -> Markup {
    let (id, name) = (text(run, "id"), text(action, "name"));
    let total = count(action, "occurrenceCount");
    let shown = items(action, "occurrences").next();
    html! {
        h2 { (clean(name)) }
        p class="muted" {
            (clean(text(action, "type"))) " · "
            a href={ "/ui/runs/" (id) (query(&[("tab", "definition"), ("action", name)])) "#action" } { "Definition" }
        }
        @if let Some(occurrence) = shown {
            @if total > 1 { (pager(action, occurrence, id, total)) }
            (changes(visit, run, action, occurrence))
            (execution(visit, occurrence))
        } @else {
            p { (badge(text(action, "status"))) }
            p class="muted" {
                @if text(action, "status") == "Waiting" { "This action has not been executed yet." }
                @else { "This action was not executed." }
            }
        }
    }
}

/// What can be done about an action: end its wait, or start a new run from it.
fn changes(visit: &Visit<'_>, run: &Value, action: &Value, occurrence: &Value) -> Markup {
    let (id, name) = (text(run, "id"), text(action, "name"));
    let has_ended = present(run, "endTime").is_some();
    let to = |what: &str| format!("/ui/runs/{id}/{what}");
    let retries =
        items(occurrence, "attempts").last().is_some_and(|attempt| present(attempt, "nextDue").is_some());
    let waits = retries || matches!(text(action, "type"), "Wait" | "Until");
    let is_running = text(occurrence, "status") == "Running" || text(occurrence, "status") == "Retrying";
    html! {
        @if !has_ended && is_running && waits && visit.may.operate {
            div class="buttons" {
                (post(visit, &to("skip-wait"), &html! {
                    input type="hidden" name="action" value=(name);
                    button { @if retries { "Retry now" } @else { "Skip the wait" } }
                }))
            }
        }
        @if has_ended && visit.may.run && items(occurrence, "path").next().is_none() {
            details class="confirm" {
                summary class="button" { "Resubmit from here" }
                div class="popup" {
                    p { "Start a new run that takes over the results of the actions before " strong { (clean(name)) } ", and executes this one and what follows it." }
                    (post(visit, &to("resubmit"), &html! {
                        input type="hidden" name="from" value=(name);
                        label { "Definition"
                            select name="definition" {
                                option value="same" { "That of this run" }
                                option value="current" { "The one that is deployed now" }
                            }
                        }
                        button class="primary" { "Resubmit" }
                    }))
                }
            }
        }
    }
}

/// Leads to the other executions of an action in a loop: by number, and from one that failed to the next.
fn pager(action: &Value, occurrence: &Value, id: &str, total: u64) -> Markup {
    let (name, number) = (text(action, "name"), count(occurrence, "number"));
    let to = |number: u64| address(id, name, Some(number));
    let statuses = action.get("occurrenceStatuses").cloned().unwrap_or_default();
    let failed: u64 = FAILURES.map(|status| count(&statuses, status)).iter().sum();
    let (before, after) = (count(action, "previousFailed"), count(action, "nextFailed"));
    html! {
        nav class="pager" aria-label="Executions" {
            @if number > 1 { a class="button" rel="prev" href=(to(number - 1)) aria-label="Previous execution" { "‹" } }
            span { "Execution " (number) " of " (total) }
            @if number < total { a class="button" rel="next" href=(to(number + 1)) aria-label="Next execution" { "›" } }
        }
        @if failed > 0 {
            nav class="pager" aria-label="Failed executions" {
                span class="bad" { (failed) " failed" }
                @if before > 0 { a class="button" href=(to(before)) { "Previous failed" } }
                @if after > 0 { a class="button" href=(to(after)) { "Next failed" } }
            }
        }
        form class="pager" method="get" action={ "/ui/runs/" (id) "#details" } {
            input type="hidden" name="action" value=(name);
            label { "Go to" input type="number" name="number" min="1" max=(total) value=(number); }
            button { "Show" }
        }
    }
}

/// The address of an execution of an action; without a number, of the one that a reader wants to see first.
pub(super) fn address(id: &str, action: &str, number: Option<u64>) -> String {
    let number = number.map(|number| number.to_string()).unwrap_or_default();
    format!("/ui/runs/{id}{}#details", query(&[("action", action), ("number", &number)]))
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
                (term("Iteration", &html! { (index + 1) " of " (clean(name)) }))
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
    let is_agent = items(occurrence, "attempts").any(|attempt| present(attempt, "turn").is_some());
    html! {
        section {
            h3 { @if is_agent { "Model calls" } @else { "Attempts" } }
            ol class="attempts" {
                @for attempt in items(occurrence, "attempts") {
                    li {
                        div class="line" {
                            strong { (attempt_name(attempt)) }
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

/// `Attempt 2`; `Model call 3` of an agent, with the attempt if it is not the first.
fn attempt_name(attempt: &Value) -> String {
    let (turn, number) = (count(attempt, "turn"), count(attempt, "attempt"));
    match (turn, number) {
        (0, number) => format!("Attempt {number}"),
        (turn, 0 | 1) => format!("Model call {turn}"),
        (turn, number) => format!("Model call {turn}, attempt {number}"),
    }
}

/// What a policy did around an attempt.
pub(super) fn note_text(note: &Value) -> String {
    let service = clean(text(note, "service"));
    let said = match text(note, "type") {
        "attempt.held" => {
            let waited = short(Duration::from_millis(count(note, "waitMs")));
            format!("Waited {waited} for the {} of {service}", text(note, "by"))
        }
        "breaker.opened" => format!("The circuit of {service} opened: {}", text(note, "why")),
        "breaker.halfOpened" => format!("The circuit of {service} admits probes"),
        "breaker.closed" => format!("The circuit of {service} closed"),
        "attempt.hedged" => match count(note, "copies") {
            1 => format!("A further copy was sent to {service}"),
            copies => format!("{copies} further copies were sent to {service}"),
        },
        "policy.observed" => {
            format!("{} of {service} would have interfered (observed)", text(note, "part").replace('_', " "))
        }
        "chaos.injected" => format!("Injected into {service}: {}", text(note, "what")),
        other => {
            let values = note.as_object().into_iter().flatten();
            let values = values.filter(|(name, value)| &***name != "type" && !value.is_null());
            let words = values.map(|(name, value)| format!(" · {name} {}", value.text()));
            format!("{other}{}", words.collect::<String>())
        }
    };
    clean(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_policies_did_is_said_in_words() {
        for (note, said) in [
            (
                r#"{"type": "attempt.held", "service": "billing", "by": "rate limit", "waitMs": 1500}"#,
                "Waited 1.50 s for the rate limit of billing",
            ),
            (
                r#"{"type": "breaker.opened", "service": "billing", "to": "Open", "why": "5 failures in a row"}"#,
                "The circuit of billing opened: 5 failures in a row",
            ),
            (
                r#"{"type": "attempt.hedged", "service": "billing", "copies": 1}"#,
                "A further copy was sent to billing",
            ),
            (
                r#"{"type": "policy.observed", "service": "billing", "part": "attempt_timeout"}"#,
                "attempt timeout of billing would have interfered (observed)",
            ),
            (r#"{"type": "other", "n": 1}"#, "other · n 1"),
        ] {
            assert_eq!(note_text(&Value::from_json_str(note).unwrap()), said);
        }
    }
}
