//! The state of the server: its store, its runs, its threads, its nodes, its settings.

use std::time::Duration;

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    json,
    shell::{Live, Visit, badge, instant, page, term},
};
use crate::{
    document::{between, count, is, items, present, text, time},
    graph::text::clean,
    states::short,
};

/// The documents of the page.
#[derive(Clone, Copy, Debug)]
pub struct StatusPage<'a> {
    /// `GET /api/v1/status`.
    pub status: &'a Value,
    /// `GET /api/v1/nodes`.
    pub nodes: &'a Value,
    /// `GET /api/v1/settings`.
    pub settings: &'a Value,
}

/// The page.
pub fn status(visit: &Visit<'_>, parts: &StatusPage<'_>) -> String {
    let null = Value::default();
    let status = parts.status;
    let of = |name: &str| status.get(name).unwrap_or(&null);
    let (store, runs, workers, process) = (of("store"), of("runs"), of("workers"), of("process"));
    let started = time(process, "startTime");
    let content = html! {
        div class="heading" { h1 { "Status" } }
        div id="status" data-swap {
            @for document in [status, store] {
                @if present(document, "reason").is_some() { div class="notice bad" role="alert" { (clean(text(document, "reason"))) } }
            }
            dl class="summary" {
                (term("Server", &badge(if is(status, "ready") { "ready" } else { "not ready" })))
                (term("Store", &badge(text(store, "condition"))))
                (term("Durability", &html! { (clean(text(store, "durability"))) }))
                (term("Runs in progress", &html! { (count(runs, "inProgress")) " of " (count(runs, "max")) }))
                (term("Version", &html! { (clean(text(status, "version"))) }))
                (term("Started", &html! { (instant(started)) }))
                @if let Some(started) = started { (term("Running for", &html! { (short(between(started, visit.now))) })) }
            }
        }
        div id="parts" class="cards" data-swap {
            (card("Store", &html! {
                (fact("In the queue", &format!("{} of {}", bytes(count(store, "queuedBytes")), bytes(count(store, "queueBytesMax")))))
                (fact("Commits", &count(store, "commits").to_string()))
                (fact("Transactions", &count(store, "groups").to_string()))
                (fact("Payload written", &bytes(count(store, "payloadBytes"))))
                (fact("Commits refused", &count(store, "commitsRefused").to_string()))
                (fact("Pauses", &count(store, "pauses").to_string()))
            }))
            (card("Times of the store", &html! {
                @for (name, property) in [("Commit", "commitTimes"), ("Transaction", "groupTimes"), ("Sync to disk", "syncTimes")] {
                    @let times = store.get(property).unwrap_or(&null);
                    (fact(&format!("{name}, on average"), &micros(times, "averageMicros")))
                    (fact(&format!("{name}, 99 % within"), &micros(times, "p99Micros")))
                }
            }))
            (card("Runs", &html! {
                @for (name, property) in [("In memory", "inProgress"), ("Parked", "parked"), ("Held", "held"), ("Waiting for a trigger's limit", "waiting")] {
                    (fact(name, &count(runs, property).to_string()))
                }
            }))
            (card("Workers", &html! {
                (fact("Threads of the runtime", &count(workers, "threads").to_string()))
                (fact("Tasks", &count(workers, "tasks").to_string()))
                (fact("Tasks in the queue", &count(workers, "queued").to_string()))
                @for (name, property) in [("Threads that evaluate", "evaluations"), ("Threads that read", "reads")] {
                    @let pool = workers.get(property).unwrap_or(&null);
                    (fact(name, &format!("{} of {} busy", count(pool, "busy"), count(pool, "threads"))))
                }
                (fact("Event streams", &format!("{} of {}", count(workers, "watchers"), count(workers, "watchersMax"))))
            }))
            @if !process.is_null() { (card("Process", &html! {
                @if present(process, "cpuMs").is_some() { (fact("CPU time", &short(Duration::from_millis(count(process, "cpuMs"))))) }
                @if present(process, "residentBytes").is_some() { (fact("Memory", &bytes(count(process, "residentBytes")))) }
                @if present(process, "openFiles").is_some() { (fact("Open files", &format!("{} of {}", count(process, "openFiles"), count(process, "openFilesMax")))) }
            })) }
        }
        @if items(parts.nodes, "nodes").next().is_some() {
            h2 { "Nodes" }
            div id="nodes" data-swap { (nodes(parts.nodes)) }
        }
        h2 { "Settings" }
        (settings(parts.settings))
    };
    page(visit, "status", "Status", Live::Every(5_000), &content)
}

fn card(name: &str, facts: &Markup) -> Markup {
    html! { section class="card" aria-label=(name) { h2 { (name) } dl class="facts" { (facts) } } }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// A time of a histogram, which has none before something was measured.
fn micros(times: &Value, name: &str) -> String {
    present(times, name).map_or_else(|| "–".to_owned(), |_| brief(count(times, name)))
}

/// `300 µs`, `12 ms`.
fn brief(micros: u64) -> String {
    if micros < 1_000 { format!("{micros} µs") } else { short(Duration::from_micros(micros)) }
}

/// `1.5 MiB`.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} bytes");
    }
    let exponent = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    let number = bytes as f64 / 1_024_f64.powi(exponent as i32);
    format!("{number:.1} {}", UNITS[exponent as usize - 1])
}

fn nodes(nodes: &Value) -> Markup {
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" { "Node" } th scope="col" { "Address" } th scope="col" class="number" { "Shards" } } }
                tbody {
                    @for node in items(nodes, "nodes") {
                        tr {
                            td class="name" { (clean(text(node, "name"))) @if is(node, "isThisNode") { span class="muted" { " (this one)" } } }
                            td class="name mono" { (clean(text(node, "address"))) }
                            td class="number" { (count(node, "shards")) }
                        }
                    }
                }
            }
        }
    }
}

fn settings(settings: &Value) -> Markup {
    if items(settings, "settings").next().is_none() {
        return html! { p class="muted" { "The program that runs this server does not publish its settings." } };
    }
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } } }
                tbody {
                    @for setting in items(settings, "settings") {
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
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_short() {
        for (size, shown) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(size), shown);
        }
    }
}
