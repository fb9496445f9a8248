//! Named policies: the file `resilience.json` of a project, with `defaults` and services that inherit from each other.
//!
//! The rules of merging are those of [`loom_resilience::inherit`]; the property names are those of definitions.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use loom_expression::{Object, Value};
use loom_resilience::{
    BudgetConfig, Policy,
    inherit::{InheritError, Inheritance, Layer, Resolved, Source, merge},
};

use super::{
    BreakerSpec, BulkheadSpec, HedgeSpec, Mode, PolicyProblem, PolicyUse, RateLimitSpec, Resilience,
    RetryPolicy, RetrySetting, Spelling, Tree, read::mode_of,
};
use crate::{
    diagnostic::{Diagnostics, Severity, code, did_you_mean},
    duration::Span,
    findings::Findings,
    text::{self, Limits, Node, NoteKind, Span32},
};

/// The parts whose state all callers of a service share.
const SHARED: [&str; 3] = ["circuitBreaker", "rateLimit", "bulkhead"];

/// The named policies of a project. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    source: Arc<str>,
    defaults: Option<Tree>,
    services: BTreeMap<Arc<str>, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    base: Option<(Arc<str>, Span32)>,
    members: Tree,
    /// Whether an operator has stored it; its places are then not those of the file.
    stored: bool,
}

/// A policy after inheritance, and the origin of each of its values.
#[derive(Clone, Debug)]
pub struct EffectivePolicy {
    /// What applies to the calls.
    pub resilience: Resilience,
    /// Every value that some layer sets, sorted by pointer; anything else has the default of the language.
    pub settings: Vec<EffectiveSetting>,
}

/// A value of an [`EffectivePolicy`].
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveSetting {
    /// The JSON pointer from the root of the policy: `/circuitBreaker/failureThreshold`.
    pub pointer: String,
    /// The value; `None` if the layer removes what it would inherit.
    pub value: Option<Value>,
    /// The layer: `defaults`, `services.NAME`, `stored.NAME` or `action`.
    pub origin: String,
    /// The line in the file of the layer.
    pub line: Option<usize>,
    /// The weaker layers that set the same value.
    pub overridden: Vec<String>,
}

/// No service of this name is defined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy named `{name}`")]
pub struct NoSuchPolicy {
    /// The name.
    pub name: Arc<str>,
    /// Names that it may be a misspelling of, as a hint.
    pub hint: Option<String>,
}

/// An invalid member of a merged policy.
pub(crate) struct PolicyFinding {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Where it was written, and whether that is in the overrides.
    pub(crate) place: Option<(Span32, bool)>,
}

impl Policies {
    /// Reads the text of a `resilience.json`.
    ///
    /// # Errors
    /// Everything that is wrong with it. Each service is checked as it applies, after inheritance.
    pub fn read(source: &str) -> Result<Policies, Diagnostics> {
        let limits = Limits::default();
        let read = text::read(source, &limits).map_err(|error| {
            let mut found = Findings::new(source, &NOTHING);
            let diagnostic = found.error(code::NOT_JSON, error.place, error.message.clone());
            diagnostic.hint.clone_from(&error.hint);
            found.finish()
        })?;
        let mut found = Findings::new(source, &read.root);
        for note in &read.notes {
            if let NoteKind::DuplicateKey { name, first } = &note.kind {
                // The last one would win, and the protection of the first be lost.
                let message = format!("duplicate key `{name}`; keep one of them");
                let diagnostic = found.error(code::BAD_POLICY_FILE, note.place, message);
                diagnostic.related.push((first.range(), "first defined here".to_owned()));
            }
        }
        let mut policies = Policies { source: Arc::from(source), ..Policies::default() };
        if found.want_document(&read.root).is_some() {
            for member in read.root.members().unwrap_or_default() {
                policies.add(&member.name, member.name_place, &member.value, &mut found);
            }
        }
        if found.is_empty() {
            // A part with a misspelt property would also lack the intended one.
            policies.check(&mut found);
        }
        let diagnostics = found.finish();
        if diagnostics.0.iter().any(|found| found.severity == Severity::Error) {
            return Err(diagnostics);
        }
        Ok(policies)
    }

