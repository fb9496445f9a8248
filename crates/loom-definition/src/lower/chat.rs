//! Checks a `GroupChat`: its participants, its mode and what the mode needs, its termination and its limits. Each mistake is reported
//! where it is.

use super::{Lowerer, agents::handoff_of, parts::shown, resilience::holds_expression};
use crate::{
    diagnostic::{code, did_you_mean},
    duration::Span,
    findings::head,
    memory,
    text::{Member, Node},
};

const CHAT: [&str; 12] = [
    "participants",
    "initialMessage",
    "mode",
    "coordinator",
    "allowRepeatedSpeaker",
    "next",
    "candidates",
    "termination",
    "memory",
    "response",
    "conversationId",
    "agentHistoryReductionSettings",
];

const MODES: [&str; 6] = ["roundRobin", "selector", "expression", "broadcast", "manager", "handoff"];

const PARTICIPANT: [&str; 6] = ["role", "description", "agent", "workflow", "human", "actions"];

/// How a participant speaks.
const KINDS: [&str; 4] = ["agent", "workflow", "human", "actions"];

const AGENT: [&str; 8] = [
    "modelId",
    "deploymentId",
    "agentModelType",
    "messages",
    "agentModelSettings",
    "modelConfigurations",
    "tools",
    "handoffs",
];

const COORDINATOR: [&str; 9] = [
    "modelId",
    "deploymentId",
    "goal",
    "instructions",
    "attempts",
    "mayTerminate",
    "stallsMax",
    "replansMax",
    "agentChatCompletionSettings",
];

const TERMINATION: [&str; 14] = [
    "rounds",
    "messages",
    "tokens",
    "cost",
    "timeout",
    "text",
    "toolCalled",
    "handoffTo",
    "speaker",
    "expression",
    "external",
    "coordinator",
    "any",
    "all",
];

/// Names that participants cannot have: what ends a selection, and the name of the coordinator's messages.
const RESERVED: [&str; 2] = ["TERMINATE", "coordinator"];

/// What names in a chat may refer to.
struct Known<'a> {
    participants: Vec<&'a str>,
    tools: Vec<&'a str>,
    /// The entries whose tools have names of their own, which only a server knows.
    servers: Vec<&'a str>,
    has_coordinator: bool,
}

fn names_of(tools: Vec<&Member>) -> Vec<&str> {
    tools.into_iter().map(|tool| &*tool.name).collect()
}

