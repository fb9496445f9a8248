//! One run: its graph, timeline, events and definition, and what can be done with it.

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    chat::chat,
    difference, json,
    panel::{address, panel},
    shell::{Live, Visit, badge, confirmed, done, instant, moment, page, post, query, term, took},
    timeline::timeline,
};
use crate::{
    document::{count, error, is, items, present, text, time},
    graph::{Drawing, Links, embedded_svg, percent_encoded, text::clean},
    states::States,
};

/// A part of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// The graph, with the selected action beside it.
    #[default]
    Graph,
    /// The actions as bars.
    Timeline,
    /// The messages of agents.
    Chat,
    /// The events.
    Events,
    /// The inputs of the trigger, the outputs and the response.
    Data,
    /// The definition that the run executes.
    Definition,
}

impl Tab {
    const ALL: [Tab; 6] = [Tab::Graph, Tab::Timeline, Tab::Chat, Tab::Events, Tab::Data, Tab::Definition];

    /// The tab of this name in an address; the graph if there is none.
    pub fn parse(name: &str) -> Tab {
        Tab::ALL.into_iter().find(|tab| tab.name() == name).unwrap_or_default()
    }

    const fn name(self) -> &'static str {
        match self {
            Tab::Graph => "graph",
            Tab::Timeline => "timeline",
            Tab::Chat => "chat",
            Tab::Events => "events",
            Tab::Data => "data",
            Tab::Definition => "definition",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Tab::Graph => "Graph",
            Tab::Timeline => "Timeline",
            Tab::Chat => "Chat",
            Tab::Events => "Events",
            Tab::Data => "Data",
            Tab::Definition => "Definition",
        }
    }
}

/// The documents of the page; those that its tab does not need are null.
#[derive(Clone, Copy, Debug)]
pub struct RunPage<'a> {
    /// `GET /api/v1/runs/{id}`.
    pub run: &'a Value,
    /// `GET /api/v1/runs/{id}/actions`.
    pub actions: &'a Value,
    /// `GET /api/v1/runs/{id}/executions?cursor=…`.
    pub executions: &'a Value,
    /// `GET /api/v1/runs/{id}/messages?cursor=…`.
    pub messages: &'a Value,
    /// `GET /api/v1/runs/{id}/questions`.
    pub questions: &'a Value,
    /// The number of executions, or of messages, before those.
    pub skipped: u64,
    /// The drawing of the run's definition.
    pub drawing: Option<&'a Drawing>,
    /// `GET /api/v1/runs/{id}/actions/{action}?cursor=…&limit=1` of the selected action.
    pub action: &'a Value,
    /// `GET /api/v1/runs/{id}/events?after=…`.
    pub events: &'a Value,
    /// `GET /api/v1/runs/{id}/definition`.
    pub definition: &'a Value,
    /// `GET /api/v1/workflows/{name}/versions/{version}` of the version that is deployed; null if there is none.
    pub current: &'a Value,
    /// The part that is shown.
    pub tab: Tab,
    /// The action whose definition is shown first; none if it is empty.
    pub wanted: &'a str,
    /// What was done just now.
    pub done: &'a str,
}

/// The page.
pub fn run(visit: &Visit<'_>, parts: &RunPage<'_>) -> String {
    let run = parts.run;
    let (id, workflow) = (text(run, "id"), text(run, "workflow"));
    let status = text(run, "status");
    let has_ended = present(run, "endTime").is_some();
    let stream = format!("/api/v1/runs/{id}/events");
    let live = !has_ended && !is(run, "forgotten");
    let content = html! {
        (done(parts.done))
        div class="heading" {
            div {
                h1 { a href={ "/ui/workflows/" (percent_encoded(workflow)) } { (clean(workflow)) } }
                p class="mono muted" { "Run " (id) }
            }
            div id="run-actions" class="buttons" data-swap { (buttons(visit, run, has_ended)) }
        }
        div id="run-summary" data-swap { (summary(visit, run)) }
        nav class="tabs" aria-label="Parts of the run" {
            @for tab in Tab::ALL {
                a href={ "/ui/runs/" (id) "?tab=" (tab.name()) } aria-current=[(tab == parts.tab).then_some("page")] { (tab.title()) }
            }
        }
        @match parts.tab {
            Tab::Graph => (graph(visit, parts, id)),
            Tab::Timeline => div id="timeline" data-swap { (timeline(visit, run, parts.executions, parts.skipped)) },
            Tab::Chat => div id="chat" data-swap { (chat(visit, parts, id)) },
            Tab::Events => div id="events" data-swap { (events(parts.events, id)) },
            Tab::Data => div id="data" data-swap { (data(run)) },
            Tab::Definition => (definition(parts)),
        }
    };
    let title = format!("{status} · {workflow}");
    page(visit, "runs", &title, if live { Live::Stream(&stream) } else { Live::No }, &content)
}

