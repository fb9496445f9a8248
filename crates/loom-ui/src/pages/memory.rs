//! Shared memory: its namespaces, the keys of one of them, and what a key holds.

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    json,
    shell::{Live, Visit, instant, page, query, term},
};
use crate::{
    document::{count, items, present, text, time},
    graph::text::clean,
};

/// How often the page looks for news, in milliseconds.
const POLL: u32 = 3_000;

/// What the page shows: without a namespace the namespaces, without a key the keys. Empty strings are not given.
#[derive(Clone, Debug, Default)]
pub struct MemoryFilter {
    /// A namespace.
    pub namespace: String,
    /// A key of it.
    pub key: String,
    /// What the listed names begin with.
    pub prefix: String,
    /// Where the list begins.
    pub cursor: String,
}

impl MemoryFilter {
    /// The query of the API for the list that is shown, of this many entries.
    pub fn list_query(&self, limit: usize) -> String {
        query(&[("prefix", &self.prefix), ("cursor", &self.cursor), ("limit", &limit.to_string())])
    }

    /// The address of the list with another cursor.
    fn at(&self, cursor: &str) -> String {
        let parts = [("namespace", self.namespace.as_str()), ("prefix", &self.prefix), ("cursor", cursor)];
        format!("/ui/memory{}", query(&parts))
    }
}

/// The documents of the page; those that it does not need are null.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPage<'a> {
    /// What is shown.
    pub filter: &'a MemoryFilter,
    /// `GET /api/v1/memory`.
    pub namespaces: &'a Value,
    /// `GET /api/v1/memory/{namespace}`.
    pub keys: &'a Value,
    /// `GET /api/v1/memory/{namespace}/{key}`; null if the key is absent.
    pub value: &'a Value,
}

fn address(namespace: &str, key: &str) -> String {
    format!("/ui/memory{}", query(&[("namespace", namespace), ("key", key)]))
}

/// The page.
pub fn memory(visit: &Visit<'_>, parts: &MemoryPage<'_>) -> String {
    let filter = parts.filter;
    let (namespace, key) = (filter.namespace.as_str(), filter.key.as_str());
    let content = html! {
        div class="heading" {
            div {
                h1 {
                    @if namespace.is_empty() { "Memory" } @else { a href="/ui/memory" { "Memory" } }
                }
                @if !namespace.is_empty() {
                    p class="mono" {
                        @if key.is_empty() { (clean(namespace)) }
                        @else { a href=(address(namespace, "")) { (clean(namespace)) } "/" (clean(key)) }
                    }
                }
            }
        }
        @if !namespace.is_empty() && !key.is_empty() { div id="memory" data-swap { (value(parts.value)) } }
        @else { (list(parts)) }
    };
    let title = match (namespace, key) {
        ("", _) => "Memory".to_owned(),
        (namespace, "") => format!("{} · Memory", clean(namespace)),
        (namespace, key) => format!("{}/{} · Memory", clean(namespace), clean(key)),
    };
    let is_live = filter.cursor.is_empty();
    page(visit, "memory", &title, if is_live { Live::Every(POLL) } else { Live::No }, &content)
}

/// The namespaces, or the keys of one, with a filter and pages.
fn list(parts: &MemoryPage<'_>) -> Markup {
    let filter = parts.filter;
    let is_of_keys = !filter.namespace.is_empty();
    let (document, name) = if is_of_keys { (parts.keys, "keys") } else { (parts.namespaces, "namespaces") };
    let next = text(document, "next");
    html! {
        form class="filters" method="get" action="/ui/memory" role="search" aria-label="Filter" {
            @if is_of_keys { input type="hidden" name="namespace" value=(filter.namespace); }
            label { @if is_of_keys { "Keys that begin with" } @else { "Namespaces that begin with" }
                input name="prefix" value=(filter.prefix) autocomplete="off" placeholder=(if is_of_keys { "messages/" } else { "chat:" });
            }
            div class="buttons" {
                button class="primary" { "Filter" }
                @if !filter.prefix.is_empty() { a class="button quiet" href=(address(&filter.namespace, "")) { "Clear" } }
            }
        }
        div id="memory" data-swap {
            @if items(document, name).next().is_none() { (nothing(filter)) } @else {
                div class="scroll" tabindex="0" {
                    table class="list" {
                        @if is_of_keys { (keys(document, &filter.namespace)) } @else { (namespaces(document)) }
                    }
                }
            }
        }
        nav class="pages" aria-label="Pages" {
            @if !filter.cursor.is_empty() { a class="button" href=(filter.at("")) { "First" } }
            @if !next.is_empty() { a class="button" rel="next" href=(filter.at(next)) { "Next" } }
        }
    }
}

fn namespaces(document: &Value) -> Markup {
    html! {
        thead { tr { th scope="col" { "Namespace" } th scope="col" { "Belongs to" } } }
        tbody {
            @for entry in items(document, "namespaces") {
                @let namespace = text(entry, "namespace");
                tr {
                    td class="name mono" { a href=(address(namespace, "")) { (clean(namespace)) } }
                    td { (owner(namespace)) }
                }
            }
        }
    }
}

/// What a namespace belongs to, with a link to what has a page.
fn owner(namespace: &str) -> Markup {
    match namespace.split_once(':') {
        Some(("run", id)) => {
            html! { "a " a href={ "/ui/runs/" (crate::graph::percent_encoded(id)) } { "run" } }
        }
        Some(("workflow", name)) => {
            html! { "a " a href={ "/ui/workflows/" (crate::graph::percent_encoded(name)) } { "workflow" } }
        }
        Some(("chat", _)) => html! { "a conversation" },
        Some(("agent", _)) => html! { "an agent" },
        _ => html! { "all" },
    }
}

fn keys(document: &Value, namespace: &str) -> Markup {
    html! {
        thead { tr {
            th scope="col" { "Key" } th scope="col" { "Type" } th scope="col" class="number" { "Revision" } th scope="col" { "Expires" }
        } }
        tbody {
            @for entry in items(document, "keys") {
                @let key = text(entry, "key");
                tr {
                    td class="name mono" { a href=(address(namespace, key)) { (clean(key)) } }
                    td { (clean(text(entry, "type"))) }
                    td class="number" { (count(entry, "revision")) }
                    td { @if present(entry, "expires").is_some() { (instant(time(entry, "expires"))) } @else { "never" } }
                }
            }
        }
    }
}

/// What a key holds.
fn value(document: &Value) -> Markup {
    if present(document, "revision").is_none() {
        return html! {
            div class="empty" { p { strong { "This key is absent" } } p { "It was never written, was deleted or has expired." } }
        };
    }
    html! {
        dl class="summary" {
            (term("Type", &html! { (clean(text(document, "type"))) }))
            (term("Revision", &html! { (count(document, "revision")) }))
            (term("Expires", &html! { @if present(document, "expires").is_some() { (instant(time(document, "expires"))) } @else { "never" } }))
        }
        div class="panel" { (json::boxed("Value", &document.get("value").cloned().unwrap_or_default())) }
    }
}

fn nothing(filter: &MemoryFilter) -> Markup {
    html! {
        div class="empty" {
            @if !filter.prefix.is_empty() {
                p { strong { "Nothing begins with " code { (clean(&filter.prefix)) } } }
            } @else if filter.namespace.is_empty() {
                p { strong { "Shared memory is empty" } }
                p { "Workflows write it with " code { "Memory" } " actions, and " code { "loom memory set global/limit 100" } " writes a first key." }
            } @else {
                p { strong { "This namespace has no keys" } }
                p { a href="/ui/memory" { "All namespaces" } }
            }
        }
    }
}
