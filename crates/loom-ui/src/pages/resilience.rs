//! The services that actions call: circuits, limits and budgets, what their calls did in the last hour, and what an operator can
//! do about them.

use std::time::Duration;

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    chart::chart,
    json,
    shell::{Live, Visit, badge, confirmed, done, instant, page, term},
};
use crate::{
    document::{count, items, present, text, time},
    graph::{percent_encoded, text::clean},
    states::short,
};

/// The documents of a service's page.
#[derive(Clone, Copy, Debug)]
pub struct ServicePage<'a> {
    /// `GET /api/v1/resilience/{service}`.
    pub policy: &'a Value,
    /// `GET /api/v1/resilience/{service}/history`.
    pub history: &'a Value,
    /// What was done just now.
    pub done: &'a str,
}

/// The page of all services. `services` is the response of `GET /api/v1/resilience`, `histories` are the responses of
/// `GET /api/v1/resilience/{service}/history` for the first of them.
pub fn resilience(visit: &Visit<'_>, services: &Value, histories: &[Value], word: &str) -> String {
    let content = html! {
        div class="heading" { h1 { "Resilience" } }
        (done(word))
        div id="services" data-swap {
            @if items(services, "services").next().is_none() {
                div class="empty" {
                    p { strong { "No service with a policy has been called yet" } }
                    p { "A service appears here when an action with a circuit breaker, a rate limit, a bulkhead or a retry budget calls it." }
                }
            } @else {
                div class="cards" {
                    @for (place, service) in items(services, "services").enumerate() { (card(visit, service, histories.get(place))) }
                }
            }
        }
    };
    page(visit, "resilience", "Resilience", Live::Every(3_000), &content)
}

fn card(visit: &Visit<'_>, service: &Value, history: Option<&Value>) -> Markup {
    let name = text(service, "name");
    let (null, empty) = (Value::default(), Value::default());
    let circuit = service.get("circuit").unwrap_or(&null);
    html! {
        section class="card" aria-label=(clean(name)) {
            div class="heading" { h2 { a href=(address(name)) { (clean(name)) } } (badge(text(circuit, "state"))) }
            @if let Some(history) = history { (calls(service.get("lastHour").unwrap_or(&empty), history)) }
            (facts(service))
            (buttons(visit, service))
        }
    }
}

/// The address of a service's page.
fn address(name: &str) -> String {
    format!("/ui/resilience/{}", percent_encoded(name))
}

/// The page of one service.
pub fn service(visit: &Visit<'_>, parts: &ServicePage<'_>) -> String {
    let ServicePage { policy, history, done: word } = *parts;
    let name = text(policy, "name");
    let null = Value::default();
    let status = policy.get("status").unwrap_or(&null);
    let hour = status.get("lastHour").unwrap_or(&null);
    let is_known = !status.is_null();
    let content = html! {
        div class="heading" {
            div {
                h1 { (clean(name)) }
                p class="muted" { a href="/ui/resilience" { "Resilience" } " · a service that actions call" }
            }
            @if is_known { (buttons(visit, status)) }
        }
        (done(word))
        div id="service" data-swap {
            @if is_known {
                @let circuit = status.get("circuit").unwrap_or(&null);
                dl class="summary" {
                    (term("Circuit", &badge(text(circuit, "state"))))
                    (term("Since", &instant(time(circuit, "since"))))
                    (term("Next probe", &instant(time(circuit, "nextProbe"))))
                    (term("Rules", &html! { (text(circuit, "mode")) }))
                    (term("In flight", &html! { (count(status, "inFlight")) }))
                    (term("Waiting", &html! { (count(status, "waitingForPlace") + count(status.get("limiter").unwrap_or(&null), "waiting")) }))
                }
            } @else { div class="notice" { "No call has used this service since the server was started." } }
        }
        h2 { "The last hour" }
        div id="charts" class="charts" data-swap {
            (calls(hour, history))
            (chart("Refused", &number(count(hour, "refused"), "refused call", "refused calls"), history, ("refused", "refused"), None))
            (chart("Waits", &waits(hour), history, ("waits", "waits"), None))
        }
        @if is_known {
            h2 { "Now" }
            div id="facts" class="cards" data-swap { section class="card" aria-label="Now" { (facts(status)) } }
        }
        h2 { "History of the circuit" }
        div id="history" data-swap { (changes(history)) }
        h2 { "Policy" }
        (settings(policy))
    };
    page(visit, "resilience", name, Live::Every(3_000), &content)
}

/// The chart of calls and failures.
fn calls(hour: &Value, history: &Value) -> Markup {
    let (calls, failures) = (count(hour, "calls"), count(hour, "failures"));
    let failed = (failures > 0).then(|| number(failures, "failure", "failures"));
    let said = [Some(number(calls, "call", "calls")), failed, average(hour, "tookMs", calls)];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(", ");
    chart("Calls", &said, history, ("calls", "calls"), Some(("failures", "failures")))
}

