//! The services that actions call: circuits, limits and budgets, and what an operator can do about them.

use std::time::Duration;

use loom_expression::Value;
use maud::{Markup, html};

use super::shell::{Live, Visit, badge, confirmed, done, page, post};
use crate::{
    document::{count, items, present, text},
    graph::{percent_encoded, text::clean},
    states::short,
};

/// The page. `services` is the response of `GET /api/v1/resilience`.
pub fn resilience(visit: &Visit<'_>, services: &Value, word: &str) -> String {
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
                div class="cards" { @for service in items(services, "services") { (card(visit, service)) } }
            }
        }
    };
    page(visit, "resilience", "Resilience", Live::Every(3_000), &content)
}

fn card(visit: &Visit<'_>, service: &Value) -> Markup {
    let name = text(service, "name");
    let null = Value::default();
    let circuit = service.get("circuit").unwrap_or(&null);
    let limiter = service.get("limiter").unwrap_or(&null);
    let state = text(circuit, "state");
    let to = |what: &str| format!("/ui/resilience/{}/{what}", percent_encoded(name));
    let millis = |document: &Value, property: &str| short(Duration::from_millis(count(document, property)));
    html! {
        section class="card" aria-label=(clean(name)) {
            div class="heading" { h2 { (clean(name)) } (badge(state)) }
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
            @if visit.may.operate { div class="buttons" {
                @if state == "Isolated" || state == "Open" || state == "HalfOpen" { (post(visit, &to("close"), &html! { button { "Close" } })) }
                @if state != "Isolated" { (confirmed(visit, "Isolate", "Refuse all calls of this service until the circuit is closed?", &to("open"), &[])) }
                (confirmed(visit, "Reset", "Forget all counts of this service and close its circuit?", &to("reset"), &[]))
            } }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (clean(value)) } } }
}
