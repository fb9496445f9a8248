//! The file of `--chaos`: what is injected into calls, how often, and where.
//!
//! Only a command names this file. Nothing in a definition or a project can switch chaos on.

use std::{sync::Arc, time::Duration};

use loom_expression::{Object, Value};

use crate::{
    diagnostic::{Diagnostics, Severity, code, did_you_mean},
    duration::Span,
    findings::Findings,
    text::{self, Limits, Node, Shape, Span32},
};

/// Everything that is injected into calls.
#[derive(Clone, Debug, Default)]
pub struct ChaosPlan {
    /// Decides which calls are affected; the same seed affects the same calls.
    pub seed: u64,
    /// In the order in which they apply to a call. A fault or an outcome ends it.
    pub injections: Vec<ChaosInjection>,
}

/// One kind of fault, and the calls that it affects.
#[derive(Clone, Debug)]
pub struct ChaosInjection {
    /// The share of attempts that it affects, 0 to 1.
    pub rate: f64,
    /// Only calls of this workflow, ignoring case.
    pub workflow: Option<Arc<str>>,
    /// Only calls of this action, ignoring case.
    pub action: Option<Arc<str>>,
    /// Only calls to this service: the name of a policy, or the origin of a call.
    pub service: Option<Arc<str>>,
    /// Only the first attempts of a call, up to this number.
    pub attempts_max: Option<u32>,
    /// What it does.
    pub effect: ChaosEffect,
}

/// What an injection does to a call.
#[derive(Clone, Debug)]
pub enum ChaosEffect {
    /// Fails the call, which is not made.
    Fault {
        /// The code of the error.
        code: Arc<str>,
    },
    /// Delays the call.
    Latency(Duration),
    /// Gives a response in place of the call.
    Outcome {
        /// The HTTP status.
        status: u16,
        /// The headers.
        headers: Object,
        /// The body; null for none.
        body: Value,
    },
    /// Makes the call, but not as usual.
    Behaviour(ChaosBehaviour),
}

/// What the network does to a call that is made nevertheless.
#[derive(Clone, Debug)]
pub enum ChaosBehaviour {
    /// Sends the call twice, one after the other. The second response is used.
    Duplicate,
    /// Loses the response: the service does its work, and the call fails.
    LoseResponse {
        /// The code of the error.
        code: Arc<str>,
    },
}

impl ChaosEffect {
    /// `fault`, `latency`, `outcome` or `behaviour`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Fault { .. } => "fault",
            Self::Latency(_) => "latency",
            Self::Outcome { .. } => "outcome",
            Self::Behaviour(_) => "behaviour",
        }
    }
}

const MEMBERS: [&str; 12] = [
    "kind",
    "rate",
    "workflow",
    "action",
    "service",
    "attemptsMax",
    "code",
    "delay",
    "statusCode",
    "headers",
    "body",
    "behaviour",
];

const KINDS: [&str; 4] = ["fault", "latency", "outcome", "behaviour"];

const BEHAVIOURS: [&str; 2] = ["duplicate", "loseResponse"];

/// The code of a fault that names none.
const CODE: &str = "ServiceUnavailable";

impl ChaosPlan {
    /// Reads the text of a chaos file: `{"seed": 7, "injections": [{"kind": "latency", "rate": 0.1, "delay": "PT2S"}]}`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(source: &str) -> Result<ChaosPlan, Diagnostics> {
        let nothing = Node { place: Span32 { start: 0, end: 0 }, shape: Shape::Null, computed: false };
        let read = text::read(source, &Limits::default()).map_err(|error| {
            let mut found = Findings::new(source, &nothing);
            let diagnostic = found.error(code::NOT_JSON, error.place, error.message.clone());
            diagnostic.hint.clone_from(&error.hint);
            found.finish()
        })?;
        let mut found = Findings::new(source, &read.root);
        let mut plan = ChaosPlan::default();
        let members = found.want_document(&read.root).and_then(Node::members);
        for member in members.unwrap_or_default() {
            match &*member.name {
                "$schema" => {}
                "seed" => match member.value.integer().and_then(|seed| u64::try_from(seed).ok()) {
                    Some(seed) => plan.seed = seed,
                    None => wrong_value(&mut found, &member.value, "`seed` must be an integer of at least 0"),
                },
                "injections" => match member.value.items() {
                    Some(items) => {
                        plan.injections =
                            items.iter().filter_map(|item| injection(item, &mut found)).collect();
                    }
                    None => wrong(&mut found, &member.value, "`injections` must be an array"),
                },
                other => {
                    let message = format!("unknown property `{other}`; expected `seed` or `injections`");
                    found.error(code::BAD_CHAOS, member.name_place, message).hint =
                        did_you_mean(other, ["seed", "injections"]);
                }
            }
        }
        let diagnostics = found.finish();
        if diagnostics.0.iter().any(|found| found.severity == Severity::Error) {
            return Err(diagnostics);
        }
        Ok(plan)
    }
}

