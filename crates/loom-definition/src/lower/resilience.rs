//! Lowers timeouts, retries, circuit breakers, rate limits and bulkheads of actions, in both spellings.

use std::sync::Arc;

use loom_expression::Value;
use loom_resilience::{BreakerConfig, BulkheadConfig, LimiterConfig};

use super::{Lowerer, outline::Type, paths::Timing};
use crate::{
    diagnostic::{Severity, code, did_you_mean},
    duration::Span,
    model::{ActionKind, EffectKind, Setting, WorkflowKind},
    policy::{
        self, BreakerSpec, BulkheadSpec, Fallback, FallbackOutputs, HedgeSpec, Mode, OnUncertain,
        PolicyProblem, PolicyUse, RateLimitSpec, Resilience, RetryPolicy, RetrySetting, Spelling, Tree,
    },
    status::{Status, StatusSet},
    text::Node,
};

/// The settings of one named service, each with the first action that specifies it.
#[derive(Debug, Default)]
pub(super) struct SharedService {
    limiter: Option<(usize, LimiterConfig)>,
    bulkhead: Option<(usize, BulkheadConfig)>,
    breaker: Option<(usize, BreakerConfig)>,
}

/// The parts of a policy, with the codes of their errors.
const PARTS: [(&str, &str); 5] = [
    ("retryPolicy", code::BAD_RETRY),
    ("circuitBreaker", code::BAD_BREAKER),
    ("rateLimit", code::BAD_RATE_LIMIT),
    ("bulkhead", code::BAD_BULKHEAD),
    ("hedge", code::BAD_HEDGE),
];

const FALLBACK_MEMBERS: [&str; 4] = ["body", "outputs", "on", "mode"];

/// Records the settings of `owner`, or returns the first action if its settings differ.
fn first_to_differ<T: PartialEq>(known: &mut Option<(usize, T)>, owner: usize, config: T) -> Option<usize> {
    let Some((first, known)) = known else {
        *known = Some((owner, config));
        return None;
    };
    (*known != config).then_some(*first)
}

