//! The workflows, and one of them: its triggers, how to start it, its graph, its versions and its definition.

use loom_definition::Workflow;
use loom_expression::Value;
use maud::{Markup, html};

use super::{
    form::{self, Refilled},
    json,
    shell::{Live, Visit, badge, confirmed, done, instant, page, post},
};
use crate::{
    document::{count, is, items, present, text, time},
    graph::{Drawing, Links, embedded_svg, percent_encoded, text::clean},
    states::States,
};

/// The most entries of a trigger's history that its card shows, and the most runs of an entry.
const HISTORY_MAX: usize = 20;
const RUNS_MAX: usize = 5;

/// The documents of a workflow's page.
#[derive(Clone, Copy, Debug)]
pub struct WorkflowPage<'a> {
    /// `GET /api/v1/workflows/{name}`.
    pub workflow: &'a Value,
    /// `GET /api/v1/workflows/{name}/versions`.
    pub versions: &'a Value,
    /// `GET /api/v1/workflows/{name}/versions/{version}` of the version that is shown.
    pub version: &'a Value,
    /// That version, loaded.
    pub loaded: Option<&'a Workflow>,
    /// Its drawing.
    pub drawing: Option<&'a Drawing>,
    /// What was done just now.
    pub done: &'a str,
    /// `GET /api/v1/workflows/{name}/triggers/{trigger}/histories`, by the names of triggers.
    pub histories: &'a [(String, Value)],
    /// A form that was refused just now.
    pub refilled: Option<Refilled<'a>>,
}

/// The list. `workflows` is the response of `GET /api/v1/workflows`.
pub fn workflows(visit: &Visit<'_>, workflows: &Value) -> String {
    let content = html! {
        div class="heading" { h1 { "Workflows" } }
        div id="workflows" data-swap {
            @if items(workflows, "workflows").next().is_none() {
                div class="empty" {
                    p { strong { "No workflows are deployed" } }
                    p { "Put a definition into the directory of " code { "loom serve --workflows DIR" } ", or send one to " code { "PUT /api/v1/workflows/NAME" } "." }
                }
            } @else {
                div class="scroll" tabindex="0" {
                    table class="list" {
                        thead { tr {
                            th scope="col" { "Workflow" } th scope="col" { "State" } th scope="col" { "Version" } th scope="col" { "Triggers" }
                            th scope="col" class="number" { "Actions" } th scope="col" class="number" { "Warnings" } th scope="col" { "Runs" }
                        } }
                        tbody { @for workflow in items(workflows, "workflows") { (row(workflow)) } }
                    }
                }
            }
        }
    };
    page(visit, "workflows", "Workflows", Live::Every(5_000), &content)
}

fn row(workflow: &Value) -> Markup {
    let name = text(workflow, "name");
    let triggers: Vec<String> =
        items(workflow, "triggers").map(|trigger| clean(text(trigger, "type")).into_owned()).collect();
    html! {
        tr {
            td class="name" { a href={ "/ui/workflows/" (percent_encoded(name)) } { (clean(name)) } }
            td { (badge(text(workflow, "state"))) }
            td class="mono" { (text(workflow, "version")) }
            td class="name" { (triggers.join(", ")) }
            td class="number" { (count(workflow, "actions")) }
            td class="number" { (items(workflow, "warnings").count()) }
            td { a href={ "/ui/runs?workflow=" (percent_encoded(name)) } { "Show runs" } }
        }
    }
}

