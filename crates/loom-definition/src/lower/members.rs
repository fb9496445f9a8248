//! Warns about properties that look misspelled, in every object whose properties are known.
//!
//! Unknown properties are preserved and ignored, so a misspelled one silently has no effect. Only names that resemble a
//! known one are reported, because other tools add properties of their own to definitions.

use super::{Lowerer, outline::Type};
use crate::{
    diagnostic::{code, nearest},
    text::Node,
};

/// The known properties of an object, and of the objects inside it.
struct Shape {
    members: &'static [&'static str],
    inner: &'static [(&'static str, &'static Shape)],
}

/// An object without known objects inside it.
const fn flat(members: &'static [&'static str]) -> Shape {
    Shape { members, inner: &[] }
}

const DEFINITION: Shape = flat(&[
    "$schema",
    "contentVersion",
    "parameters",
    "triggers",
    "actions",
    "outputs",
    "staticResults",
    "description",
    "metadata",
    "tags",
    "memory",
]);

const ACTION: &[&str] = &[
    "type",
    "kind",
    "inputs",
    "runAfter",
    "actions",
    "expression",
    "foreach",
    "else",
    "cases",
    "default",
    "tools",
    "limit",
    "operationOptions",
    "runtimeConfiguration",
    "trackedProperties",
    "correlation",
    "metadata",
    "description",
    "transitions",
    "channels",
    "timeout",
    "timeoutMode",
    "retryPolicy",
    "circuitBreaker",
    "rateLimit",
    "bulkhead",
    "hedge",
    "fallback",
    "policy",
    "attemptTimeout",
    "attemptTimeoutMode",
    "onUncertain",
    "acceptsUntrusted",
    "approval",
    "conditions",
    "name",
    "id",
    "displayName",
];

const TRIGGER: Shape = Shape {
    members: &[
        "type",
        "kind",
        "inputs",
        "recurrence",
        "evaluatedRecurrence",
        "conditions",
        "splitOn",
        "splitOnConfiguration",
        "correlation",
        "runtimeConfiguration",
        "operationOptions",
        "limit",
        "retryPolicy",
        "metadata",
        "description",
        "name",
        "id",
        "displayName",
    ],
    inner: &[
        ("recurrence", &RECURRENCE),
        ("runtimeConfiguration", &RUNTIME),
        ("limit", &LIMIT),
        ("correlation", &CORRELATION),
        ("splitOnConfiguration", &flat(&["correlation"])),
    ],
};

const RECURRENCE: Shape = Shape {
    members: &[
        "frequency",
        "interval",
        "schedule",
        "startTime",
        "endTime",
        "timeZone",
        "count",
        "cron",
        "expression",
    ],
    inner: &[("schedule", &flat(&["hours", "minutes", "weekDays", "monthDays", "monthlyOccurrences"]))],
};

const LIMIT: Shape = flat(&["timeout", "count", "tokens", "cost", "rounds", "turns"]);

const CORRELATION: Shape = flat(&["clientTrackingId", "clientKeywords"]);

const RUNTIME: Shape = Shape {
    members: &[
        "concurrency",
        "secureData",
        "staticResult",
        "contentTransfer",
        "paginationPolicy",
        "requestOptions",
        "performanceProfile",
    ],
    inner: &[
        ("concurrency", &flat(&["runs", "repetitions", "maximumWaitingRuns"])),
        ("secureData", &flat(&["properties"])),
        ("staticResult", &flat(&["name", "staticResultOptions"])),
        ("contentTransfer", &flat(&["transferMode", "uploadChunkSize", "downloadChunkSize"])),
        ("paginationPolicy", &flat(&["minimumItemCount"])),
    ],
};

const AUTHENTICATION: Shape = flat(&[
    "type",
    "username",
    "password",
    "pfx",
    "tenant",
    "audience",
    "clientId",
    "secret",
    "authority",
    "credentialType",
    "value",
    "identity",
    "scheme",
    "parameter",
    "scope",
]);

const REQUEST: Shape = Shape {
    members: &[
        "method",
        "uri",
        "url",
        "headers",
        "queries",
        "body",
        "cookie",
        "authentication",
        "retryPolicy",
        "subscribe",
        "unsubscribe",
    ],
    inner: &[("authentication", &AUTHENTICATION)],
};

const WEBHOOK: Shape = Shape {
    members: &["subscribe", "unsubscribe", "schema", "host", "retryPolicy", "authentication"],
    inner: &[("subscribe", &REQUEST), ("unsubscribe", &REQUEST), ("authentication", &AUTHENTICATION)],
};

const RESPONSE: Shape = flat(&["statusCode", "headers", "body", "schema"]);

const TERMINATE: Shape =
    Shape { members: &["runStatus", "runError"], inner: &[("runError", &flat(&["code", "message"]))] };