    fn add(&mut self, name: &str, place: Span32, value: &Node, found: &mut Findings<'_>) {
        let mut unknown = Vec::new();
        match name {
            "$schema" => {}
            "defaults" => {
                if found.want_object(value, "defaults").is_some() {
                    self.defaults = Some(Tree::of_policy(value, &[], &mut unknown));
                }
            }
            "services" => {
                if found.want_object(value, "services").is_none() {
                    return;
                }
                for service in value.members().unwrap_or_default() {
                    if found.want_object(&service.value, "a service").is_none() {
                        continue;
                    }
                    if service.name.trim().is_empty() {
                        found.error(
                            code::BAD_POLICY_FILE,
                            service.name_place,
                            "the name of a service must not be empty",
                        );
                        continue;
                    }
                    let base = service.value.get("base").and_then(|base| {
                        found.want_text(base, "base").map(|name| (Arc::from(name), base.place))
                    });
                    let members = Tree::of_policy(&service.value, &["base"], &mut unknown);
                    let entry = Entry { base, members, stored: false };
                    self.services.insert(Arc::clone(&service.name), entry);
                }
            }
            other => {
                let message = format!("unknown property `{other}`; expected `defaults` or `services`");
                let hint = did_you_mean(other, ["defaults", "services"]);
                found.error(code::BAD_POLICY_FILE, place, message).hint = hint;
            }
        }
        for unknown in unknown {
            let diagnostic = found.error(code::BAD_POLICY_FILE, unknown.place, unknown.message);
            diagnostic.hint = unknown.hint;
        }
    }

    fn check(&self, found: &mut Findings<'_>) {
        let inheritance = self.inheritance();
        for error in inheritance.check() {
            let of = match &error {
                InheritError::UnknownBase { service, .. } => Some(service),
                InheritError::Cycle { path } => path.first(),
                _ => None,
            };
            let base = of.and_then(|name| self.services.get(name.as_str())?.base.as_ref());
            let place = base.map_or_else(Span32::default, |(_, place)| *place);
            found.error(code::BAD_POLICY_FILE, place, error.to_string());
        }
        for (tree, part) in self.trees().filter_map(|tree| Some((tree, named_part(tree)?))) {
            let place =
                tree.get(part).and_then(|part| part.get("name")).map_or(tree.place, |name| name.place);
            let message =
                format!("`{part}` must not have a `name` here: the service has the name of its policy");
            found.error(code::BAD_POLICY_FILE, place, message);
        }
        let mut defaults_checked = false;
        for name in self.services.keys() {
            let Ok(chain) = inheritance.chain(name) else { continue };
            let resolved = merge(&chain, |_| false);
            if let Err(problem) = read_policy(&resolved) {
                let place = problem.place.map_or_else(Span32::default, |(place, _)| place);
                if !found.has(problem.code, place) {
                    found.error(problem.code, place, problem.message);
                }
            }
            defaults_checked = true;
        }
        // Without services, nothing else has read the defaults.
        if !defaults_checked && let Some(defaults) = &self.defaults {
            let resolved = merge(&[Layer { source: Source::Defaults, settings: defaults }], |_| false);
            if let Err(problem) = read_policy(&resolved) {
                let place = problem.place.map_or_else(Span32::default, |(place, _)| place);
                found.error(problem.code, place, problem.message);
            }
        }
    }

    fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.defaults.iter().chain(self.services.values().map(|entry| &entry.members))
    }

    fn inheritance(&self) -> Inheritance<'_, Tree> {
        let mut inheritance = Inheritance::new();
        if let Some(defaults) = &self.defaults {
            inheritance = inheritance.defaults(defaults);
        }
        for (name, entry) in &self.services {
            inheritance =
                inheritance.service(name, entry.base.as_ref().map(|(base, _)| &**base), &entry.members);
        }
        inheritance
    }

    /// The names of the services, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.services.keys()
    }

    /// Whether the file defines a service of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.services.contains_key(name)
    }

    /// Whether there are no services.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The text of the file.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The effective policy of a service.
    ///
    /// # Errors
    /// [`NoSuchPolicy`].
    pub fn service(&self, name: &str) -> Result<EffectivePolicy, NoSuchPolicy> {
        let inheritance = self.inheritance();
        let chain = inheritance.chain(name).map_err(|_| self.no_such(name))?;
        let resolved = merge(&chain, |_| false);
        let resilience = read_policy(&resolved).unwrap_or_default();
        Ok(EffectivePolicy { resilience: named(resilience, name, None), settings: self.settings(&resolved) })
    }

    /// The guards of a service: what its file says, as a policy of `loom-resilience`.
    ///
    /// # Errors
    /// [`NoSuchPolicy`].
    pub fn guards(&self, name: &str) -> Result<Policy, NoSuchPolicy> {
        let resilience = self.service(name)?.resilience;
        let mut policy = Policy::none()
            .attempt_timeout(resilience.attempt_timeout)
            .attempt_timeout_mode(resilience.attempt_timeout_mode);
        policy.limiter = resilience.rate_limit.map(|spec| spec.config());
        policy.bulkhead = resilience.bulkhead.map(|spec| spec.config());
        policy.breaker = resilience.breaker.map(|spec| spec.config());
        policy.budget = resilience.hedge.map(|_| BudgetConfig::default());
        Ok(policy)
    }

    /// The effective policy of an action that uses a named one.
    ///
    /// Circuit breaker, rate limit and bulkhead are those of the service, shared with all its callers. A part whose state is
    /// shared cannot have two settings, so an action that overrides one of the three has all of them to itself.
    ///
    /// # Errors
    /// [`NoSuchPolicy`].
    pub fn of_action(&self, using: &PolicyUse) -> Result<EffectivePolicy, NoSuchPolicy> {
        let inheritance = self.inheritance();
        let mut chain = inheritance.chain(&using.name).map_err(|_| self.no_such(&using.name))?;
        chain.push(Layer { source: Source::Override, settings: &using.overrides });
        let resolved = merge(&chain, |_| false);
        let resilience = read_policy(&resolved).unwrap_or_default();
        let resilience = named(resilience, &using.name, Some(&using.overrides));
        Ok(EffectivePolicy { resilience, settings: self.settings(&resolved) })
    }

    /// The effective policy of an action whose named policy no longer exists: its overrides alone.
    pub fn overrides_of(using: &PolicyUse) -> Resilience {
        let layers = [Layer { source: Source::Override, settings: &using.overrides }];
        read_policy(&merge(&layers, |_| false)).unwrap_or_default()
    }

    /// What is wrong with the policy of an action after its overrides.
    pub(crate) fn problem_of(&self, using: &PolicyUse) -> Option<PolicyFinding> {
        let inheritance = self.inheritance();
        let mut chain = inheritance.chain(&using.name).ok()?;
        chain.push(Layer { source: Source::Override, settings: &using.overrides });
        read_policy(&merge(&chain, |_| false)).err()
    }

    /// Whether the overrides of an action fit the policy that it names.
    ///
    /// # Errors
    /// What contradicts what, in words.
    pub fn check_use(&self, using: &PolicyUse) -> Result<(), String> {
        if !self.contains(&using.name) {
            return Err(self.no_such(&using.name).to_string());
        }
        self.problem_of(using).map_or(Ok(()), |problem| Err(problem.message))
    }

    pub(crate) fn no_such(&self, name: &str) -> NoSuchPolicy {
        let hint = did_you_mean(name, self.services.keys().map(|name| &**name));
        NoSuchPolicy { name: Arc::from(name), hint }
    }

    fn settings(&self, resolved: &Resolved<'_, Tree>) -> Vec<EffectiveSetting> {
        let is_stored = |source: Source<'_>| match source {
            Source::Service(name) => self.services.get(name).is_some_and(|entry| entry.stored),
            _ => false,
        };
        let origin = |source: Source<'_>| match source {
            Source::Service(name) if is_stored(source) => format!("stored.{name}"),
            Source::Override => "action".to_owned(),
            _ => source.to_string(),
        };
        let line = |source: Source<'_>, place: Span32| {
            let of_file = source != Source::Override && !is_stored(source) && !self.source.is_empty();
            of_file.then(|| text::position(&self.source, place.range().start).line)
        };
        let set = resolved.values.iter().map(|(pointer, value)| EffectiveSetting {
            pointer: pointer.clone(),
            value: Some(value.value.to_value()),
            origin: origin(value.source),
            line: line(value.source, value.value.place),
            overridden: value.overridden.iter().map(|source| origin(*source)).collect(),
        });
        let removed = resolved.removed.iter().map(|(pointer, source)| EffectiveSetting {
            pointer: pointer.clone(),
            value: None,
            origin: origin(*source),
            line: None,
            overridden: Vec::new(),
        });
        let mut settings: Vec<_> = set.chain(removed).collect();
        settings.sort_by(|one, other| one.pointer.cmp(&other.pointer));
        settings
    }

    /// The policies of this file with other ones in place of those of some services: names, and objects as the file would hold
    /// them, with or without `base`.
    ///
    /// # Errors
    /// Everything that is wrong with the file as it would be.
    pub fn with_stored<'s>(
        &self,
        stored: impl IntoIterator<Item = (&'s str, &'s Value)> + Clone,
    ) -> Result<Policies, Diagnostics> {
        let mut services = Object::new();
        for (known, entry) in &self.services {
            services.insert(Arc::clone(known), entry.to_value());
        }
        for (name, members) in stored.clone() {
            services.insert(Arc::from(name), members.clone());
        }
        let mut file = Object::new();
        if let Some(defaults) = &self.defaults {
            file.insert("defaults", defaults.to_value());
        }
        file.insert("services", Value::from(services));
        // Read as one text, so that everything is checked together and errors have a pointer.
        let whole = Policies::read(&(Value::from(file).to_json_text_pretty() + "\n"))?;
        let mut policies = self.clone();
        for (name, _) in stored {
            if let Some((name, entry)) = whole.services.get_key_value(name) {
                policies.services.insert(Arc::clone(name), Entry { stored: true, ..entry.clone() });
            }
        }
        Ok(policies)
    }
}