/// The page of a workflow.
pub fn workflow(visit: &Visit<'_>, parts: &WorkflowPage<'_>) -> String {
    let workflow = parts.workflow;
    let name = text(workflow, "name");
    let to = |what: &str| format!("/ui/workflows/{}/{what}", percent_encoded(name));
    let content = html! {
        (done(parts.done))
        div class="heading" {
            div {
                h1 { (clean(name)) }
                p class="muted" { "Version " (text(parts.version, "version")) " · " (clean(text(workflow, "kind"))) " · " (badge(text(workflow, "state"))) }
            }
            div class="buttons" {
                a class="button" href={ "/ui/runs?workflow=" (percent_encoded(name)) } { "Show runs" }
                @if text(workflow, "state") == "Disabled" { (post(visit, &to("enable"), &html! { button { "Enable" } })) }
                @else { (confirmed(visit, "Disable", "Start no new runs of this workflow? Runs in progress continue.", &to("disable"), &[])) }
            }
        }
        @if present(workflow, "description").is_some() { p { (clean(text(workflow, "description"))) } }
        @if items(workflow, "warnings").next().is_some() {
            div class="notice warn" {
                p { strong { "Warnings of the definition" } }
                ul { @for warning in items(workflow, "warnings") { li { (clean(&warning.text())) } } }
            }
        }
        section {
            h2 { "Triggers" }
            div class="cards" { @for trigger in items(workflow, "triggers") { (trigger_card(visit, parts, name, trigger)) } }
        }
        section {
            h2 { "Graph" }
            div class="canvas" tabindex="0" role="region" aria-label="Graph" {
                @if let Some(drawing) = parts.drawing { (embedded_svg(drawing, &States::default(), Links::None)) }
            }
        }
        section { h2 { "Versions" } (versions(parts, name)) }
        section { (json::boxed("Definition", &super::shell::value_of(parts.version, "definition").unwrap_or_default())) }
    };
    page(visit, "workflows", name, Live::No, &content)
}

fn trigger_card(visit: &Visit<'_>, parts: &WorkflowPage<'_>, workflow: &str, trigger: &Value) -> Markup {
    let name = text(trigger, "name");
    let base = format!("/ui/workflows/{}/triggers/{}", percent_encoded(workflow), percent_encoded(name));
    let schema = parts.loaded.and_then(|loaded| loaded.find_trigger(name)?.kind.schema());
    let fields = form::has_fields(schema.as_deref());
    html! {
        section class="card" {
            div class="heading" { h3 { (clean(name)) } (badge(text(trigger, "state"))) }
            p class="muted" { (clean(text(trigger, "type"))) }
            @if present(trigger, "url").is_some() {
                label { "URL" input class="mono" readonly value=(text(trigger, "url")) data-copy; }
            }
            @if let Some(recurrence) = present(trigger, "evaluatedRecurrence") { (json::boxed("Recurrence", recurrence)) }
            @let before = parts.refilled.filter(|before| before.trigger == name);
            details class="start" open[before.is_some()] {
                summary class="button primary" { "Start a run" }
                (post(visit, &format!("{base}/run"), &html! { (form::inputs(&fields, before)) button class="primary" { "Start" } }))
            }
            @let history = parts.histories.iter().find(|(of, _)| of == name).map(|(_, history)| history);
            @if let Some(history) = history.filter(|history| items(history, "histories").next().is_some()) { (history_of(history)) }
            @if present(trigger, "url").is_some() {
                (confirmed(visit, "Issue a new URL", "Issue a new signed URL? The old one stops working immediately.", &format!("{base}/rotate"), &[]))
            }
        }
    }
}

/// What an automatic trigger did: when, with what result, and the runs that it started.
fn history_of(history: &Value) -> Markup {
    let all = items(history, "histories").count();
    html! {
        details class="history" {
            summary { "History" span class="muted" { " · " (all) @if all == 1 { " entry" } @else { " entries" } } }
            ul {
                @for entry in items(history, "histories").take(HISTORY_MAX) {
                    li {
                        div class="line" { (badge(text(entry, "status"))) " " (instant(time(entry, "startTime"))) " " span class="muted" { (clean(text(entry, "code"))) } }
                        @if !text(entry, "message").is_empty() { p class="muted" { (json::marked(text(entry, "message"))) } }
                        @for run in items(entry, "runs").filter_map(Value::as_str).take(RUNS_MAX) { a class="mono" href={ "/ui/runs/" (percent_encoded(run)) } { (clean(run)) } " " }
                        @if count(entry, "runsCount") > RUNS_MAX as u64 { span class="muted" { "and " (count(entry, "runsCount") - RUNS_MAX as u64) " more" } }
                    }
                }
            }
        }
    }
}

fn versions(parts: &WorkflowPage<'_>, name: &str) -> Markup {
    let shown = text(parts.version, "version");
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" { "Version" } th scope="col" { "Published" } th scope="col" {} } }
                tbody {
                    @for version in items(parts.versions, "versions") {
                        @let number = text(version, "version");
                        tr {
                            td class="mono" {
                                a href={ "/ui/workflows/" (percent_encoded(name)) "?version=" (number) } aria-current=[(number == shown).then_some("true")] { (number) }
                            }
                            td { (instant(time(version, "publishedTime"))) }
                            td { @if is(version, "current") { (badge("Current")) } }
                        }
                    }
                }
            }
        }
    }
}
