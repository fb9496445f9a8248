//! The state of the server: its store, its runs, its settings.

use loom_expression::Value;
use maud::html;

use super::{
    json,
    shell::{Live, Visit, badge, page, term},
};
use crate::{
    document::{count, items, present, text},
    graph::text::clean,
};

/// The documents of the page.
#[derive(Clone, Copy, Debug)]
pub struct StatusPage<'a> {
    /// `GET /healthz`.
    pub health: &'a Value,
    /// `GET /readyz`.
    pub ready: &'a Value,
    /// `GET /api/v1/settings`.
    pub settings: &'a Value,
}

/// The page.
pub fn status(visit: &Visit<'_>, parts: &StatusPage<'_>) -> String {
    let (health, ready) = (parts.health, parts.ready);
    let is_ready = ready.get("ready").and_then(Value::as_bool).unwrap_or_default();
    let content = html! {
        div class="heading" { h1 { "Status" } }
        div id="status" data-swap {
            @for document in [health, ready] {
                @if present(document, "reason").is_some() { div class="notice bad" role="alert" { (clean(text(document, "reason"))) } }
            }
            dl class="summary" {
                (term("Health", &badge(text(health, "status"))))
                (term("Ready", &html! { @if is_ready { "yes" } @else { "no" } }))
                (term("Store", &badge(text(health, "store"))))
                (term("Durability", &html! { (clean(text(health, "durability"))) }))
                (term("Runs in progress", &html! { (count(health, "runsInProgress")) }))
                (term("Runs held", &html! { (count(health, "runsHeld")) }))
                (term("Version", &html! { (visit.version) }))
            }
        }
        h2 { "Settings" }
        @if items(parts.settings, "settings").next().is_none() { p class="muted" { "The program that runs this server does not publish its settings." } }
        @else {
            div class="scroll" tabindex="0" {
                table class="list" {
                    thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } } }
                    tbody {
                        @for setting in items(parts.settings, "settings") {
                            tr {
                                td class="mono" { (clean(text(setting, "name"))) }
                                td class="name" { @match present(setting, "value") { Some(value) => (json::marked(&value.text())), None => span class="muted" { "–" } } }
                                td class="name muted" { (clean(text(setting, "origin"))) }
                            }
                        }
                    }
                }
            }
        }
    };
    page(visit, "status", "Status", Live::Every(5_000), &content)
}