impl Entry {
    fn to_value(&self) -> Value {
        let mut object = Object::new();
        if let Some((base, _)) = &self.base {
            object.insert("base", &**base);
        }
        for (name, value) in self.members.to_value().as_object().into_iter().flatten() {
            object.insert(Arc::clone(name), value.clone());
        }
        Value::from(object)
    }
}

impl fmt::Display for EffectiveSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map_or_else(|| "(removed)".to_owned(), Value::to_json_text);
        write!(f, "{} = {value}  ({}", self.pointer.trim_start_matches('/').replace('/', "."), self.origin)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if !self.overridden.is_empty() {
            write!(f, "; instead of {}", self.overridden.join(", "))?;
        }
        f.write_str(")")
    }
}

/// The root of a text that is not JSON.
const NOTHING: Node = Node { place: Span32 { start: 0, end: 0 }, shape: text::Shape::Null, computed: false };

/// The first part that has a `name` of its own.
fn named_part(tree: &Tree) -> Option<&'static str> {
    SHARED.into_iter().find(|part| tree.get(part).is_some_and(|part| part.get("name").is_some()))
}

/// Names the service of each part whose state is shared, unless the action has them to itself.
fn named(mut resilience: Resilience, name: &str, overrides: Option<&Tree>) -> Resilience {
    if overrides.is_some_and(|overrides| SHARED.iter().any(|part| overrides.get(part).is_some())) {
        return resilience;
    }
    if let Some(spec) = &mut resilience.breaker {
        spec.name = Some(Arc::from(name));
    }
    if let Some(spec) = &mut resilience.rate_limit {
        spec.name = Some(Arc::from(name));
    }
    if let Some(spec) = &mut resilience.bulkhead {
        spec.name = Some(Arc::from(name));
    }
    resilience.shares = true;
    resilience
}

/// The values as one object again.
fn whole(resolved: &Resolved<'_, Tree>) -> Object {
    let mut root = Object::new();
    for (pointer, value) in &resolved.values {
        let names: Vec<String> =
            pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
        root = inserted(root, &names, value.value.to_value());
    }
    root
}

fn inserted(mut object: Object, names: &[String], value: Value) -> Object {
    match names {
        [] => {}
        [last] => drop(object.insert(last.as_str(), value)),
        [name, rest @ ..] => {
            let inner = object.get(name.as_str()).and_then(Value::as_object).cloned().unwrap_or_default();
            object.insert(name.as_str(), Value::from(inserted(inner, rest, value)));
        }
    }
    object
}