fn buttons(visit: &Visit<'_>, run: &Value, has_ended: bool) -> Markup {
    let id = text(run, "id");
    let to = |what: &str| format!("/ui/runs/{id}/{what}");
    if is(run, "forgotten") {
        return Markup::default();
    }
    html! {
        @if has_ended {
            @if visit.may.run {
                (post(visit, &to("resubmit"), &html! { button { "Resubmit" } }))
                (confirmed(visit, "Resubmit with the current definition", "Start a new run from the same trigger, with the definition that is deployed now?", &to("resubmit"), &[("definition", "current")]))
            }
            @if visit.may.operate {
                (confirmed(visit, "Delete", "Delete this run with all its data? This cannot be undone.", &to("delete"), &[]))
            }
        } @else {
            @if visit.may.operate {
                @if text(run, "status") == "Suspended" || present(run, "held").is_some() {
                    (post(visit, &to("resume"), &html! { button { "Resume" } }))
                } @else {
                    (post(visit, &to("suspend"), &html! { button { "Suspend" } }))
                }
            }
            @if visit.may.run { (signal(visit, &to("signal"))) }
            @if visit.may.operate {
                (confirmed(visit, "Cancel", "Cancel this run? Calls in flight are abandoned.", &to("cancel"), &[]))
            }
        }
    }
}

/// A form that sends the run a signal.
fn signal(visit: &Visit<'_>, action: &str) -> Markup {
    html! {
        details class="confirm" {
            summary class="button" { "Signal" }
            div class="popup" {
                (post(visit, action, &html! {
                    label { "Name of the signal" input name="name" required autocomplete="off"; }
                    label { "Body as JSON" textarea name="body" rows="4" spellcheck="false" placeholder="{}" {} }
                    button class="primary" { "Send" }
                }))
            }
        }
    }
}

fn summary(visit: &Visit<'_>, run: &Value) -> Markup {
    let trigger = run.get("trigger").cloned().unwrap_or_default();
    html! {
        dl class="summary" {
            (term("Status", &badge(text(run, "status"))))
            (term("Trigger", &html! { (clean(text(&trigger, "name"))) }))
            (term("Started", &instant(time(run, "startTime"))))
            (term("Duration", &took(time(run, "startTime"), time(run, "endTime"), visit.now)))
            @if present(run, "clientTrackingId").is_some() {
                (term("Tracking ID", &html! { span class="mono" { (clean(text(run, "clientTrackingId"))) } }))
            }
            @for (name, title) in [("resubmitOf", "Resubmits"), ("parent", "Called by")] {
                @if present(run, name).is_some() {
                    (term(title, &html! { a class="mono" href={ "/ui/runs/" (text(run, name)) } { (text(run, name)) } }))
                }
            }
        }
        @if is(run, "forgotten") { div class="notice warn" { "Retention has removed the history of this run; only its entry is left." } }
        @for name in ["held", "unreadable", "suspendedBecause"] {
            @if present(run, name).is_some() { div class="notice warn" role="status" { (clean(text(run, name))) } }
        }
        @if let Some((code, message)) = error(run) {
            div class="notice bad" role="alert" { p { strong { (clean(code)) } } p { (json::marked(message)) } }
        }
    }
}

fn graph(visit: &Visit<'_>, parts: &RunPage<'_>, id: &str) -> Markup {
    let states = States::from_actions(parts.actions);
    let selected = present(parts.action, "name").map(|_| text(parts.action, "name"));
    let before = format!("/ui/runs/{id}?action=");
    let links = Links::To { before: &before, after: "#details", selected };
    let first = present(parts.actions, "firstFailure").cloned().unwrap_or_default();
    let (failed, number) = (text(&first, "action"), count(&first, "number"));
    let shown = items(parts.action, "occurrences").next().map(|shown| count(shown, "number"));
    let is_shown = selected == Some(failed) && shown == Some(number);
    html! {
        div class="split" {
            div class="canvas" id="graph" data-swap-parts tabindex="0" role="region" aria-label="Graph" {
                @if let Some(drawing) = parts.drawing { (embedded_svg(drawing, &states, links)) }
                @else { p class="muted" { "The definition of this run is no longer available." } }
            }
            aside id="details" class="panel" aria-label="Action" data-swap {
                @if !failed.is_empty() && !is_shown {
                    p { a class="button" href=(address(id, failed, Some(number))) { "Go to the first failed action" } }
                }
                @if selected.is_some() { (panel(visit, parts.action, parts.run)) }
                @else { div class="empty" { p { strong { "No action selected" } } p { "Select an action in the graph to see its inputs, outputs and attempts." } } }
            }
        }
    }
}

