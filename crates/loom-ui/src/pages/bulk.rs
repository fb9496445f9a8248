//! A change of all runs that fit a filter: first what would be changed, then what was.

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    json,
    runs::{RunFilter, table},
    shell::{Live, Visit, page, post},
};
use crate::document::{count, error, items, text};

/// What is done to the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkChange {
    /// End them.
    Cancel,
    /// Start each again from its trigger.
    Resubmit,
    /// Remove them with their data.
    Delete,
}

impl BulkChange {
    pub(super) const ALL: [BulkChange; 3] = [BulkChange::Cancel, BulkChange::Resubmit, BulkChange::Delete];

    /// The change of this name in an address.
    pub fn parse(name: &str) -> Option<BulkChange> {
        BulkChange::ALL.into_iter().find(|change| change.name() == name)
    }

    /// Its name in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            BulkChange::Cancel => "cancel",
            BulkChange::Resubmit => "resubmit",
            BulkChange::Delete => "delete",
        }
    }

    pub(super) const fn verb(self) -> &'static str {
        match self {
            BulkChange::Cancel => "Cancel",
            BulkChange::Resubmit => "Resubmit",
            BulkChange::Delete => "Delete",
        }
    }

    const fn past(self) -> &'static str {
        match self {
            BulkChange::Cancel => "cancelled",
            BulkChange::Resubmit => "resubmitted",
            BulkChange::Delete => "deleted",
        }
    }
}

fn of_runs(number: u64) -> String {
    if number == 1 { "1 run".to_owned() } else { format!("{number} runs") }
}

/// The page. `result` is the response of `POST /api/v1/runs/bulk/{operation}`, of a dry run or of the change itself.
pub fn bulk(visit: &Visit<'_>, change: BulkChange, filter: &RunFilter, result: &Value) -> String {
    let is_dry = result.get("dryRun").and_then(Value::as_bool).unwrap_or_default();
    let number = items(result, "runs").count() as u64;
    let has_more = !text(result, "next").is_empty();
    let back = format!("/ui/runs{}", RunFilter { cursor: String::new(), ..filter.clone() }.query());
    let next = RunFilter { cursor: text(result, "next").to_owned(), ..filter.clone() };
    let next = format!("/ui/runs/bulk/{}{}", change.name(), next.query());
    let content = html! {
        div class="heading" { h1 { (change.verb()) " runs" } }
        @if number == 0 && items(result, "refused").next().is_none() {
            div class="empty" {
                @if has_more {
                    p { strong { "None of the newest runs that fit the filter can be " (change.past()) } }
                    p { a class="button primary" href=(next) { "Look at older runs" } }
                } @else {
                    p { strong { "No run that fits the filter can be " (change.past()) } }
                }
                p { a href=(back) { "Back to the runs" } }
            }
        } @else {
            @if is_dry {
                p {
                    @if has_more { "The filter names more runs than one step changes. This step: " }
                    (of_runs(number)) " will be " (change.past()) "."
                    @if change == BulkChange::Delete { " This cannot be undone." }
                }
                div class="buttons" {
                    (post(visit, &format!("/ui/runs/bulk/{}", change.name()), &html! {
                        @for (name, value) in filter.parts().into_iter().filter(|(_, value)| !value.is_empty()) { input type="hidden" name=(name) value=(value); }
                        @if !filter.cursor.is_empty() { input type="hidden" name="cursor" value=(filter.cursor); }
                        // Runs that are accepted from now on were not among those that are shown here.
                        @if filter.before.is_empty() { input type="hidden" name="before" value=(visit.now); }
                        button class="danger" { (change.verb()) " " (of_runs(number)) }
                    }))
                    a class="button" href=(back) { "Back" }
                }
            } @else {
                div class="notice" role="status" {
                    (of_runs(number)) " " @if number == 1 { "was" } @else { "were" } " " (change.past()) "."
                    @if has_more { " There are more runs that fit the filter." }
                }
                div class="buttons" {
                    @if has_more { a class="button primary" href=(next) { "Continue with the next" } }
                    a class="button" href=(back) { "Back to the runs" }
                }
            }
            @if count(result, "skipped") > 0 {
                p class="muted" { (of_runs(count(result, "skipped"))) " that fit the filter cannot be " (change.past()) ", and stay as they are." }
            }
            (refused(result))
            @if number > 0 { (table(visit, items(result, "runs"))) }
        }
    };
    page(visit, "runs", &format!("{} runs", change.verb()), Live::No, &content)
}

fn refused(result: &Value) -> Markup {
    html! {
        @if items(result, "refused").next().is_some() {
            div class="notice bad" role="alert" {
                p { strong { "Refused" } }
                ul {
                    @for run in items(result, "refused") {
                        li { a class="mono" href={ "/ui/runs/" (text(run, "id")) } { (text(run, "id")) } ": "
                            @if let Some((_, message)) = error(run) { (json::marked(message)) } }
                    }
                }
            }
        }
    }
}
