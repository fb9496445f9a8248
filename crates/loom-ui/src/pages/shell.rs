//! What all pages have: the head, the navigation, and the elements that several pages use.

use std::fmt::Write;

use loom_expression::{Timestamp, Value};
use maud::{DOCTYPE, Markup, html};

use crate::{document::between, graph::text::clean, states::short};

/// Who asks for a page, and when.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The proof that a form comes from a page of this server; none without a session.
    pub csrf: Option<&'a str>,
    /// Whether the visitor can sign out.
    pub has_session: bool,
    /// What the visitor may change. Buttons for anything else are not shown.
    pub may: May,
    /// The current time.
    pub now: Timestamp,
    /// The version of the server.
    pub version: &'a str,
    /// A mark of the assets' contents, which makes browsers ask for new ones.
    pub assets: &'a str,
}

/// What a visitor may do besides reading: the scopes of the API.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a scope of its own")]
pub struct May {
    /// Start runs, and speak to them.
    pub run: bool,
    /// Control runs, triggers and services, and change shared memory.
    pub operate: bool,
    /// Change workflows, signed URLs and secrets.
    pub deploy: bool,
    /// Create and revoke tokens.
    pub admin: bool,
}

/// The entries of the navigation: path below `/ui/`, and title.
const SECTIONS: [(&str, &str); 7] = [
    ("runs", "Runs"),
    ("workflows", "Workflows"),
    ("resilience", "Resilience"),
    ("memory", "Memory"),
    ("secrets", "Secrets"),
    ("access", "Access"),
    ("status", "Status"),
];

/// How the script keeps a page up to date.
#[derive(Clone, Copy, Debug)]
pub(super) enum Live<'a> {
    /// It stays as it is.
    No,
    /// Asked for again after so many milliseconds.
    Every(u32),
    /// Asked for again when the event stream at this address has news.
    Stream(&'a str),
}

/// The types of events, which the script has to name to receive them.
pub const EVENTS: &str = "run.started run.waiting run.admitted run.suspended run.resumed run.responded run.completed \
    action.started action.retrying action.polling action.waiting action.completed action.skipped action.tracked \
    attempt.started attempt.completed attempt.held attempt.hedged block.opened loop.started loop.iteration timer.set timer.ended \
    variable.set variable.appended breaker.opened breaker.halfOpened breaker.closed policy.observed chaos.injected \
    agent.turn message.interrupted message.snapshot message.delta";

/// A whole page.
pub(super) fn page(
    visit: &Visit<'_>,
    section: &str,
    title: &str,
    live: Live<'_>,
    content: &Markup,
) -> String {
    let (live, events) = match live {
        Live::No => (None, None),
        Live::Every(millis) => (Some(millis.to_string()), None),
        Live::Stream(address) => (Some(address.to_owned()), Some(EVENTS)),
    };
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            (head(visit, title))
            body {
                a class="skip" href="#main" { "Skip to content" }
                header class="top" {
                    a class="brand" href="/ui/runs" { (brand()) "Loom" }
                    nav aria-label="Main" {
                        @for (path, name) in SECTIONS {
                            a href={ "/ui/" (path) } aria-current=[(path == section).then_some("page")] { (name) }
                        }
                    }
                    div class="tools" {
                        button type="button" class="quiet" id="theme" hidden { "Theme" }
                        @if visit.has_session { (post(visit, "/ui/logout", &html! { button class="quiet" { "Sign out" } })) }
                    }
                }
                main id="main" data-live=[live] data-events=[events] { (content) }
                footer { "Loom " (visit.version) " · times in UTC" }
            }
        }
    };
    document.into_string()
}

pub(super) fn head(visit: &Visit<'_>, title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="referrer" content="same-origin";
            title { (title) " · Loom" }
            link rel="icon" href={ "/ui/assets/loom.svg?" (visit.assets) } type="image/svg+xml";
            link rel="stylesheet" href={ "/ui/assets/loom.css?" (visit.assets) };
            script src={ "/ui/assets/loom.js?" (visit.assets) } {}
        }
    }
}

/// The sign of Loom: two threads that cross.
pub(super) fn brand() -> Markup {
    html! {
        svg class="sign" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" {
            path d="M4 3V17M10 3V17M16 3V17M2 7H18M2 13H18" {}
        }
    }
}