fn events(events: &Value, id: &str) -> Markup {
    let next = text(events, "next");
    html! {
        div class="scroll" tabindex="0" {
            table class="list" {
                thead { tr { th scope="col" class="number" { "No." } th scope="col" { "Time" } th scope="col" { "Event" } th scope="col" { "Action" } th scope="col" { "Data" } } }
                tbody {
                    @for event in items(events, "events") {
                        @let seq = count(event, "seq");
                        tr {
                            td class="number" { (seq) }
                            td { (moment(time(event, "ts"))) }
                            td { (clean(text(event, "type"))) }
                            td class="name" { (clean(text(event, "action"))) (place(event)) }
                            td {
                                @let data = event.get("data").cloned().unwrap_or_default();
                                details { summary { (outline(&data)) } pre { (json::marked(&data.to_json_text_pretty())) } }
                            }
                        }
                    }
                }
            }
        }
        @if !next.is_empty() {
            nav class="pages" aria-label="Pages" {
                a class="button" rel="next" href={ "/ui/runs/" (id) (query(&[("tab", "events"), ("after", next)])) } { "Later events" }
            }
        }
    }
}

/// The iterations around an action, counted from 1: `[4]`, `[4][1]`.
pub(super) fn place(document: &Value) -> Markup {
    html! {
        @for step in items(document, "path") {
            @if let Some(index) = step.index(1).and_then(Value::as_i64) { span class="muted" { "[" (index + 1) "]" } }
        }
    }
}

/// The simple values of an event's data, in a few words.
fn outline(data: &Value) -> String {
    let mut words = Vec::new();
    for (name, value) in data.as_object().into_iter().flatten() {
        let is_simple = value.as_array().is_none() && value.as_object().is_none() && !value.is_null();
        if is_simple && words.len() < 3 {
            let shown: String = value.text().chars().take(40).collect();
            words.push(format!("{name} {shown}"));
        }
    }
    if words.is_empty() { "Data".to_owned() } else { clean(&words.join(" · ")).into_owned() }
}

/// The definition that the run executes, and how the one that is deployed differs from it.
fn definition(parts: &RunPage<'_>) -> Markup {
    let own = super::shell::value_of(parts.definition, "definition").unwrap_or_default();
    let source = parts.current.get("definition");
    let current = source.map(|source| source.get("definition").unwrap_or(source));
    let found = (!parts.wanted.is_empty()).then(|| action_in(&own, parts.wanted)).flatten();
    html! {
        @if let Some((pointer, part)) = found {
            section id="action" class="value" {
                h2 { "Definition of " (clean(parts.wanted)) }
                p class="mono muted" { (clean(&pointer)) }
                (json::boxed("Action", part))
            }
        }
        @if let Some(current) = current {
            section {
                h2 { "Since this run started" }
                (difference::of(&own, current, "The deployed definition is the same.", "Lines of the deployed definition that differ from that of the run:"))
            }
        }
        (json::boxed("Definition of the run", &own))
    }
}

/// An action of a definition, at any depth, with the JSON pointer to it. The names of actions are unique in a definition.
fn action_in<'v>(definition: &'v Value, name: &str) -> Option<(String, &'v Value)> {
    let mut within = vec![(String::new(), definition)];
    while let Some((pointer, part)) = within.pop() {
        let Some(members) = part.as_object() else { continue };
        for (member, value) in members {
            match &**member {
                "actions" => {
                    for (known, action) in value.as_object().into_iter().flatten() {
                        let pointer =
                            format!("{pointer}/actions/{}", known.replace('~', "~0").replace('/', "~1"));
                        if known.eq_ignore_ascii_case(name) {
                            return Some((pointer, action));
                        }
                        within.push((pointer, action));
                    }
                }
                "else" | "default" => within.push((format!("{pointer}/{member}"), value)),
                "cases" | "tools" => {
                    for (known, part) in value.as_object().into_iter().flatten() {
                        let known = known.replace('~', "~0").replace('/', "~1");
                        within.push((format!("{pointer}/{member}/{known}"), part));
                    }
                }
                _ => {}
            }
        }
    }
    None
}

fn data(run: &Value) -> Markup {
    let parts = [("trigger", "Trigger"), ("outputs", "Outputs"), ("response", "Response")];
    html! {
        @for (name, title) in parts {
            @if let Some(value) = present(run, name) { (json::boxed(title, value)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_found_at_any_depth() {
        let definition = r#"{"actions": {
            "If": {"type": "If", "actions": {"Yes": {"n": 1}}, "else": {"actions": {"a/b": {"n": 2}}}},
            "Switch": {"type": "Switch", "cases": {"One": {"actions": {"In case": {"n": 3}}}}, "default": {"actions": {"Else": {"n": 4}}}},
            "Agent": {"type": "Agent", "tools": {"look~up": {"actions": {"Order": {"n": 5}}}}}}}"#;
        let definition = Value::from_json_str(definition).unwrap();
        for (name, pointer, number) in [
            ("yes", "/actions/If/actions/Yes", 1),
            ("a/b", "/actions/If/else/actions/a~1b", 2),
            ("In case", "/actions/Switch/cases/One/actions/In case", 3),
            ("Else", "/actions/Switch/default/actions/Else", 4),
            ("Order", "/actions/Agent/tools/look~0up/actions/Order", 5),
        ] {
            let (found, action) = action_in(&definition, name).expect(name);
            assert_eq!((found.as_str(), action.get("n").and_then(Value::as_i64)), (pointer, Some(number)));
        }
        assert!(action_in(&definition, "None").is_none());
    }
}