/// Reads a merged policy.
fn read_policy(resolved: &Resolved<'_, Tree>) -> Result<Resilience, PolicyFinding> {
    let members = whole(resolved);
    let part = |name: &str| members.get(name).filter(|value| !value.is_null());
    let finding = |code, part: &str, problem: PolicyProblem| PolicyFinding {
        code,
        message: problem.message,
        place: place_of(resolved, part, problem.member),
    };
    let span = |name: &'static str| -> Result<Option<Span>, PolicyFinding> {
        let Some(value) = part(name) else { return Ok(None) };
        let message = match Span::from_value(value) {
            Ok(span) if span == Span::default() => format!("`{name}` must be longer than zero"),
            Ok(span) => return Ok(Some(span)),
            Err(reason) => format!("`{name}`: {reason}"),
        };
        Err(finding(code::BAD_DURATION, name, PolicyProblem { member: "", message }))
    };
    let mode_in = |name: &'static str| -> Result<Option<Mode>, PolicyFinding> {
        let Some(value) = part(name) else { return Ok(None) };
        value.as_str().and_then(mode_of).map(Some).ok_or_else(|| {
            let message =
                format!("`{name}` must be `enforce`, `observe` or `off` (got {})", value.to_json_text());
            finding(code::BAD_CHOICE, name, PolicyProblem { member: "", message })
        })
    };
    let mode = mode_in("mode")?.unwrap_or_default();
    // A part without a mode of its own has that of the whole policy.
    let own_mode = |name: &str| part(name).and_then(|value| value.get("mode")).is_some();
    let mut resilience = Resilience {
        timeout: span("timeout")?,
        timeout_mode: mode_in("timeoutMode")?.unwrap_or(mode),
        attempt_timeout: span("attemptTimeout")?.map(Span::approximate),
        attempt_timeout_mode: mode_in("attemptTimeoutMode")?.unwrap_or(mode),
        ..Resilience::default()
    };
    if let Some(value) = part("retryPolicy") {
        let policy = RetryPolicy::read(value, Spelling::Loom)
            .map_err(|problem| finding(code::BAD_RETRY, "retryPolicy", problem))?;
        resilience.retry = RetrySetting::Fixed(Arc::new(policy));
    }
    if let Some(value) = part("circuitBreaker") {
        let spec = BreakerSpec::from_value(value)
            .map_err(|problem| finding(code::BAD_BREAKER, "circuitBreaker", problem))?;
        resilience.breaker = spec;
    }
    if let Some(value) = part("rateLimit") {
        let spec = RateLimitSpec::from_value(value)
            .map_err(|problem| finding(code::BAD_RATE_LIMIT, "rateLimit", problem))?;
        resilience.rate_limit = spec;
    }
    if let Some(value) = part("bulkhead") {
        let spec = BulkheadSpec::from_value(value)
            .map_err(|problem| finding(code::BAD_BULKHEAD, "bulkhead", problem))?;
        resilience.bulkhead = spec;
    }
    if let Some(value) = part("hedge") {
        let spec =
            HedgeSpec::from_value(value).map_err(|problem| finding(code::BAD_HEDGE, "hedge", problem))?;
        resilience.hedge = spec;
    }
    if let Some(spec) = resilience.breaker.as_mut().filter(|_| !own_mode("circuitBreaker")) {
        spec.mode = mode;
    }
    if let Some(spec) = resilience.rate_limit.as_mut().filter(|_| !own_mode("rateLimit")) {
        spec.mode = mode;
    }
    if let Some(spec) = resilience.bulkhead.as_mut().filter(|_| !own_mode("bulkhead")) {
        spec.mode = mode;
    }
    if let Some(spec) = resilience.hedge.as_mut().filter(|_| !own_mode("hedge")) {
        spec.mode = mode;
    }
    fits(&resilience).map_err(|(part, message)| {
        finding(code::CONTRADICTION, part, PolicyProblem { member: "", message })
    })?;
    Ok(resilience)
}

/// Checks that the parts fit together.
fn fits(resilience: &Resilience) -> Result<(), (&'static str, String)> {
    let shown = |time: Duration| Span::exact(time).to_string();
    if let (Some(attempt), Some(whole)) = (resilience.attempt_timeout, resilience.timeout)
        && attempt > whole.approximate()
    {
        let message =
            format!("`attemptTimeout` must not exceed `timeout`, which is {whole} (got {})", shown(attempt));
        return Err(("attemptTimeout", message));
    }
    if let (Some(hedge), Some(attempt)) = (resilience.hedge, resilience.attempt_timeout)
        && hedge.delay >= attempt
    {
        let message = format!(
            "the `delay` of `hedge` must be shorter than `attemptTimeout`, which is {} (got {}); no copy would be sent",
            shown(attempt),
            shown(hedge.delay)
        );
        return Err(("hedge", message));
    }
    if let (Some(slow), Some(attempt)) = (
        resilience.breaker.as_ref().and_then(|breaker| breaker.slow_calls.as_ref()),
        resilience.attempt_timeout,
    ) && slow.duration > attempt
    {
        let message = format!(
            "the `duration` of `slowCalls` must not exceed `attemptTimeout`, which is {} (got {}); no call would be slow",
            shown(attempt),
            shown(slow.duration)
        );
        return Err(("circuitBreaker", message));
    }
    Ok(())
}

/// The place of a member of a part, or of the part, and whether it is in the overrides.
fn place_of(resolved: &Resolved<'_, Tree>, part: &str, member: &str) -> Option<(Span32, bool)> {
    let whole = format!("/{part}");
    let below = format!("{whole}/");
    let last = format!("/{member}");
    let mut within =
        resolved.values.iter().filter(|(pointer, _)| **pointer == whole || pointer.starts_with(&below));
    let exact = within.clone().find(|(pointer, _)| !member.is_empty() && pointer.ends_with(&last));
    // Of a whole part, the strongest layer is the one that was written last.
    let found =
        exact.or_else(|| within.clone().max_by_key(|(_, value)| value.source)).or_else(|| within.next());
    found.map(|(_, value)| (value.value.place, value.source == Source::Override))
}
