//! Secrets: their names, versions, expiry and last use, the providers, and who used what. Their values are not in any document
//! of the API.

use loom_expression::Value;
use maud::{Markup, html};

use super::shell::{Live, Visit, badge, instant, page};
use crate::{
    document::{count, items, text, time},
    graph::text::clean,
};

/// The page. `secrets` is the response of `GET /api/v1/secrets`, `audit` that of `GET /api/v1/secret-audit`.
pub fn secrets(visit: &Visit<'_>, secrets: &Value, audit: &Value) -> String {
    let content = html! {
        div class="heading" {
            div { h1 { "Secrets" } p class="muted" { "Names and versions. Values cannot be shown." } }
        }
        div id="secrets" data-swap {
            @if items(secrets, "secrets").next().is_none() {
                div class="empty" {
                    p { strong { "No secrets" } }
                    p { "Set one with " code { "loom secrets set NAME" } "; workflows read it with " code { "secret('NAME')" } "." }
                }
            } @else {
                div class="scroll" tabindex="0" {
                    table class="list" {
                        thead { tr {
                            th scope="col" { "Name" } th scope="col" { "State" } th scope="col" class="number" { "Version" }
                            th scope="col" { "Set" } th scope="col" { "Expires" } th scope="col" { "Last used" } th scope="col" { "Versions" }
                        } }
                        tbody { @for secret in items(secrets, "secrets") { (row(secret)) } }
                    }
                }
            }
        }
        div id="providers" data-swap {
            h2 { "Providers" }
            div class="scroll" tabindex="0" {
                table class="list" {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Type" } th scope="col" { "Asked" } th scope="col" { "Circuit" }
                    } }
                    tbody { @for provider in items(secrets, "providers") { (provider_row(provider)) } }
                }
            }
        }
        div id="audit" data-swap {
            h2 { "Audit" }
            @if items(audit, "entries").next().is_none() {
                div class="empty" { p { "Nobody has used or changed a secret." } }
            } @else {
                div class="scroll" tabindex="0" {
                    table class="list" {
                        thead { tr {
                            th scope="col" { "Time" } th scope="col" { "Operation" } th scope="col" { "Secret" }
                            th scope="col" { "Version" } th scope="col" { "By" } th scope="col" { "Run" } th scope="col" { "Reason" }
                        } }
                        tbody { @for entry in items(audit, "entries") { (entry_row(entry)) } }
                    }
                }
                @if !text(audit, "next").is_empty() {
                    p class="muted" { "The newest entries. " code { "loom secrets audit" } " shows all." }
                }
            }
        }
    };
    page(visit, "secrets", "Secrets", Live::Every(10_000), &content)
}

fn row(secret: &Value) -> Markup {
    let used = secret.get("lastUsed").cloned().unwrap_or_default();
    html! {
        tr {
            td class="name mono" { (clean(text(secret, "name"))) }
            td { (badge(text(secret, "state"))) }
            td class="number" { (count(secret, "version")) }
            td { (instant(time(secret, "createdOn"))) }
            td { (instant(time(secret, "expiresOn"))) (left(secret)) }
            td { (instant(time(&used, "at"))) (run_of(&used)) }
            td {
                details {
                    summary { (items(secret, "versions").count()) }
                    ul {
                        @for version in items(secret, "versions") {
                            li { (count(version, "version")) " · " (clean(text(version, "state"))) " · " (instant(time(version, "createdOn"))) }
                        }
                    }
                }
            }
        }
    }
}

/// The days that are left until a secret expires.
fn left(secret: &Value) -> Markup {
    let days =
        secret.get("expiresInDays").and_then(Value::as_i64).filter(|_| text(secret, "state") == "enabled");
    html! {
        @match days {
            None => {}
            Some(1) => { " " span class="muted" { "in 1 day" } }
            Some(days) => { " " span class="muted" { "in " (days) " days" } }
        }
    }
}

fn provider_row(provider: &Value) -> Markup {
    let is_default = provider.get("isDefault").and_then(Value::as_bool) == Some(true);
    html! {
        tr {
            td class="name mono" { (clean(text(provider, "name"))) }
            td { (clean(text(provider, "type"))) }
            td { @if is_default { "for every name" } @else { "by name only" } }
            td { @if !text(provider, "circuit").is_empty() { (badge(text(provider, "circuit"))) } }
        }
    }
}

fn entry_row(entry: &Value) -> Markup {
    html! {
        tr {
            td { (instant(time(entry, "at"))) }
            td { (clean(text(entry, "operation"))) }
            td class="mono" { (clean(text(entry, "secret"))) }
            td class="mono" { (clean(text(entry, "version"))) }
            td { (clean(text(entry, "by"))) @if !text(entry, "action").is_empty() { " · " (clean(text(entry, "action"))) } }
            td { (run_of(entry)) }
            td { (clean(text(entry, "reason"))) }
        }
    }
}

/// A link to the run that used a secret, if one did.
fn run_of(entry: &Value) -> Markup {
    let run = text(entry, "run");
    // An id is letters and digits alone.
    let is_id = !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
    html! {
        @if is_id { " " a class="mono" href={ "/ui/runs/" (run) } { (run) } }
    }
}
