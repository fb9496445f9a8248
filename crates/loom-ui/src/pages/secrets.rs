//! The names and versions of secrets. Their values are not in any document of the API.

use loom_expression::Value;
use maud::{Markup, html};

use super::shell::{Live, Visit, badge, instant, page};
use crate::{
    document::{count, items, text, time},
    graph::text::clean,
};

/// The page. `secrets` is the response of `GET /api/v1/secrets`.
pub fn secrets(visit: &Visit<'_>, secrets: &Value) -> String {
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
                div class="scroll" {
                    table class="list" {
                        thead { tr {
                            th scope="col" { "Name" } th scope="col" { "State" } th scope="col" class="number" { "Version" }
                            th scope="col" { "Set" } th scope="col" { "Expires" } th scope="col" { "Versions" }
                        } }
                        tbody { @for secret in items(secrets, "secrets") { (row(secret)) } }
                    }
                }
            }
        }
    };
    page(visit, "secrets", "Secrets", Live::Every(10_000), &content)
}

fn row(secret: &Value) -> Markup {
    html! {
        tr {
            td class="name mono" { (clean(text(secret, "name"))) }
            td { (badge(text(secret, "state"))) }
            td class="number" { (count(secret, "version")) }
            td { (instant(time(secret, "createdOn"))) }
            td { (instant(time(secret, "expiresOn"))) }
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
