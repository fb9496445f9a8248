//! The list of runs.

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    bulk::BulkChange,
    shell::{Live, Visit, badge, done, instant, page, query, took},
};
use crate::document::{count, error, items, text, time};

/// How often a list looks for news, in milliseconds.
const POLL: u32 = 3_000;

/// The statuses by which the API filters.
const STATUSES: [&str; 9] =
    ["Running", "Waiting", "Suspended", "Held", "Succeeded", "Failed", "Cancelled", "TimedOut", "Aborted"];

/// What a run can wait for, as the API and as the page names it.
const WAITS: [(&str, &str); 5] = [
    ("timer", "A time"),
    ("callback", "A callback"),
    ("signal", "A signal or a person"),
    ("child", "Another workflow"),
    ("gate", "Its turn"),
];

/// What the list shows; empty strings are no filter.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// The name of a workflow.
    pub workflow: String,
    /// A status.
    pub status: String,
    /// An error code.
    pub error: String,
    /// The earliest time of acceptance.
    pub from: String,
    /// The time before which runs were accepted.
    pub before: String,
    /// A part of the text of the error.
    pub error_text: String,
    /// A client tracking id.
    pub tracking_id: String,
    /// What the runs wait for.
    pub waiting_for: String,
    /// `true` for runs with an action that is being retried.
    pub retrying: String,
    /// `true` for runs that are parked.
    pub parked: String,
    /// Where the page begins.
    pub cursor: String,
    /// What was done just now.
    pub done: String,
}

impl RunFilter {
    /// The query of the API, and of this page.
    pub fn query(&self) -> String {
        let mut all = self.parts().to_vec();
        all.push(("cursor", &self.cursor));
        query(&all)
    }

    /// What is filtered by: the parameters of the query, without the place in the list.
    pub(super) fn parts(&self) -> [(&'static str, &str); 10] {
        [
            ("workflow", &self.workflow),
            ("status", &self.status),
            ("error", &self.error),
            ("from", &self.from),
            ("before", &self.before),
            ("errorText", &self.error_text),
            ("trackingId", &self.tracking_id),
            ("waitingFor", &self.waiting_for),
            ("retrying", &self.retrying),
            ("parked", &self.parked),
        ]
    }

    /// Whether a part that is not always shown is in use.
    fn has_more(&self) -> bool {
        self.parts()[5..].iter().any(|(_, value)| !value.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.query().is_empty()
    }
}

/// The page. `runs` is the response of `GET /api/v1/runs`, `number` that of `GET /api/v1/runs/count`, `workflows` that of
/// `GET /api/v1/workflows`.
pub fn runs(
    visit: &Visit<'_>,
    filter: &RunFilter,
    runs: &Value,
    number: &Value,
    workflows: &Value,
) -> String {
    let next = text(runs, "next");
    let older = RunFilter { cursor: next.to_owned(), ..filter.clone() };
    let newest = RunFilter { cursor: String::new(), ..filter.clone() };
    let is_first = filter.cursor.is_empty();
    let content = html! {
        div class="heading" { h1 { "Runs" } }
        (done(&filter.done))
        (filters(visit, filter, workflows))
        div id="runs" data-swap {
            @if items(runs, "runs").next().is_none() { (nothing(filter)) } @else {
                p class="muted" { (how_many(number)) }
                (table(visit, items(runs, "runs")))
            }
        }
        nav class="pages" aria-label="Pages" {
            @if !is_first { a class="button" href={ "/ui/runs" (newest.query()) } { "Newest" } }
            @if !next.is_empty() { a class="button" rel="next" href={ "/ui/runs" (older.query()) } { "Older" } }
        }
    };
    page(visit, "runs", "Runs", if is_first { Live::Every(POLL) } else { Live::No }, &content)
}

/// The number of runs that fit, which is not counted to the end if there are many.
fn how_many(number: &Value) -> String {
    let is_exact = number.get("exact").and_then(Value::as_bool).unwrap_or_default();
    match (count(number, "count"), is_exact) {
        (1, true) => "1 run".to_owned(),
        (runs, true) => format!("{runs} runs"),
        (runs, false) => format!("At least {runs} runs"),
    }
}

/// Runs as a table.
pub(super) fn table<'v>(visit: &Visit<'_>, runs: impl Iterator<Item = &'v Value>) -> Markup {
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr {
                    th scope="col" { "Status" } th scope="col" { "Run" } th scope="col" { "Workflow" }
                    th scope="col" { "Accepted" } th scope="col" class="number" { "Duration" } th scope="col" { "Error" }
                } }
                tbody { @for run in runs { (row(visit, run)) } }
            }
        }
    }
}