impl Lowerer<'_, '_, '_> {
    /// Reports properties that are none of the known ones.
    pub(super) fn only(&mut self, node: &Node, known: &[&'static str], code: &'static str, what: &str) {
        for member in node.members().unwrap_or_default() {
            if known.iter().any(|known| known.eq_ignore_ascii_case(&member.name)) {
                continue;
            }
            let message = format!("unknown property `{}` in {what}", member.name);
            let hint = did_you_mean(&member.name, known.iter().copied())
                .or_else(|| Some(format!("the properties are {}", known.join(", "))));
            self.found.error(code, member.name_place, message).hint = hint;
        }
    }

    fn bad_chat(&mut self, node: &Node, message: String) {
        self.found.error(code::BAD_CHAT, head(node), message);
    }

    pub(super) fn chat_rules(&mut self, index: usize) {
        let node = self.outline.actions[index].node;
        let Some(inputs) = node.get("inputs") else { return };
        if inputs.members().is_none() {
            return self.bad_chat(
                inputs,
                format!("`inputs` of a GroupChat must be an object, found {}", inputs.kind()),
            );
        }
        self.only(inputs, &CHAT, code::BAD_CHAT, "a GroupChat");
        if inputs.get("initialMessage").is_none() {
            self.lack(index, "inputs.initialMessage");
        }
        let participants = self.participants(index, inputs);
        let names: Vec<&str> = participants.iter().map(|(name, _)| *name).collect();
        let tools = participants.iter().filter_map(|(_, node)| node.get("agent")?.get("tools")?.members());
        let (servers, tools): (Vec<_>, Vec<_>) =
            tools.flatten().partition(|tool| tool.value.get("actions").is_none());
        let known = Known {
            tools: names_of(tools),
            servers: names_of(servers),
            participants: names,
            has_coordinator: inputs.get("coordinator").is_some(),
        };
        for (name, participant) in &participants {
            self.participant(name, participant, &known);
        }
        self.mode(inputs, &known);
        if let Some(coordinator) = inputs.get("coordinator") {
            self.coordinator(coordinator);
        }
        if let Some(repeated) = inputs.get("allowRepeatedSpeaker")
            && repeated.boolean().is_none()
            && !holds_expression(repeated)
        {
            let message = format!("`allowRepeatedSpeaker` must be a boolean, found {}", repeated.kind());
            self.bad_chat(repeated, message);
        }
        if let Some(termination) = inputs.get("termination") {
            self.termination(termination, "termination", &known);
        }
        if let Some(memory) = inputs.get("memory") {
            self.chat_memory(memory);
        }
        if let Some(response) = inputs.get("response") {
            self.response_schema(response, &known, &participants);
        }
        if let Some(limit) = node.get("limit") {
            self.chat_limit(limit);
        }
    }

    fn participants<'n>(&mut self, index: usize, inputs: &'n Node) -> Vec<(&'n str, &'n Node)> {
        let Some(map) = inputs.get("participants") else {
            self.lack(index, "inputs.participants");
            return Vec::new();
        };
        let Some(members) = map.members() else {
            let message = format!(
                "`participants` must be an object with a property for each participant, found {}",
                map.kind()
            );
            self.bad_chat(map, message);
            return Vec::new();
        };
        if members.is_empty() {
            self.bad_chat(map, "`participants` must have at least one participant".to_owned());
        }
        let mut all: Vec<(&str, &Node)> = Vec::new();
        for member in members {
            let name = &*member.name;
            let same = |known: &str| known.eq_ignore_ascii_case(name);
            let problem = if name.trim().is_empty() || name.contains('/') {
                Some(format!("a participant must have a name without `/` (got `{name}`)"))
            } else if RESERVED.iter().any(|word| same(word)) {
                Some(format!(
                    "a participant must have a name other than `{name}`, which has a meaning of its own"
                ))
            } else if all.iter().any(|(known, _)| same(known)) {
                Some(format!(
                    "two participants have the name `{name}`; names are compared without regard to case"
                ))
            } else {
                None
            };
            if let Some(message) = problem {
                self.found.error(code::BAD_CHAT, member.name_place, message);
                continue;
            }
            if member.value.members().is_none() {
                let message =
                    format!("participant `{name}` must be an object, found {}", member.value.kind());
                self.bad_chat(&member.value, message);
                continue;
            }
            all.push((name, &member.value));
        }
        all
    }

    fn participant(&mut self, name: &str, node: &Node, known: &Known<'_>) {
        let what = format!("participant `{name}`");
        self.only(node, &PARTICIPANT, code::BAD_CHAT, &what);
        let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| node.get(kind).is_some()).collect();
        if kinds.len() != 1 {
            let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(" and ") };
            let message = format!(
                "{what} must have exactly one of `agent`, `workflow`, `human` and `actions`, found {found}"
            );
            return self.bad_chat(node, message);
        }
        let inner = node.get(kinds[0]);
        let Some(inner) = inner.filter(|inner| {
            let fits = inner.members().is_some();
            if !fits {
                let message = format!("`{}` of {what} must be an object, found {}", kinds[0], inner.kind());
                self.bad_chat(inner, message);
            }
            fits
        }) else {
            return;
        };
        match kinds[0] {
            "agent" => self.chat_agent(&what, inner, known),
            "workflow" if inner.get("id").is_none() && inner.get("host").is_none() => {
                self.bad_chat(inner, format!("`workflow` of {what} needs `id`, the name of the workflow"));
            }
            "human" => {
                let allowed = ["timeout", "limit", "default", "message", "to", "responseSchema"];
                self.only(inner, &allowed, code::BAD_CHAT, &format!("`human` of {what}"));
                if let Some(default) = inner.get("default").filter(|default| default.text().is_none()) {
                    let message = format!("`default` of {what} must be a string, found {}", default.kind());
                    self.bad_chat(default, message);
                }
            }
            _ if inner.members().is_some_and(<[_]>::is_empty) => {
                self.bad_chat(inner, format!("`actions` of {what} must have at least one action"));
            }
            _ => {}
        }
    }

    fn chat_agent(&mut self, what: &str, agent: &Node, known: &Known<'_>) {
        self.only(agent, &AGENT, code::BAD_CHAT, &format!("`agent` of {what}"));
        self.roles(agent);
        if let Some(tools) = agent.get("tools")
            && self.found.want_object(tools, "tools").is_some()
        {
            for tool in tools.members().unwrap_or_default() {
                if let Some(to) = handoff_of(&tool.value) {
                    let place = tool.name_place;
                    self.named(place, "the handoff", &to, &known.participants, "participant");
                }
            }
        }
        let Some(handoffs) = agent.get("handoffs") else { return };
        let Some(items) = handoffs.items() else {
            let message =
                format!("`handoffs` of {what} must be an array of participants, found {}", handoffs.kind());
            return self.bad_chat(handoffs, message);
        };
        for item in items {
            match item.text() {
                Some(to) => {
                    self.named(item.place, "`handoffs`", to, &known.participants, "participant");
                }
                None => self.bad_chat(
                    item,
                    format!("an entry of `handoffs` must be a string, found {}", item.kind()),
                ),
            }
        }
    }

    /// Checks a name that must be one of `names`.
    fn named(&mut self, place: crate::text::Span32, what: &str, name: &str, names: &[&str], kind: &str) {
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return;
        }
        let message = format!("{what} names `{name}`, which is not a {kind} of the chat");
        let hint = did_you_mean(name, names.iter().copied());
        self.found.error(code::BAD_CHAT, place, message).hint = hint;
    }

    fn mode(&mut self, inputs: &Node, known: &Known<'_>) {
        let mode = match inputs.get("mode") {
            None => "roundRobin",
            Some(node) => {
                let text = node.text().unwrap_or_default();
                let Some(mode) = MODES.iter().find(|mode| mode.eq_ignore_ascii_case(text)) else {
                    let message = format!("`mode` must be {} (got {})", MODES.join(", "), shown(node));
                    let hint = did_you_mean(text, MODES);
                    self.found.error(code::BAD_CHAT, node.place, message).hint = hint;
                    return;
                };
                *mode
            }
        };
        let coordinated = matches!(mode, "selector" | "manager");
        if coordinated && !known.has_coordinator {
            self.bad_chat(
                inputs,
                format!("the mode `{mode}` needs `coordinator`, with the model that selects"),
            );
        }
        match (mode, inputs.get("next")) {
            ("expression", None) => {
                let message = "the mode `expression` needs `next`, an expression that returns the name of the next speaker";
                self.bad_chat(inputs, message.to_owned());
            }
            ("expression", Some(next)) if !next.text().is_some_and(|text| text.starts_with('@')) => {
                self.bad_chat(next, "`next` must be an expression, such as \"@if(…)\"".to_owned());
            }
            ("expression", Some(_)) | (_, None) => {}
            (_, Some(next)) => {
                self.bad_chat(
                    next,
                    format!("`next` belongs to the mode `expression` (the mode is `{mode}`)"),
                );
            }
        }
        if let Some(candidates) = inputs.get("candidates") {
            if !coordinated {
                let message = format!(
                    "`candidates` belongs to the modes `selector` and `manager` (the mode is `{mode}`)"
                );
                self.bad_chat(candidates, message);
            } else if !candidates.text().is_some_and(|text| text.starts_with('@')) {
                self.bad_chat(
                    candidates,
                    "`candidates` must be an expression that returns an array of names".to_owned(),
                );
            }
        }
    }

    fn coordinator(&mut self, node: &Node) {
        if node.members().is_none() {
            return self.bad_chat(node, format!("`coordinator` must be an object, found {}", node.kind()));
        }
        self.only(node, &COORDINATOR, code::BAD_CHAT, "`coordinator`");
        for (name, least) in [("attempts", 1), ("stallsMax", 0), ("replansMax", 0)] {
            if let Some(count) = node.get(name) {
                self.chat_count(count, &format!("coordinator.{name}"), least);
            }
        }
        if let Some(may) = node.get("mayTerminate").filter(|may| may.boolean().is_none()) {
            self.bad_chat(may, format!("`mayTerminate` must be a boolean, found {}", may.kind()));
        }
    }

    fn chat_count(&mut self, node: &Node, what: &str, least: i64) {
        if !holds_expression(node) && node.integer().is_none_or(|count| count < least) {
            self.bad_chat(
                node,
                format!("`{what}` must be an integer of at least {least} (got {})", shown(node)),
            );
        }
    }

    fn chat_limit(&mut self, limit: &Node) {
        let known = ["rounds", "turns", "count", "tokens", "cost", "timeout"];
        self.only(limit, &known, code::BAD_CHAT, "`limit` of a GroupChat");
        for name in ["rounds", "turns", "count", "tokens"] {
            if let Some(count) = limit.get(name) {
                self.chat_count(count, &format!("limit.{name}"), 1);
            }
        }
    }

    fn termination(&mut self, list: &Node, what: &str, known: &Known<'_>) {
        let Some(entries) = list.items() else {
            return self
                .bad_chat(list, format!("`{what}` must be an array of conditions, found {}", list.kind()));
        };
        for entry in entries {
            let members = entry.members().unwrap_or_default();
            if members.is_empty() {
                let message = format!(
                    "an entry of `{what}` must be an object with a condition, found {}",
                    shown(entry)
                );
                self.bad_chat(entry, message);
                continue;
            }
            let mut allowed = TERMINATION.to_vec();
            allowed.push("legacyKeywords");
            self.only(entry, &allowed, code::BAD_CHAT, &format!("`{what}`"));
            for member in members {
                self.condition_of_end(&member.name, &member.value, known);
            }
        }
    }

    fn condition_of_end(&mut self, name: &str, value: &Node, known: &Known<'_>) {
        let place = value.place;
        match name.to_ascii_lowercase().as_str() {
            "rounds" | "messages" | "tokens" => self.chat_count(value, name, 1),
            "cost" => {
                let positive = value.to_value().to_json_text().parse::<f64>().is_ok_and(|cost| cost > 0.0);
                if !positive && !holds_expression(value) {
                    self.bad_chat(value, format!("`cost` must be a positive number (got {})", shown(value)));
                }
            }
            "timeout"
                if !holds_expression(value)
                    && value.text().is_none_or(|text| Span::parse_iso8601(text).is_err()) =>
            {
                let message =
                    format!("`timeout` must be an ISO 8601 duration, such as `PT10M` (got {})", shown(value));
                self.bad_chat(value, message);
            }
            "text" => {
                if value.members().is_some() {
                    self.only(value, &["text", "speakers"], code::BAD_CHAT, "`text`");
                    for speaker in value.get("speakers").and_then(Node::items).unwrap_or_default() {
                        let name = speaker.text().unwrap_or_default();
                        self.named(speaker.place, "`speakers`", name, &known.participants, "participant");
                    }
                }
                let text = value.text().or_else(|| value.get("text")?.text()).unwrap_or_default();
                if text.trim().is_empty() {
                    let message = format!(
                        "`text` must be a string, or an object with `text` and `speakers` (got {})",
                        shown(value)
                    );
                    self.bad_chat(value, message);
                }
            }
            "toolcalled" => {
                let name = value.text().unwrap_or_default();
                // `docs_search` is the tool `search` of the entry `docs`, and an operation has the name of its entry.
                let of_server = |entry: &&str| {
                    let rest = name.strip_prefix(*entry);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
                };
                if !known.servers.iter().any(of_server) {
                    self.named(place, "`toolCalled`", name, &known.tools, "tool");
                }
            }
            "handoffto" | "speaker" => {
                let what = format!("`{name}`");
                self.named(
                    place,
                    &what,
                    value.text().unwrap_or_default(),
                    &known.participants,
                    "participant",
                );
            }
            "expression" if !value.text().is_some_and(|text| text.starts_with('@')) => {
                let message =
                    "`expression` must be an expression that returns a boolean, such as \"@equals(…)\"";
                self.bad_chat(value, message.to_owned());
            }
            "external" => {
                let problem = match value.text() {
                    None => Some("it is not a string"),
                    Some(text) => memory::address(text).err(),
                };
                if let Some(why) = problem {
                    let message = format!(
                        "`external` must be an address of shared memory, such as `run/stop` (got {}): {why}",
                        shown(value)
                    );
                    self.bad_chat(value, message);
                }
            }
            "coordinator" | "legacykeywords" => {
                if value.boolean() != Some(true) {
                    self.bad_chat(value, format!("`{name}` must be `true` (got {})", shown(value)));
                }
                if name.eq_ignore_ascii_case("coordinator") && !known.has_coordinator {
                    let message = "a condition `coordinator` needs the `coordinator` of the chat";
                    self.bad_chat(value, message.to_owned());
                }
            }
            "any" | "all" => self.termination(value, name, known),
            _ => {}
        }
    }

    fn chat_memory(&mut self, memory: &Node) {
        if memory.members().is_none() {
            return self.bad_chat(memory, format!("`memory` must be an object, found {}", memory.kind()));
        }
        let known = ["key", "ttl", "max", "agentHistoryReductionSettings"];
        self.only(memory, &known, code::BAD_CHAT, "`memory` of a GroupChat");
        match memory.get("key") {
            None => self.bad_chat(memory, "`memory` needs `key`, such as `chat:support/history`".to_owned()),
            Some(key) if key.text().is_none_or(str::is_empty) => {
                let message = format!(
                    "`key` must be an address of shared memory, such as `chat:support/history` (got {})",
                    shown(key)
                );
                self.bad_chat(key, message);
            }
            Some(_) => {}
        }
        if let Some(max) = memory.get("max") {
            self.chat_count(max, "memory.max", 1);
        }
    }

    fn response_schema(&mut self, response: &Node, known: &Known<'_>, participants: &[(&str, &Node)]) {
        let schema = response.get("json_schema");
        if schema.and_then(|schema| schema.get("schema").or(Some(schema))).and_then(Node::members).is_none() {
            let message = "`response` must be an object with `json_schema`, which has `name` and `schema`";
            self.bad_chat(response, message.to_owned());
        }
        let speaks = participants.iter().any(|(_, participant)| participant.get("agent").is_some());
        if !known.has_coordinator && !speaks {
            self.bad_chat(response, "`response` needs a model: add a `coordinator`".to_owned());
        }
    }
}
