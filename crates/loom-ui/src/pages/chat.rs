//! What was said in a run: the messages of its agents, with the tools that they used.

use loom_expression::Value;
use maud::{Markup, html};

use super::{
    json,
    panel::address,
    run::{RunPage, place},
    shell::{Visit, badge, instant, moment, post, query, took},
};
use crate::{
    document::{count, error, is, items, present, text, time},
    graph::text::clean,
};

/// The number of messages on a page.
pub const MESSAGES: u64 = 200;

/// The conversation, and what it asks people. The messages are a page of `GET /api/v1/runs/{id}/messages`.
pub(super) fn chat(visit: &Visit<'_>, parts: &RunPage<'_>, id: &str) -> Markup {
    let (messages, skipped) = (parts.messages, parts.skipped);
    let questions = html! { @for question in items(parts.questions, "questions") { (question_form(visit, question, id)) } };
    if items(messages, "messages").next().is_none() {
        return html! {
            (questions)
            div class="empty" {
                p { strong { "Nothing was said" } }
                p { "Messages appear here when an agent or another action calls a language model." }
            }
        };
    }
    let next = text(messages, "next");
    let to = |cursor: &str| format!("/ui/runs/{id}{}", query(&[("tab", "chat"), ("cursor", cursor)]));
    html! {
        ol class="chat" {
            @for message in items(messages, "messages") { (entry(visit, message, id)) }
        }
        @for ended in items(messages, "conversations").filter(|_| next.is_empty()) { (conclusion(ended, id)) }
        (questions)
        @if skipped > 0 || !next.is_empty() {
            nav class="pages" aria-label="Pages" {
                @if skipped > 0 { a class="button" rel="prev" href=(to(&skipped.saturating_sub(MESSAGES).to_string())) { "Earlier" } }
                span class="muted" { (count(messages, "count")) " messages" }
                @if !next.is_empty() { a class="button" rel="next" href=(to(next)) { "Later" } }
            }
        }
    }
}

/// A question of the run to a person, with a form for the answer.
fn question_form(visit: &Visit<'_>, question: &Value, id: &str) -> Markup {
    let is_approval = text(question, "ask") == "approval";
    let to = format!("/ui/runs/{id}/answer");
    html! {
        section class="card question" aria-label="Question" {
            h3 { @if is_approval { "Approval needed" } @else { "Reply needed" } }
            p class="muted" {
                code { (clean(text(question, "id"))) }
                @if present(question, "to").is_some() { " · for " (clean(text(question, "to"))) }
                " · since " (instant(time(question, "since")))
                @if present(question, "due").is_some() { " · until " (instant(time(question, "due"))) }
            }
            @if present(question, "message").is_some() { p { (json::marked(&clean(&question.get("message").map(|message| message.text().into_owned()).unwrap_or_default()))) } }
            @if present(question, "tool").is_some() { p { "Tool " strong { (clean(text(question, "tool"))) } } }
            @if let Some(arguments) = present(question, "arguments") { (json::boxed("Arguments", arguments)) }
            @if let Some(schema) = present(question, "responseSchema") { (json::boxed("Schema of the reply", schema)) }
            @if visit.may.run {
                (post(visit, &to, &html! {
                    input type="hidden" name="question" value=(text(question, "id"));
                    @if is_approval {
                        label { "Reason" input name="reason" autocomplete="off" placeholder="optional"; }
                        label { "Your name" input name="by" autocomplete="name" placeholder="optional, for the audit"; }
                        div class="buttons" {
                            button class="primary" name="approved" value="true" { "Approve" }
                            button class="danger" name="approved" value="false" { "Reject" }
                        }
                    } @else {
                        label { "Reply" textarea name="message" rows="3" required {} }
                        label { "Your name" input name="by" autocomplete="name" placeholder="optional, for the audit"; }
                        label class="check" { input type="checkbox" name="json" value="true"; span { "The reply is JSON" } }
                        div class="buttons" { button class="primary" { "Reply" } }
                    }
                }))
            }
        }
    }
}