fn filters(visit: &Visit<'_>, filter: &RunFilter, workflows: &Value) -> Markup {
    html! {
        form class="filters" method="get" action="/ui/runs" role="search" aria-label="Filter runs" {
            label { "Workflow"
                input name="workflow" list="workflows" value=(filter.workflow) autocomplete="off";
            }
            datalist id="workflows" {
                @for workflow in items(workflows, "workflows") { option value=(text(workflow, "name")) {} }
            }
            label { "Status"
                select name="status" {
                    option value="" { "Any" }
                    @for status in STATUSES { option selected[status == filter.status] { (status) } }
                }
            }
            label { "Error code" input name="error" value=(filter.error) autocomplete="off"; }
            label { "Since" input name="from" value=(filter.from) placeholder="2026-01-31T00:00:00Z" autocomplete="off"; }
            label { "Before" input name="before" value=(filter.before) placeholder="2026-02-01T00:00:00Z" autocomplete="off"; }
            details class="more" open[filter.has_more()] {
                summary { "More filters" }
                div class="filters-more" {
                    label { "Text of the error" input name="errorText" value=(filter.error_text) autocomplete="off"; }
                    label { "Tracking ID" input name="trackingId" value=(filter.tracking_id) autocomplete="off"; }
                    label { "Waiting for"
                        select name="waitingFor" {
                            option value="" { "Anything or nothing" }
                            @for (value, name) in WAITS { option value=(value) selected[value == filter.waiting_for] { (name) } }
                        }
                    }
                    label { "Retrying"
                        select name="retrying" { option value="" { "Any" } option value="true" selected[filter.retrying == "true"] { "An action is being retried" } }
                    }
                    label { "Parked"
                        select name="parked" {
                            option value="" { "Any" }
                            option value="true" selected[filter.parked == "true"] { "Not in memory" }
                            option value="false" selected[filter.parked == "false"] { "In memory" }
                        }
                    }
                }
            }
            div class="buttons" {
                button class="primary" { "Filter" }
                @if !filter.is_empty() { a class="button quiet" href="/ui/runs" { "Clear" } }
            }
        }
        @if visit.may.operate && filter.parts().iter().any(|(_, value)| !value.is_empty()) {
            nav class="buttons" aria-label="Change all runs that fit the filter" {
                span class="muted" { "All that fit:" }
                @for change in BulkChange::ALL {
                    a class="button" href={ "/ui/runs/bulk/" (change.name()) (query(&filter.parts())) } { (change.verb()) "…" }
                }
            }
        }
    }
}

fn nothing(filter: &RunFilter) -> Markup {
    html! {
        div class="empty" {
            @if filter.is_empty() {
                p { strong { "No runs yet" } }
                p { "Start one from the page of a " a href="/ui/workflows" { "workflow" } ", or send a request to the URL of its trigger." }
            } @else {
                p { strong { "No run fits the filter" } }
                p { "Change it, or " a href="/ui/runs" { "show all runs" } "." }
            }
        }
    }
}

fn row(visit: &Visit<'_>, run: &Value) -> Markup {
    let (id, workflow) = (text(run, "id"), text(run, "workflow"));
    let status = match (text(run, "unreadable"), text(run, "held")) {
        ("", "") => text(run, "status"),
        ("", _) => "Held",
        _ => "Unreadable",
    };
    html! {
        tr {
            td { (badge(status)) }
            td { a class="mono" href={ "/ui/runs/" (id) } { (id) } }
            td class="name" { a href={ "/ui/workflows/" (crate::graph::percent_encoded(workflow)) } { (crate::graph::text::clean(workflow)) } }
            td { (instant(time(run, "acceptedTime"))) }
            td class="number" { (took(time(run, "startTime"), time(run, "endTime"), visit.now)) }
            td { @if let Some((code, _)) = error(run) { (crate::graph::text::clean(code)) } }
        }
    }
}