fn wrong(found: &mut Findings<'_>, node: &Node, message: impl Into<String>) {
    found.error(code::BAD_CHAOS, node.place, message);
}

/// As [`wrong`], with the value that was found.
fn wrong_value(found: &mut Findings<'_>, node: &Node, message: &str) {
    let given = node.to_value().to_json_text();
    wrong(found, node, format!("{message} (got {given})"));
}

fn injection(node: &Node, found: &mut Findings<'_>) -> Option<ChaosInjection> {
    for member in found.want_object(node, "injections")?.members().unwrap_or_default() {
        if !MEMBERS.iter().any(|name| name.eq_ignore_ascii_case(&member.name)) {
            let message = format!("unknown property `{}` in an injection", member.name);
            found.error(code::BAD_CHAOS, member.name_place, message).hint =
                did_you_mean(&member.name, MEMBERS);
        }
    }
    let number = |node: &Node| match &node.shape {
        Shape::Number(_) => node.to_value().to_json_text().parse::<f64>().ok(),
        _ => None,
    };
    let rate = match node.get("rate") {
        None => {
            wrong(
                found,
                node,
                "an injection needs a `rate` between 0 and 1, the share of attempts that it affects",
            );
            None
        }
        Some(given) => {
            let rate = number(given).filter(|rate| (0.0..=1.0).contains(rate));
            if rate.is_none() {
                wrong_value(found, given, "`rate` must be a number between 0 and 1");
            }
            rate
        }
    };
    let mut name = |member: &str| {
        let given = node.get(member)?;
        found.want_text(given, member).map(Arc::from)
    };
    let (workflow, action, service) = (name("workflow"), name("action"), name("service"));
    let attempts_max = node.get("attemptsMax").and_then(|given| {
        let count = given.integer().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        if count.is_none() {
            wrong_value(found, given, "`attemptsMax` must be an integer of at least 1");
        }
        count
    });
    let effect = effect(node, found);
    Some(ChaosInjection { rate: rate?, workflow, action, service, attempts_max, effect: effect? })
}

fn effect(node: &Node, found: &mut Findings<'_>) -> Option<ChaosEffect> {
    let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
    match kind {
        "fault" => Some(ChaosEffect::Fault { code: error_code(node, found)? }),
        "behaviour" => {
            let given = node.get("behaviour");
            match given.and_then(Node::text).unwrap_or_default() {
                "duplicate" => Some(ChaosEffect::Behaviour(ChaosBehaviour::Duplicate)),
                "loseResponse" => {
                    let code = error_code(node, found)?;
                    Some(ChaosEffect::Behaviour(ChaosBehaviour::LoseResponse { code }))
                }
                other => {
                    let message = "an injected behaviour needs a `behaviour`, `duplicate` or `loseResponse`";
                    let place = given.unwrap_or(node).place;
                    found.error(code::BAD_CHAOS, place, message).hint = did_you_mean(other, BEHAVIOURS);
                    None
                }
            }
        }
        "latency" => {
            let Some(given) = node.get("delay") else {
                wrong(found, node, "an injection of the kind `latency` needs a `delay`, such as \"PT2S\"");
                return None;
            };
            match Span::from_value(&given.to_value()) {
                Ok(delay) => Some(ChaosEffect::Latency(delay.approximate())),
                Err(reason) => {
                    wrong(found, given, format!("`delay`: {reason}"));
                    None
                }
            }
        }
        "outcome" => {
            let Some(given) = node.get("statusCode") else {
                wrong(found, node, "an injection of the kind `outcome` needs a `statusCode`, such as 503");
                return None;
            };
            let status = given.integer().and_then(|status| u16::try_from(status).ok());
            let Some(status) = status.filter(|status| (100..=599).contains(status)) else {
                wrong_value(found, given, "`statusCode` must be an HTTP status between 100 and 599");
                return None;
            };
            let headers = match node.get("headers") {
                None => Object::new(),
                Some(given) => {
                    found.want_object(given, "headers")?.to_value().into_object().unwrap_or_default()
                }
            };
            let body = node.get("body").map(Node::to_value).unwrap_or_default();
            Some(ChaosEffect::Outcome { status, headers, body })
        }
        other => {
            let place = node.get("kind").unwrap_or(node).place;
            let message = "`kind` must be `fault`, `latency`, `outcome` or `behaviour`";
            found.error(code::BAD_CHAOS, place, message).hint = did_you_mean(other, KINDS);
            None
        }
    }
}

/// The code of the error of a failed call.
fn error_code(node: &Node, found: &mut Findings<'_>) -> Option<Arc<str>> {
    match node.get("code") {
        None => Some(Arc::from(CODE)),
        Some(given) => found.want_text(given, "code").map(Arc::from),
    }
}