fn waits(hour: &Value) -> String {
    let waits = count(hour, "waits");
    let said = [Some(number(waits, "wait", "waits")), average(hour, "waitedMs", waits)];
    said.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The average of a total in milliseconds; none of nothing.
fn average(hour: &Value, total: &str, count_of_all: u64) -> Option<String> {
    let average = count(hour, total).checked_div(count_of_all)?;
    Some(format!("{} on average", short(Duration::from_millis(average))))
}

fn number(number: u64, one: &str, many: &str) -> String {
    match number {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// The changes of the circuit, newest first.
fn changes(history: &Value) -> Markup {
    if items(history, "changes").next().is_none() {
        return html! { p class="muted" { "The circuit has not changed since the server was started." } };
    }
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" { "Time" } th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "Cause" } th scope="col" { "By" } } }
                tbody {
                    @for change in items(history, "changes") {
                        tr {
                            td { (instant(time(change, "at"))) }
                            td { (badge(text(change, "from"))) }
                            td { (badge(text(change, "to"))) }
                            td class="name" {
                                (clean(text(change, "cause")))
                                @if count(change, "openForMs") > 0 { span class="muted" { " for " (short(Duration::from_millis(count(change, "openForMs")))) } }
                            }
                            td { @match present(change, "by").and_then(Value::as_str) { Some(by) => (clean(by)), None => span class="muted" { "calls" } } }
                        }
                    }
                }
            }
        }
    }
}

/// The settings of the policy, with where each came from.
fn settings(policy: &Value) -> Markup {
    if items(policy, "settings").next().is_none() {
        return html! { p class="muted" { "The actions that call the service define its policy." } };
    }
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } } }
                tbody {
                    @for setting in items(policy, "settings") {
                        tr {
                            td class="mono" { (clean(text(setting, "pointer"))) }
                            td class="name" { @match present(setting, "value") { Some(value) => (json::marked(&value.text())), None => span class="muted" { "removed" } } }
                            td class="name muted" {
                                (clean(text(setting, "origin")))
                                @if count(setting, "line") > 0 { ", line " (count(setting, "line")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a service counts and allows now.
fn facts(service: &Value) -> Markup {
    let null = Value::default();
    let circuit = service.get("circuit").unwrap_or(&null);
    let limiter = service.get("limiter").unwrap_or(&null);
    let millis = |document: &Value, property: &str| short(Duration::from_millis(count(document, property)));
    html! {
        dl class="facts" {
            (fact("Calls in the window", &count(circuit, "windowCalls").to_string()))
            (fact("Failures", &count(circuit, "windowFailures").to_string()))
            (fact("Slow", &count(circuit, "windowSlow").to_string()))
            (fact("Consecutive failures", &count(circuit, "consecutiveFailures").to_string()))
            @if present(circuit, "cause").is_some() { (fact("Opened because of", text(circuit, "cause"))) }
            @if count(circuit, "retryAfterMs") > 0 { (fact("Next probe in", &millis(circuit, "retryAfterMs"))) }
            @if present(limiter, "available").is_some() { (fact("Permits available", &count(limiter, "available").to_string())) }
            @if count(limiter, "waiting") > 0 { (fact("Waiting for a permit", &count(limiter, "waiting").to_string())) }
            @if count(limiter, "frozenForMs") > 0 { (fact("Paused by the service for", &millis(limiter, "frozenForMs"))) }
            (fact("Calls in flight", &count(service, "inFlight").to_string()))
            @if count(service, "waitingForPlace") > 0 { (fact("Waiting in the bulkhead", &count(service, "waitingForPlace").to_string())) }
            @if present(service, "retriesLeft").is_some() { (fact("Retries left in the budget", &count(service, "retriesLeft").to_string())) }
        }
    }
}

fn buttons(visit: &Visit<'_>, service: &Value) -> Markup {
    if !visit.may.operate {
        return Markup::default();
    }
    let state = service.get("circuit").map(|circuit| text(circuit, "state")).unwrap_or_default();
    let to = |what: &str| format!("{}/{what}", address(text(service, "name")));
    html! {
        div class="buttons" {
            @if state == "Isolated" || state == "Open" || state == "HalfOpen" { (confirmed(visit, "Close", "Send all calls to this service again?", &to("close"), &[])) }
            @if state != "Isolated" { (confirmed(visit, "Isolate", "Refuse all calls of this service until the circuit is closed?", &to("open"), &[])) }
            (confirmed(visit, "Reset", "Forget all counts of this service and close its circuit?", &to("reset"), &[]))
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (clean(value)) } } }
}