impl Lowerer<'_, '_, '_> {
    /// `limit.timeout`, or `timeout` in the Loom spelling. The timeout of a loop is in the model's `Loop` instead.
    pub(super) fn action_timeout(
        &mut self,
        node: &Node,
        kind: &ActionKind,
        owner: usize,
    ) -> Option<Setting<Span>> {
        let limit = node.get("limit");
        if let Some(limit) = limit {
            self.found.want_object(limit, "limit");
        }
        let wdl = limit.and_then(|limit| limit.get("timeout"));
        let loom = node.get("timeout");
        if let (Some(_), Some(loom)) = (wdl, loom) {
            let message =
                "`timeout` and `limit.timeout` both set the timeout of the action; keep one of them";
            self.found.error(code::CONTRADICTION, loom.place, message);
            // Both are checked, so that all mistakes are reported at once.
            self.span_setting(loom, "timeout", true, Some(owner));
        }
        if matches!(kind, ActionKind::Loop(_)) {
            return None;
        }
        let owner = Some(owner);
        match (wdl, loom) {
            (Some(node), _) => self.span_setting(node, "limit.timeout", false, owner),
            (None, Some(node)) => self.span_setting(node, "timeout", true, owner),
            (None, None) => None,
        }
    }

    /// A duration, or an expression that returns one. With `milliseconds`, numbers are accepted, too.
    pub(super) fn span_setting(
        &mut self,
        node: &Node,
        what: &str,
        milliseconds: bool,
        owner: Option<usize>,
    ) -> Option<Setting<Span>> {
        if holds_expression(node) {
            return Some(Setting::Computed(self.template_of(node, &node.to_value(), owner)));
        }
        if node.text().is_none() && !milliseconds {
            let message = format!("`{what}` must be an ISO 8601 duration, found {}", node.kind());
            self.found.error(code::BAD_DURATION, node.place, message).hint =
                Some("for example \"PT30S\"".to_owned());
            return None;
        }
        match Span::from_value(&node.to_value()) {
            Ok(span) if span == Span::default() && what.ends_with("timeout") => {
                let message = format!("`{what}` must be longer than zero");
                self.found.error(code::BAD_DURATION, node.place, message);
                None
            }
            Ok(span) => Some(Setting::Fixed(span)),
            Err(reason) => {
                let diagnostic =
                    self.found.error(code::BAD_DURATION, node.place, format!("`{what}`: {reason}"));
                diagnostic.hint = Some(if milliseconds {
                    "for example \"PT30S\" or 30000 (milliseconds)".to_owned()
                } else {
                    "for example \"PT30S\"".to_owned()
                });
                None
            }
        }
    }

    /// An integer between 1 and `most`, or an expression that returns one.
    pub(super) fn count_setting(
        &mut self,
        node: &Node,
        what: &str,
        most: u32,
        owner: usize,
    ) -> Option<Setting<u32>> {
        if holds_expression(node) {
            return Some(Setting::Computed(self.template(node, owner)));
        }
        let found = node.integer().or_else(|| node.text().and_then(|text| text.trim().parse().ok()));
        match found {
            Some(found) if (1..=i64::from(most)).contains(&found) => Some(Setting::Fixed(found as u32)),
            Some(found) => {
                let message = format!("`{what}` must be between 1 and {most} (got {found})");
                self.found.error(code::BAD_LOOP_LIMIT, node.place, message);
                None
            }
            None => {
                let message = format!("`{what}` must be an integer, found {}", node.kind());
                self.found.error(code::BAD_LOOP_LIMIT, node.place, message);
                None
            }
        }
    }

    /// The policies of the action; `None` if it has none and its type has no default.
    pub(super) fn resilience(
        &mut self,
        node: &Node,
        kind: &ActionKind,
        owner: usize,
    ) -> Option<Box<Resilience>> {
        let inputs = node.get("inputs");
        let own = node.get("retryPolicy");
        // `inputs.retryPolicy` of a `Retry` action applies to its body; it is lowered with the action's kind.
        let in_inputs = match kind {
            ActionKind::Effect { .. } => inputs.and_then(retry_in_inputs),
            _ => None,
        };
        let own = if matches!(kind, ActionKind::Retry { .. }) { None } else { own };
        if let (Some(own), Some(_)) = (own, in_inputs) {
            let message =
                "`retryPolicy` and `inputs.retryPolicy` both set the retry policy; keep one of them";
            self.found.error(code::CONTRADICTION, own.place, message);
        }
        let wdl = if self.kind == WorkflowKind::Stateless { Spelling::WdlStateless } else { Spelling::Wdl };
        let retry = match (own, in_inputs) {
            // It is read together with what it overrides.
            (Some(own), _) if node.get("policy").is_some() && !holds_expression(own) => RetrySetting::Default,
            (Some(own), _) => self.retry_setting(own, Spelling::Loom, Some(owner)),
            (None, Some(inner)) => self.retry_setting(inner, wdl, Some(owner)),
            (None, None) => RetrySetting::Default,
        };
        let fallback = node.get("fallback").and_then(|found| self.fallback(found, kind, owner)).map(Box::new);
        let on_uncertain = node.get("onUncertain").map_or(OnUncertain::Retry, |node| self.on_uncertain(node));
        let timeout_mode = self.mode_in(node, "timeoutMode").unwrap_or_default();
        if timeout_mode != Mode::Enforce && matches!(kind, ActionKind::Loop(_)) {
            let place = node.get("timeoutMode").map_or(node.place, |found| found.place);
            let message = "`timeoutMode` must not be set on a loop, whose timeout ends its iterations";
            self.found.error(code::BAD_CHOICE, place, message);
        }
        if let Some(named) = node.get("policy") {
            let named = self.policy_use(node, named)?;
            // An override that expressions compute stays with the action.
            let retry =
                if matches!(retry, RetrySetting::Computed(..)) { retry } else { RetrySetting::Default };
            let named = Some(Arc::new(named));
            return Some(Box::new(Resilience {
                retry,
                timeout_mode,
                on_uncertain,
                named,
                fallback,
                ..Resilience::default()
            }));
        }
        let breaker = node.get("circuitBreaker").and_then(|node| {
            let read = BreakerSpec::from_value(&node.to_value());
            self.policy(node, read, code::BAD_BREAKER)
        });
        let rate_limit = node.get("rateLimit").and_then(|node| {
            let read = RateLimitSpec::from_value(&node.to_value());
            self.policy(node, read, code::BAD_RATE_LIMIT)
        });
        let bulkhead = node.get("bulkhead").and_then(|node| {
            let read = BulkheadSpec::from_value(&node.to_value());
            self.policy(node, read, code::BAD_BULKHEAD)
        });
        let hedge = node.get("hedge").and_then(|node| {
            let read = HedgeSpec::from_value(&node.to_value());
            self.policy(node, read, code::BAD_HEDGE)
        });
        let attempt_timeout = node.get("attemptTimeout").and_then(|node| {
            let setting = self.span_setting(node, "attemptTimeout", true, None);
            match setting {
                Some(Setting::Fixed(span)) => Some(span.approximate()),
                Some(Setting::Computed(_)) => {
                    let message = "`attemptTimeout` must not be an expression";
                    self.found.error(code::BAD_DURATION, node.place, message);
                    None
                }
                None => None,
            }
        });
        let attempt_timeout_mode = self.mode_in(node, "attemptTimeoutMode").unwrap_or_default();
        if let Some(spec) = &breaker
            && let Some(name) = &spec.name
        {
            let first = first_to_differ(&mut self.service(name).breaker, owner, spec.config());
            self.differs(node, "circuitBreaker", name, first);
        }
        if let Some(spec) = &rate_limit
            && let Some(name) = &spec.name
        {
            let first = first_to_differ(&mut self.service(name).limiter, owner, spec.config());
            self.differs(node, "rateLimit", name, first);
        }
        if let Some(spec) = &bulkhead
            && let Some(name) = &spec.name
        {
            let first = first_to_differ(&mut self.service(name).bulkhead, owner, spec.config());
            self.differs(node, "bulkhead", name, first);
        }
        let silent = matches!(retry, RetrySetting::Default)
            && breaker.is_none()
            && rate_limit.is_none()
            && bulkhead.is_none()
            && hedge.is_none()
            && attempt_timeout.is_none()
            && fallback.is_none()
            && timeout_mode == Mode::Enforce
            && on_uncertain == OnUncertain::Retry;
        if silent && !kind.retries_by_default() {
            return None;
        }
        Some(Box::new(Resilience {
            retry,
            breaker,
            rate_limit,
            bulkhead,
            hedge,
            attempt_timeout,
            attempt_timeout_mode,
            timeout_mode,
            on_uncertain,
            fallback,
            ..Resilience::default()
        }))
    }

    /// The named policy of an action, with its overrides. They are checked if the policies of the project are known.
    fn policy_use(&mut self, node: &Node, named: &Node) -> Option<PolicyUse> {
        let name = self.found.want_text(named, "policy")?;
        let mut overrides = Tree::of_overrides(node);
        for (part, code) in PARTS {
            let Some(found) = node.get(part) else { continue };
            if holds_expression(found) {
                overrides.remove(part);
                if part != "retryPolicy" {
                    let message = format!("`{part}` must not contain an expression");
                    self.found.error(code, found.place, message);
                }
            } else if found.members().is_some() {
                self.policy_members(found, code);
            }
        }
        for time in ["timeout", "attemptTimeout"] {
            if node.get(time).is_some_and(holds_expression) {
                overrides.remove(time);
            }
        }
        let using = PolicyUse { name: Arc::from(name), overrides };
        let Some(policies) = self.policies else { return Some(using) };
        if policies.contains(name) {
            if let Some(problem) = policies.problem_of(&using) {
                let place = match problem.place {
                    Some((place, true)) => place,
                    _ => named.place,
                };
                self.found.error(problem.code, place, problem.message);
            }
        } else {
            let problem = policies.no_such(name);
            let message = if policies.is_empty() {
                format!("{problem}; the project has no resilience.json that defines it")
            } else {
                format!("{problem} in resilience.json")
            };
            self.found.report(self.refusal, code::UNKNOWN_POLICY, named.place, message).hint = problem.hint;
        }
        Some(using)
    }

    /// A `fallback`: `{body | outputs, on, mode}`.
    fn fallback(&mut self, node: &Node, kind: &ActionKind, owner: usize) -> Option<Fallback> {
        let members = self.found.want_object(node, "fallback")?.members().unwrap_or_default();
        let calls = match kind {
            ActionKind::Effect { effect, .. } => !matches!(effect, EffectKind::Compute(_)),
            _ => matches!(kind, ActionKind::Agent { .. }),
        };
        if !calls {
            let message = "only an action that calls a service may have a `fallback`";
            self.found.error(code::BAD_FALLBACK, node.place, message).hint =
                Some("handle the failure in an action that runs after this one".to_owned());
            return None;
        }
        for member in members {
            if !FALLBACK_MEMBERS.iter().any(|name| name.eq_ignore_ascii_case(&member.name)) {
                let message = format!("unknown property `{}` in a fallback", member.name);
                let hint = did_you_mean(&member.name, FALLBACK_MEMBERS);
                self.found.warning(code::UNKNOWN_MEMBER, member.name_place, message).hint = hint;
            }
        }
        let (body, outputs) = (node.member("body"), node.member("outputs"));
        self.timing = Timing::After;
        let outputs = match (body, outputs) {
            (Some(body), None) => Some(FallbackOutputs::Body(self.template(&body.value, owner))),
            (None, Some(outputs)) => Some(FallbackOutputs::Whole(self.template(&outputs.value, owner))),
            (Some(_), Some(_)) => {
                let message = "`body` and `outputs` both set the outputs; keep one of them";
                self.found.error(code::BAD_FALLBACK, node.place, message);
                None
            }
            (None, None) => {
                let message =
                    "a `fallback` needs `body` or `outputs`, the value to use in place of the failure";
                self.found.error(code::BAD_FALLBACK, node.place, message);
                None
            }
        };
        self.timing = Timing::Before;
        let mode = self.mode_in(node, "mode");
        let mut on = StatusSet::of(Status::Failed);
        on.insert(Status::TimedOut);
        if let Some(list) = node.get("on") {
            on = StatusSet::default();
            for item in list.items().unwrap_or_default() {
                if let Some(status @ (Status::Failed | Status::TimedOut)) =
                    item.text().and_then(Status::parse)
                {
                    on.insert(status);
                } else {
                    let message = "an entry of `on` must be `Failed` or `TimedOut`";
                    self.found.error(code::BAD_FALLBACK, item.place, message);
                }
            }
            if on.is_empty() && list.items().is_none_or(<[Node]>::is_empty) {
                let message = "`on` must be an array of `Failed` and `TimedOut` with at least one of them";
                self.found.error(code::BAD_FALLBACK, list.place, message);
            }
        }
        Some(Fallback { outputs: outputs?, on, mode: mode? })
    }

    /// A mode; `enforce` without one.
    fn mode_in(&mut self, node: &Node, name: &str) -> Option<Mode> {
        let Some(found) = node.get(name) else { return Some(Mode::Enforce) };
        let mode = found.text().and_then(policy::mode_of);
        if mode.is_none() {
            let message = format!(
                "`{name}` must be `enforce`, `observe` or `off` (got {})",
                found.to_value().to_json_text()
            );
            self.found.error(code::BAD_CHOICE, found.place, message);
        }
        mode
    }

    fn service(&mut self, name: &Arc<str>) -> &mut SharedService {
        self.services.entry(Arc::clone(name)).or_default()
    }

    /// Warns if the action `first` specifies other settings for the same service.
    fn differs(&mut self, node: &Node, member: &str, service: &str, first: Option<usize>) {
        let Some(first) = first else { return };
        let first = &self.outline.actions[first].name;
        let message = format!(
            "the `{member}` of service `{service}` differs from that of action `{first}`; the action that is called \
             first decides"
        );
        let place = node.get(member).map_or(node.place, |found| found.place);
        self.found.report(Severity::Warning, code::SHARED_SERVICE_DIFFERS, place, message).hint =
            Some("give both actions the same settings, or the services different names".to_owned());
    }

    /// A retry policy, fixed or computed.
    pub(super) fn retry_setting(
        &mut self,
        node: &Node,
        spelling: Spelling,
        owner: Option<usize>,
    ) -> RetrySetting {
        if holds_expression(node) {
            return RetrySetting::Computed(self.template_of(node, &node.to_value(), owner), spelling);
        }
        let value = node.to_value();
        let read = RetryPolicy::read(&value, spelling).map(Some);
        if let Err(first) = &read {
            self.further_problems(node, value, spelling, first.member);
        }
        match self.policy(node, read, code::BAD_RETRY) {
            Some(policy) => RetrySetting::Fixed(Arc::new(policy)),
            None => RetrySetting::Default,
        }
    }

    /// Reports the problems of a retry policy besides the one with the property `first`: reads it again without each faulty property.
    fn further_problems(&mut self, node: &Node, value: Value, spelling: Spelling, first: &'static str) {
        let Some(mut object) = value.into_object() else { return };
        let mut seen = vec![first];
        loop {
            // Without its type, or without a property that is needed, a policy has other rules.
            let faulty = seen.last().copied().unwrap_or_default();
            let name = object.name_ignore_case(faulty).cloned();
            let Some(name) = name.filter(|_| !["", "type"].contains(&faulty)) else { return };
            // An interval alone makes the type `fixed`.
            if faulty == "interval" && object.get("type").is_none() {
                return;
            }
            object.remove(&name);
            match RetryPolicy::read(&Value::from(object.clone()), spelling) {
                Err(problem) if !seen.contains(&problem.member) && object.contains_key(problem.member) => {
                    let place = member_of(node, problem.member).map_or(node.place, |member| member.place);
                    self.found.error(code::BAD_RETRY, place, problem.message);
                    seen.push(problem.member);
                }
                _ => return,
            }
        }
    }

    fn policy<T>(
        &mut self,
        node: &Node,
        read: Result<Option<T>, PolicyProblem>,
        code: &'static str,
    ) -> Option<T> {
        match read {
            Ok(found) => {
                self.policy_members(node, code);
                found
            }
            Err(problem) => {
                let place = member_of(node, problem.member).map_or(node.place, |member| member.place);
                self.found.error(code, place, problem.message);
                None
            }
        }
    }

    /// Warns about every unknown property of a policy, because a misspelled one silently removes protection.
    fn policy_members(&mut self, node: &Node, code: &'static str) {
        let known = match code {
            code::BAD_RETRY => policy::RETRY_MEMBERS,
            code::BAD_BREAKER => policy::BREAKER_MEMBERS,
            code::BAD_RATE_LIMIT => policy::RATE_LIMIT_MEMBERS,
            code::BAD_HEDGE => policy::HEDGE_MEMBERS,
            _ => policy::BULKHEAD_MEMBERS,
        };
        for member in node.members().unwrap_or_default() {
            if !known.iter().any(|name| name.eq_ignore_ascii_case(&member.name)) {
                let message = format!("unknown property `{}` in a policy", member.name);
                let hint = did_you_mean(&member.name, known.iter().copied());
                let diagnostic = self.found.warning(code::UNKNOWN_MEMBER, member.name_place, message);
                diagnostic.label = "this has no effect".into();
                diagnostic.hint = hint;
            }
        }
    }

    fn on_uncertain(&mut self, node: &Node) -> OnUncertain {
        if let Some(found) = node.text().and_then(OnUncertain::parse) {
            found
        } else {
            let message = "`onUncertain` must be `retry`, `fail` or `ask`";
            self.found.error(code::BAD_CHOICE, node.place, message);
            OnUncertain::Retry
        }
    }

    /// The policy of a `Retry` action, from the action or from its inputs.
    pub(super) fn retry_action_policy(&mut self, node: &Node, owner: usize) -> RetrySetting {
        let inner = node.get("inputs").and_then(|inputs| inputs.get("retryPolicy"));
        match node.get("retryPolicy").or(inner) {
            Some(policy) => self.retry_setting(policy, Spelling::Loom, Some(owner)),
            None => RetrySetting::Fixed(Arc::new(RetryPolicy::retry_action_default())),
        }
    }

    /// The iteration limit and timeout of a loop, from `limit` or `inputs.limit`.
    pub(super) fn loop_limits(
        &mut self,
        node: &Node,
        kind: Type,
        loom: bool,
        owner: usize,
    ) -> (Setting<u32>, Setting<Span>) {
        let limit = node.get("limit").or_else(|| node.get("inputs").and_then(|inputs| inputs.get("limit")));
        let stateless = self.kind == WorkflowKind::Stateless;
        let most = match (loom, stateless) {
            (true, _) => 1_000_000,
            (false, true) => 100,
            (false, false) => 5_000,
        };
        let default_span =
            Span::exact(std::time::Duration::from_secs(if stateless && !loom { 300 } else { 3_600 }));
        debug_assert!(kind.is_loop());
        let count = limit
            .and_then(|limit| limit.get("count"))
            .and_then(|count| self.count_setting(count, "limit.count", most, owner))
            .unwrap_or(Setting::Fixed(60));
        let time = limit.and_then(|limit| limit.get("timeout"));
        let time = match (time, node.get("timeout")) {
            (Some(time), _) => self.span_setting(time, "limit.timeout", loom, Some(owner)),
            (None, Some(time)) => self.span_setting(time, "timeout", true, Some(owner)),
            (None, None) => None,
        };
        (count, time.unwrap_or(Setting::Fixed(default_span)))
    }
}

