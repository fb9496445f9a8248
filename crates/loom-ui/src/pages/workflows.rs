//! The workflows, and one of them: its triggers, how to start it, its graph, its versions and its definition.

use loom_definition::Workflow;
use loom_expression::Value;
use maud::{Markup, html};

use super::{
    difference,
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
    /// `GET /api/v1/workflows/{name}/triggers/{trigger}/occurrences`, by the names of triggers with a recurrence.
    pub occurrences: &'a [(String, Value)],
    /// `GET /api/v1/workflows/{name}/versions/{version}` of the version before the one that is shown; null if there is none.
    pub before: &'a Value,
    /// A definition that was refused just now, and why.
    pub draft: Option<Draft<'a>>,
    /// A form that was refused just now.
    pub refilled: Option<Refilled<'a>>,
}

/// A definition that was entered into the editor, and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The text.
    pub text: &'a str,
    /// Why it is refused.
    pub message: &'a str,
    /// `error.details` of the response: the diagnostics.
    pub details: &'a Value,
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
                @if visit.may.operate {
                    @if text(workflow, "state") == "Disabled" { (post(visit, &to("enable"), &html! { button { "Enable" } })) }
                    @else { (confirmed(visit, "Disable", "Start no new runs of this workflow? Runs in progress continue.", &to("disable"), &[])) }
                }
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
        @let source = super::shell::value_of(parts.version, "definition").unwrap_or_default();
        @if let Some(before) = super::shell::value_of(parts.before, "definition") {
            section {
                h2 { "Changes since version " (text(parts.before, "version")) }
                (difference::of(&before, &source, "The definitions are the same.", "Lines that were removed and added:"))
            }
        }
        section { (json::boxed("Definition", &source)) }
        @if visit.may.deploy { (editor(visit, parts, name, &source)) }
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
            @let next = parts.occurrences.iter().find(|(of, _)| of == name).map(|(_, next)| next);
            @if let Some(next) = next { (occurrences(next)) }
            @let before = parts.refilled.filter(|before| before.trigger == name);
            @if visit.may.run {
                details class="start" open[before.is_some()] {
                    summary class="button primary" { "Start a run" }
                    (post(visit, &format!("{base}/run"), &html! { (form::inputs(&fields, before)) button class="primary" { "Start" } }))
                }
            }
            @let history = parts.histories.iter().find(|(of, _)| of == name).map(|(_, history)| history);
            @if let Some(history) = history.filter(|history| items(history, "histories").next().is_some()) { (history_of(history)) }
            div class="buttons" {
                @if visit.may.operate && text(parts.workflow, "state") != "Disabled" {
                    @if text(trigger, "state") == "Disabled" { (post(visit, &format!("{base}/enable"), &html! { button { "Enable" } })) }
                    @else { (confirmed(visit, "Disable", "Let this trigger start no runs until it is enabled?", &format!("{base}/disable"), &[])) }
                }
                @if visit.may.deploy && present(trigger, "url").is_some() {
                    (confirmed(visit, "Issue a new URL", "Issue a new signed URL? The old one stops working immediately.", &format!("{base}/rotate"), &[]))
                }
            }
        }
    }
}

/// When a recurrence fires next.
fn occurrences(next: &Value) -> Markup {
    html! {
        div {
            h4 { "Next occurrences" }
            @if items(next, "occurrences").next().is_none() { p class="muted" { "None" } }
            @else { ul class="plain" { @for at in items(next, "occurrences") { li { (instant(at.as_str().and_then(|at| at.parse().ok()))) } } } }
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

/// A form that deploys a new version. Its diagnostics are renewed while the definition is typed, by the script.
fn editor(visit: &Visit<'_>, parts: &WorkflowPage<'_>, name: &str, source: &Value) -> Markup {
    let to = |what: &str| format!("/ui/workflows/{}/{what}", percent_encoded(name));
    let written = source.to_json_text_pretty();
    let entered = parts.draft.map_or(written.as_str(), |draft| draft.text);
    html! {
        details class="editor" id="editor" open[parts.draft.is_some()] {
            summary class="button" { "Edit and deploy" }
            (post(visit, &to("deploy"), &html! {
                label { "Definition"
                    textarea name="definition" rows="24" spellcheck="false" data-check=(to("check")) aria-describedby="diagnostics" {
                        @if entered.starts_with(['\n', '\r']) { "\n" }
                        (entered)
                    }
                }
                div id="diagnostics" role="status" { (diagnostics(parts.draft)) }
                label { "Part of the version that is raised"
                    select name="bump" { @for part in ["patch", "minor", "major"] { option { (part) } } }
                }
                div class="buttons" {
                    button class="primary" { "Deploy" }
                    button formaction=(to("check")) { "Check" }
                }
            }))
        }
    }
}

/// What is wrong with a definition, with line and column.
fn diagnostics(draft: Option<Draft<'_>>) -> Markup {
    let Some(draft) = draft else { return Markup::default() };
    if draft.message.is_empty() {
        return html! {
            div class="notice" { "The definition is valid."
                @if draft.details.as_array().is_some_and(|warnings| !warnings.is_empty()) {
                    ul { @for warning in draft.details.as_array().into_iter().flat_map(|all| all.iter()) { li { "Warning: " (clean(&warning.text())) } } }
                }
            }
        };
    }
    html! {
        div class="notice bad" {
            p { (clean(draft.message)) }
            ul {
                @for one in draft.details.as_array().into_iter().flat_map(|all| all.iter()) {
                    @let (line, column) = line_and_column(draft.text, count(one, "offset"));
                    li {
                        strong { "Line " (line) ", column " (column) ": " } (clean(text(one, "message")))
                        @if present(one, "hint").is_some() { " " (clean(text(one, "hint"))) }
                        " " span class="muted mono" { (clean(text(one, "pointer"))) }
                    }
                }
            }
        }
    }
}

/// The line and the column of a place in a text, in bytes, both from 1.
fn line_and_column(text: &str, offset: u64) -> (usize, usize) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let before = text.get(..text.floor_char_boundary(offset)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
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