const WAIT: Shape = Shape {
    members: &["interval", "until"],
    inner: &[("interval", &flat(&["count", "unit"])), ("until", &flat(&["timestamp"]))],
};

const REQUEST_TRIGGER: Shape = flat(&[
    "schema",
    "method",
    "relativePath",
    "headersSchema",
    "operationId",
    "host",
    "parameters",
    "triggerAuthenticationType",
]);

impl Lowerer<'_, '_, '_> {
    /// Checks an action, its settings and its inputs.
    pub(super) fn action_members(&mut self, node: &Node, index: usize) {
        let (kind, name) = (self.outline.actions[index].kind, self.outline.actions[index].name.to_string());
        let what = format!("action `{name}`");
        self.near_misses(node, &Shape { members: ACTION, inner: &[] }, &what);
        let settings = [("runtimeConfiguration", &RUNTIME), ("limit", &LIMIT), ("correlation", &CORRELATION)];
        for (member, shape) in settings {
            self.inside(node, member, shape, &what);
        }
        let inputs: &Shape = match kind {
            Type::ParseJson => &flat(&["content", "schema"]),
            Type::Query => &flat(&["from", "where"]),
            Type::Select => &flat(&["from", "select"]),
            Type::Join => &flat(&["from", "joinWith"]),
            Type::Table => &flat(&["format", "from", "columns"]),
            Type::InitializeVariable => &flat(&["variables"]),
            Type::SetVariable
            | Type::IncrementVariable
            | Type::DecrementVariable
            | Type::AppendToStringVariable
            | Type::AppendToArrayVariable => &flat(&["name", "value"]),
            Type::Terminate => &TERMINATE,
            Type::Response => &RESPONSE,
            Type::Wait => &WAIT,
            Type::Effect => match self.outline.actions[index].type_name.to_ascii_lowercase().as_str() {
                "http" => &REQUEST,
                "httpwebhook" => &WEBHOOK,
                _ => return,
            },
            _ => return,
        };
        self.inside(node, "inputs", inputs, &what);
        let lists: [(&str, &Shape); 2] = [
            ("columns", &flat(&["header", "value"])),
            ("variables", &flat(&["name", "type", "value", "description"])),
        ];
        for (list, shape) in lists {
            let items = node.get("inputs").and_then(|inputs| inputs.get(list)).and_then(Node::items);
            for item in items.unwrap_or_default() {
                self.near_misses(item, shape, &format!("`{list}` of {what}"));
            }
        }
    }

    /// Checks a trigger, its settings and its inputs.
    pub(super) fn trigger_members(&mut self, node: &Node, name: &str, type_name: &str) {
        let what = format!("trigger `{name}`");
        self.near_misses(node, &TRIGGER, &what);
        let inputs = match type_name.to_ascii_lowercase().as_str() {
            "request" => &REQUEST_TRIGGER,
            "http" => &REQUEST,
            "httpwebhook" => &WEBHOOK,
            "runended" => &flat(&["workflows", "statuses"]),
            "memorychanged" => &flat(&["namespace", "prefix", "batchSize"]),
            _ => return,
        };
        self.inside(node, "inputs", inputs, &what);
    }

    /// Checks the definition itself, its parameters and its outputs.
    pub(super) fn definition_members(&mut self, definition: &Node) {
        self.near_misses(definition, &DEFINITION, "the definition");
        let declared: [(&str, &Shape); 2] = [
            ("parameters", &flat(&["type", "defaultValue", "allowedValues", "metadata", "value"])),
            ("outputs", &flat(&["type", "value", "description", "metadata"])),
        ];
        for (map, shape) in declared {
            for member in definition.get(map).and_then(Node::members).unwrap_or_default() {
                self.near_misses(&member.value, shape, &format!("`{map}.{}`", member.name));
            }
        }
    }

    fn inside(&mut self, node: &Node, member: &str, shape: &Shape, what: &str) {
        if let Some(inner) = node.get(member) {
            self.near_misses(inner, shape, &format!("`{member}` of {what}"));
        }
    }

    fn near_misses(&mut self, node: &Node, shape: &Shape, what: &str) {
        for member in node.members().unwrap_or_default() {
            let is = |known: &&str| known.eq_ignore_ascii_case(&member.name);
            // A short name resembles anything. If the property that it resembles exists, too, it is not a misspelling.
            if member.name.len() < 4 || shape.members.iter().any(is) {
                continue;
            }
            let missing = shape.members.iter().copied().filter(|known| node.member(known).is_none());
            if let Some(meant) = nearest(&member.name, missing) {
                let message = format!("unknown property `{}` in {what}", member.name);
                let diagnostic = self.found.warning(code::UNKNOWN_MEMBER, member.name_place, message);
                diagnostic.label = "this has no effect".into();
                diagnostic.hint = Some(format!("did you mean `{meant}`?"));
            }
        }
        for (member, inner) in shape.inner {
            self.inside(node, member, inner, what);
        }
    }
}