/// A property of a policy, or of an object inside it such as `failureRate`. `window` may also be `windowSize`.
fn member_of<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let also = if name == "window" { "windowSize" } else { name };
    let direct = |node: &'a Node| node.get(name).or_else(|| node.get(also));
    let members = node.members().unwrap_or_default();
    direct(node).or_else(|| members.iter().find_map(|member| direct(&member.value)))
}

/// The `retryPolicy` of the inputs, or of `subscribe` inside them.
fn retry_in_inputs(inputs: &Node) -> Option<&Node> {
    inputs.get("retryPolicy").or_else(|| inputs.get("subscribe")?.get("retryPolicy"))
}

/// The retry policy as the inputs specify it, for the action's record; null if there is none or it is computed.
pub(super) fn written_retry(node: &Node) -> Value {
    let policy = node.get("inputs").and_then(|inputs| inputs.get("retryPolicy"));
    let Some(policy) = policy.filter(|policy| !holds_expression(policy)) else { return Value::NULL };
    let Some(mut members) = policy.to_value().into_object() else { return Value::NULL };
    if let Some(kind) = policy.get("type").and_then(Node::text) {
        let mut letters = kind.chars();
        let capital = letters.next().map(|first| first.to_ascii_uppercase());
        let name = members.name_ignore_case("type").cloned().unwrap_or_else(|| Arc::from("type"));
        members.insert(name, capital.into_iter().chain(letters).collect::<String>());
    }
    Value::from(members)
}

/// The inputs without their retry policies, which the model stores separately.
pub(super) fn without_retry(value: Value) -> Value {
    let Some(mut object) = value.as_object().cloned() else { return value };
    remove(&mut object, "retryPolicy");
    if let Some(name) = object.name_ignore_case("subscribe").cloned()
        && let Some(mut subscribe) = object.get(&name).and_then(Value::as_object).cloned()
    {
        remove(&mut subscribe, "retryPolicy");
        object.insert(name, subscribe);
    }
    Value::from(object)
}

fn remove(object: &mut loom_expression::Object, name: &str) {
    if let Some(name) = object.name_ignore_case(name).cloned() {
        object.remove(&name);
    }
}

/// Whether `node` contains an expression.
pub(super) fn holds_expression(node: &Node) -> bool {
    match &node.shape {
        crate::text::Shape::String(text) => (text.len() > 1 && text.starts_with('@')) || text.contains("@{"),
        crate::text::Shape::Array(items) => items.iter().any(holds_expression),
        crate::text::Shape::Object(members) => members.iter().any(|member| holds_expression(&member.value)),
        _ => false,
    }
}
