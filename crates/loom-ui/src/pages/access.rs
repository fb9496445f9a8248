//! Who may use the API: named tokens with their scopes, and what callers have changed.

use loom_expression::Value;
use maud::{Markup, html};

use super::shell::{Live, Visit, confirmed, done, instant, page, post};
use crate::{
    document::{count, items, present, text, time},
    graph::{percent_encoded, text::clean},
};

/// The scopes that a token can have, and what each allows.
const SCOPES: [(&str, &str); 4] = [
    ("read", "See workflows, runs, memory, names of secrets, settings and metrics"),
    ("run", "Start runs, send them signals and answers, call chat completions and tools over MCP"),
    ("operate", "Control runs, triggers, services and nodes, change shared memory"),
    ("deploy", "Change workflows, signed URLs, secrets and stored policies"),
];

/// The documents of the page.
#[derive(Clone, Copy, Debug)]
pub struct AccessPage<'a> {
    /// `GET /api/v1/tokens`; null for a visitor who may not see them.
    pub tokens: &'a Value,
    /// `GET /api/v1/audit`.
    pub audit: &'a Value,
    /// Whether the server requires a token.
    pub is_guarded: bool,
    /// `POST /api/v1/tokens`: a token that was created just now.
    pub created: &'a Value,
    /// Why none was created.
    pub refused: &'a str,
    /// What was done just now.
    pub done: &'a str,
}

/// The page.
pub fn access(visit: &Visit<'_>, parts: &AccessPage<'_>) -> String {
    let content = html! {
        div class="heading" { h1 { "Access" } }
        (done(parts.done))
        @if !parts.is_guarded {
            div class="notice warn" {
                "This server requires no token: every program on this machine has full access. Named tokens take effect when it is started with "
                code { "--token-file" } "."
            }
        }
        @if !parts.refused.is_empty() { div class="notice bad" role="alert" { (clean(parts.refused)) } }
        @if present(parts.created, "token").is_some() {
            div class="notice" role="status" {
                p { "The token " strong { (clean(text(parts.created, "name"))) } " was created. Copy it now: it is not shown again." }
                label { "Token" input class="mono" readonly value=(text(parts.created, "token")) data-copy; }
            }
        }
        section { h2 { "Tokens" } (tokens(visit, parts)) }
        @if visit.may.admin {
            section { h2 { "Create a token" } (form(visit)) }
            section { h2 { "Audit of changes" } (audit(parts.audit)) }
        }
    };
    page(visit, "access", "Access", Live::No, &content)
}

fn tokens(visit: &Visit<'_>, parts: &AccessPage<'_>) -> Markup {
    if !visit.may.admin {
        return html! { p class="muted" { "Only the server's own token shows named tokens and the audit of changes." } };
    }
    if items(parts.tokens, "tokens").next().is_none() {
        return html! { p class="muted" { "There are no named tokens. The server's own token is not among them." } };
    }
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Scopes" } th scope="col" { "Created" } th scope="col" { "By" } th scope="col" { "Expires" }
                    th scope="col" { "Change" }
                } }
                tbody {
                    @for token in items(parts.tokens, "tokens") {
                        @let name = text(token, "name");
                        tr {
                            td class="name" { (clean(name)) }
                            td { @for scope in items(token, "scopes") { span class="badge idle" { (clean(&scope.text())) } " " } }
                            td { (instant(time(token, "created"))) }
                            td { (clean(text(token, "createdBy"))) }
                            td { @if present(token, "expires").is_some() { (instant(time(token, "expires"))) } @else { "never" } }
                            td { (confirmed(visit, "Revoke", "Reject this token from now on, and end its sessions?", &format!("/ui/access/{}/revoke", percent_encoded(name)), &[])) }
                        }
                    }
                }
            }
        }
    }
}

fn form(visit: &Visit<'_>) -> Markup {
    post(
        visit,
        "/ui/access/tokens/create",
        &html! {
            div class="card" {
                label { "Name" input name="name" required pattern="[a-z0-9\\-]{1,40}" autocomplete="off" placeholder="ci"; span class="muted" { "Lowercase letters, digits and hyphens" } }
                fieldset {
                    legend { "Scopes" }
                    @for (name, allows) in SCOPES {
                        label class="check" { input type="checkbox" name={ "scope." (name) } value="true"; span { strong { (name) } " " span class="muted" { (allows) } } }
                    }
                }
                label { "Expires" input name="expires" autocomplete="off" placeholder="2027-01-31T00:00:00Z"; span class="muted" { "Empty: never" } }
                div class="buttons" { button class="primary" { "Create" } }
            }
        },
    )
}

fn audit(audit: &Value) -> Markup {
    if items(audit, "entries").next().is_none() {
        return html! { p class="muted" { "Nothing was changed over the API yet. Starts of runs are in the list of runs." } };
    }
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" { "Time" } th scope="col" { "By" } th scope="col" { "Change" } th scope="col" class="number" { "Status" } } }
                tbody {
                    @for entry in items(audit, "entries") {
                        tr {
                            td { (instant(time(entry, "at"))) }
                            td { (clean(text(entry, "by"))) }
                            td class="mono name" {
                                (clean(text(entry, "method"))) " " (clean(text(entry, "path")))
                                @if present(entry, "query").is_some() { "?" (clean(text(entry, "query"))) }
                            }
                            td class="number" { (count(entry, "status")) }
                        }
                    }
                }
            }
        }
    }
}