fn entry(visit: &Visit<'_>, message: &Value, id: &str) -> Markup {
    let (action, status) = (text(message, "action"), text(message, "status"));
    let speaker = Some(text(message, "speaker")).filter(|speaker| !speaker.is_empty()).unwrap_or(action);
    let said = text(message, "text");
    html! {
        li class={ "said " (side(text(message, "role"))) } data-state=[(!status.is_empty()).then_some(status)] {
            div class="line" {
                strong { (clean(speaker)) }
                @if speaker != action { a class="muted" href=(address(id, action, None)) { (clean(action)) } }
                (place(message))
                @if !matches!(status, "" | "Succeeded" | "HandedOff") { (badge(status)) }
                span class="number muted" { (moment(time(message, "startTime"))) }
            }
            @if !said.is_empty() { div class="text" { (json::marked(said)) } }
            @else if status == "Running" { p class="muted" { "Waiting for the model" } }
            @if let Some((code, why)) = error(message) { p class="error" { (clean(code)) ": " (json::marked(why)) } }
            @for call in items(message, "toolCalls") { (tool(call)) }
            @if present(message, "messageId").is_some() {
                p class="muted facts-line" {
                    (took(time(message, "startTime"), time(message, "endTime"), visit.now))
                    @if present(message, "model").is_some() { " · " (clean(text(message, "model"))) }
                    @for part in spent(message) { " · " (part) }
                }
            }
        }
    }
}

/// The class of a message, by who speaks.
fn side(role: &str) -> &'static str {
    match role {
        "user" => "by-person",
        "system" | "coordinator" => "aside",
        _ => "by-agent",
    }
}

fn tool(call: &Value) -> Markup {
    // Models write arguments as text.
    let written = |value: &Value| match value.as_str() {
        Some(text) => {
            Value::from_json_str(text).map_or_else(|_| text.to_owned(), |value| value.to_json_text_pretty())
        }
        None => value.to_json_text_pretty(),
    };
    let has_failed = is(call, "failed") || !matches!(text(call, "status"), "" | "Succeeded");
    let state = match (call.get("result").is_some(), has_failed) {
        (false, _) => "not returned yet",
        (true, false) => "returned",
        (true, true) => "failed",
    };
    html! {
        details class="tool" {
            summary {
                "Tool " strong { (clean(text(call, "name"))) } " "
                span class=(if has_failed { "bad" } else { "muted" }) { (state) }
            }
            @for (name, title) in [("arguments", "Arguments"), ("result", "Result")] {
                @if let Some(value) = call.get(name) { h4 { (title) } pre tabindex="0" { (json::marked(&written(value))) } }
            }
        }
    }
}

/// The tokens and the cost of a call, or of a conversation.
fn spent(document: &Value) -> Vec<String> {
    let mut parts = Vec::new();
    let Some(usage) = present(document, "usage") else { return parts };
    let (input, output) = (count(usage, "inputTokens"), count(usage, "outputTokens"));
    parts.push(format!("{input} tokens in, {output} out"));
    if present(usage, "costMicros").is_some() {
        parts.push(format!("cost {}", micros(count(usage, "costMicros"))));
    }
    parts
}

/// Millionths as a decimal number without needless zeros.
fn micros(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How a conversation ended.
fn conclusion(ended: &Value, id: &str) -> Markup {
    let mut parts = Vec::new();
    if present(ended, "stopReason").is_some() {
        parts.push(format!("stop reason {}", clean(text(ended, "stopReason"))));
    }
    match count(ended, "calls") {
        0 => {}
        1 => parts.push("1 model call".to_owned()),
        calls => parts.push(format!("{calls} model calls")),
    }
    parts.extend(spent(ended));
    let action = text(ended, "action");
    html! {
        p class="conclusion" {
            a href=(address(id, action, None)) { (clean(action)) } (place(ended)) " " (badge(text(ended, "status")))
            @for part in &parts { " · " (part) }
        }
        @if let Some((code, why)) = error(ended) { p class="error" { (clean(code)) ": " (json::marked(why)) } }
    }
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn costs_have_no_needless_zeros() {
        assert_eq!([0, 1, 1_500_000, 20_000_000].map(micros), ["0", "0.000001", "1.5", "20"]);
    }
}