/// A page that says why a request failed.
pub fn failure(visit: &Visit<'_>, status: u16, code: &str, message: &str) -> String {
    let content = html! {
        h1 { @if status == 404 { "Not found" } @else { "The request failed" } }
        div class="notice bad" role="alert" {
            p { strong { (clean(code)) } " (" (status) ")" }
            p { (clean(message)) }
        }
        p { a href="/ui/runs" { "All runs" } }
    };
    page(visit, "", "Error", Live::No, &content)
}

/// A form that posts to `action`, with the proof of its origin.
pub(super) fn post(visit: &Visit<'_>, action: &str, content: &Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            @if let Some(csrf) = visit.csrf { input type="hidden" name="csrf" value=(csrf); }
            (content)
        }
    }
}

/// A button that asks before it posts, also without a script.
pub(super) fn confirmed(
    visit: &Visit<'_>,
    label: &str,
    question: &str,
    action: &str,
    hidden: &[(&str, &str)],
) -> Markup {
    html! {
        details class="confirm" {
            summary class="button" { (label) }
            div class="popup" {
                p { (question) }
                (post(visit, action, &html! {
                    @for (name, value) in hidden { input type="hidden" name=(name) value=(value); }
                    button class="danger" { (label) }
                }))
            }
        }
    }
}

/// A status as a coloured badge with a sign.
pub(super) fn badge(status: &str) -> Markup {
    let tone = match status {
        "Succeeded" | "Closed" | "Enabled" | "Current" | "enabled" | "ready" | "running" => "ok",
        "Failed" | "TimedOut" | "Aborted" | "Unreadable" | "Open" | "Isolated" | "closed" | "not ready"
        | "expired" => "bad",
        "Running" => "run",
        "Cancelled" | "Suspended" | "Held" | "Retrying" | "HalfOpen" | "Disabled" | "paused" | "disabled" => {
            "warn"
        }
        _ => "idle",
    };
    html! { span class={ "badge " (tone) } { (clean(status)) } }
}

/// An instant, to the second.
pub(super) fn instant(at: Option<Timestamp>) -> Markup {
    let Some(at) = at else { return html! { span class="muted" { "–" } } };
    let full = at.to_string();
    let shown = full.split('.').next().unwrap_or(&full).trim_end_matches('Z').replace('T', " ");
    html! { time datetime=(full) { (shown) } }
}

/// An instant of today, with milliseconds.
pub(super) fn moment(at: Option<Timestamp>) -> Markup {
    let Some(at) = at else { return Markup::default() };
    let full = at.to_string();
    let time = full.split('T').nth(1).unwrap_or(&full);
    let shown: String = time.trim_end_matches('Z').chars().take(12).collect();
    html! { time datetime=(full) title=(full) { (shown) } }
}

/// How long something took or has taken.
pub(super) fn took(start: Option<Timestamp>, end: Option<Timestamp>, now: Timestamp) -> Markup {
    match start {
        None => html! { span class="muted" { "–" } },
        Some(start) => html! { (short(between(start, end.unwrap_or(now)))) },
    }
}

/// A row of a list of terms.
pub(super) fn term(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The query of an address: `?a=1&b=2`, without empty values.
pub(super) fn query(parts: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in parts.iter().filter(|(_, value)| !value.is_empty()) {
        let sign = if out.is_empty() { '?' } else { '&' };
        // Writing to a String cannot fail.
        let _ = write!(out, "{sign}{name}={}", crate::graph::percent_encoded(value));
    }
    out
}

/// A notice after a change, by the word in the address of the page.
pub(super) fn done(word: &str) -> Markup {
    let message = match word {
        "cancel" => "The run is being cancelled.",
        "suspend" => "The run is suspended.",
        "resume" => "The run continues.",
        "resubmit" => "A new run was started from the trigger of the other.",
        "run" => "The run was started.",
        "delete" => "The run was deleted.",
        "enable" => "Enabled.",
        "disable" => "Disabled. Runs in progress continue.",
        "rotate" => "The trigger has a new URL; the old one no longer works.",
        "open" => "The circuit is isolated until it is closed or reset.",
        "close" => "The circuit is closed.",
        "reset" => "The state of the service was reset.",
        "revoke" => "The token was revoked.",
        "skip" => "The action no longer waits.",
        "signal" => "The signal was sent.",
        "answer" => "The answer was sent.",
        "deploy" => "The definition was deployed.",
        _ => return Markup::default(),
    };
    html! { div class="notice" role="status" { (message) } }
}

/// A JSON document, or nothing if it is missing.
pub(super) fn value_of(document: &Value, name: &str) -> Option<Value> {
    crate::document::present(document, name).cloned()
}
