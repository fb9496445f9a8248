//! Reads policies from values: literals when the definition is loaded, computed ones when an action starts.
//!
//! Every contradiction is an error that names the property. Properties that are absent take the defaults of the spelling.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use loom_expression::{Object, Value, ValueRef};

use super::{
    BreakerSpec, BulkheadSpec, ErrorPattern, HedgeSpec, Jitter, Mode, OnUncertain, RETRY_INTERVAL_MAX,
    RateLimitSpec, RateTrip, RetryPolicy, Schedule, Scope, SlowTrip, Window,
};
use crate::{diagnostic::json_type, duration::Span};

/// The spelling of a retry policy, which determines its defaults and ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Spelling {
    /// WDL: `type`, `count` (of retries), `interval` between PT5S and P1D.
    #[default]
    Wdl,
    /// WDL in a stateless workflow: `interval` between PT1S and PT1M.
    WdlStateless,
    /// The Loom spelling: `maxAttempts`, `initialDelay` …; the properties of WDL are accepted, too, with any interval up to
    /// P1D.
    Loom,
}

/// A problem in a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyProblem {
    /// The property it is about; empty for the policy as a whole.
    pub member: &'static str,
    /// What is wrong, including the name of the property.
    pub message: String,
}

type Reading<T> = Result<T, PolicyProblem>;

fn problem<T>(member: &'static str, message: impl Into<String>) -> Reading<T> {
    Err(PolicyProblem { member, message: message.into() })
}

/// The retries of WDL's default policy.
const WDL_DEFAULT_COUNT: u32 = 4;
/// The most retries in WDL.
const RETRY_COUNT_MAX: i64 = 90;
/// The most attempts in the Loom spelling.
const ATTEMPTS_MAX: i64 = 1_000;

impl RetryPolicy {
    /// One attempt, no retry.
    pub const NONE: RetryPolicy = RetryPolicy {
        max_attempts: 1,
        schedule: Schedule::Fixed(Duration::ZERO),
        retryable: None,
        mode: Mode::Enforce,
    };

    /// The default of WDL for requests: four retries, exponential from PT7S, between PT5S and PT1H.
    pub const fn wdl_default() -> RetryPolicy {
        RetryPolicy {
            max_attempts: WDL_DEFAULT_COUNT + 1,
            schedule: Schedule::Band {
                interval: Duration::from_secs(7),
                minimum: Duration::from_secs(5),
                maximum: Duration::from_hours(1),
            },
            retryable: None,
            mode: Mode::Enforce,
        }
    }

    /// The default of the `Retry` action: three retries after one second to one minute, with jitter.
    pub const fn retry_action_default() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 4,
            schedule: Schedule::Exponential {
                initial: Duration::from_secs(1),
                maximum: Duration::from_mins(1),
                multiplier: 2.0,
                jitter: Jitter::Equal,
            },
            retryable: None,
            mode: Mode::Enforce,
        }
    }

    /// Reads a policy with the properties of either spelling, and the ranges and defaults of `spelling`.
    ///
    /// # Errors
    /// [`PolicyProblem`] if the policy contradicts itself or a value is out of range.
    pub fn read(value: &Value, spelling: Spelling) -> Result<RetryPolicy, PolicyProblem> {
        let fields = Fields::of(value, "retryPolicy")?;
        let loom = ["maxAttempts", "initialDelay", "maxDelay", "backoffMultiplier", "jitter", "backoff"]
            .into_iter()
            .find(|name| fields.has(name));
        let wdl = ["type", "count", "interval", "minimumInterval", "maximumInterval", "maxInterval"]
            .into_iter()
            .find(|name| fields.has(name));
        let mode = fields.mode()?;
        let policy = match (loom, wdl) {
            (Some(loom), Some(wdl)) => {
                problem(loom, format!("`{loom}` and `{wdl}` belong to different spellings; use one spelling"))
            }
            (Some(_), None) => loom_retry(&fields),
            (None, Some(_)) => wdl_retry(&fields, spelling),
            (None, None) if spelling == Spelling::Loom => loom_retry(&fields),
            (None, None) => Ok(RetryPolicy::wdl_default()),
        };
        policy.map(|policy| RetryPolicy { mode, ..policy })
    }
}

fn wdl_retry(fields: &Fields<'_>, spelling: Spelling) -> Reading<RetryPolicy> {
    let kind = fields.text("type")?.unwrap_or(if fields.has("interval") { "fixed" } else { "default" });
    let retryable = fields.patterns("retryableErrors")?;
    let refuse_members = |names: &[&'static str]| match names.iter().find(|name| fields.has(name)) {
        Some(name) => problem(name, format!("`{name}` is not allowed in a retry policy of type `{kind}`")),
        None => Ok(()),
    };
    let all = ["count", "interval", "minimumInterval", "maximumInterval", "maxInterval"];
    if kind.eq_ignore_ascii_case("none") {
        refuse_members(&all)?;
        return Ok(RetryPolicy { retryable, ..RetryPolicy::NONE });
    }
    if kind.eq_ignore_ascii_case("default") {
        refuse_members(&all)?;
        return Ok(RetryPolicy { retryable, ..RetryPolicy::wdl_default() });
    }
    let exponential = kind.eq_ignore_ascii_case("exponential");
    if !exponential && !kind.eq_ignore_ascii_case("fixed") {
        return problem(
            "type",
            format!(
                "the type of a retry policy must be `none`, `fixed`, `exponential` or `default` (got `{kind}`)"
            ),
        );
    }
    let day = RETRY_INTERVAL_MAX.exact;
    let (shortest, longest) = match spelling {
        Spelling::Wdl => (Duration::from_secs(5), day),
        Spelling::WdlStateless => (Duration::from_secs(1), Duration::from_mins(1)),
        Spelling::Loom => (Duration::ZERO, day),
    };
    let within = |name: &'static str, found: Option<Duration>| match found {
        Some(found) if found < shortest || found > longest => problem(
            name,
            format!(
                "`{name}` must be between {} and {} (got {})",
                Span::exact(shortest),
                Span::exact(longest),
                Span::exact(found)
            ),
        ),
        other => Ok(other),
    };
    let count = match fields.integer("count", 1, RETRY_COUNT_MAX)? {
        Some(count) => count as u32,
        None if spelling == Spelling::Loom => 3,
        None => WDL_DEFAULT_COUNT,
    };
    let interval = within("interval", fields.duration("interval")?)?;
    if !exponential {
        refuse_members(&["minimumInterval", "maximumInterval", "maxInterval"])?;
        let Some(interval) = interval else {
            return problem("interval", "a retry policy of type `fixed` needs an `interval`");
        };
        return Ok(RetryPolicy {
            max_attempts: count + 1,
            schedule: Schedule::Fixed(interval),
            retryable,
            mode: Mode::Enforce,
        });
    }
    let minimum = within("minimumInterval", fields.duration("minimumInterval")?)?;
    let maximum = match fields.duration("maximumInterval")? {
        Some(found) => within("maximumInterval", Some(found))?,
        None => within("maxInterval", fields.duration("maxInterval")?)?,
    };
    let default_interval =
        if spelling == Spelling::Loom { Duration::from_secs(1) } else { Duration::from_secs(7) };
    let interval = interval.unwrap_or(default_interval.clamp(shortest, longest));
    let minimum = minimum.unwrap_or(if spelling == Spelling::Loom { Duration::ZERO } else { shortest });
    let maximum = maximum.unwrap_or_else(|| longest.max(minimum));
    if minimum > maximum {
        return problem(
            "minimumInterval",
            format!(
                "`minimumInterval` must not exceed `maximumInterval`, which is {} (got {})",
                Span::exact(maximum),
                Span::exact(minimum)
            ),
        );
    }
    Ok(RetryPolicy {
        max_attempts: count + 1,
        schedule: Schedule::Band { interval, minimum, maximum },
        retryable,
        mode: Mode::Enforce,
    })
}

fn loom_retry(fields: &Fields<'_>) -> Reading<RetryPolicy> {
    let max_attempts = fields.integer("maxAttempts", 1, ATTEMPTS_MAX)?.unwrap_or(3) as u32;
    let initial = fields.duration("initialDelay")?.unwrap_or(Duration::from_secs(1));
    let maximum = match fields.duration("maxDelay")? {
        Some(maximum) if maximum < initial => {
            return problem(
                "maxDelay",
                format!(
                    "`maxDelay` must be at least `initialDelay`, which is {} (got {})",
                    Span::exact(initial),
                    Span::exact(maximum)
                ),
            );
        }
        Some(maximum) => maximum,
        None => Duration::from_secs(30).max(initial),
    };
    let multiplier = fields.number("backoffMultiplier")?.unwrap_or(2.0);
    if !(1.0..=100.0).contains(&multiplier) {
        return problem(
            "backoffMultiplier",
            format!("`backoffMultiplier` must be between 1 and 100 (got {multiplier})"),
        );
    }
    let jitter = match fields.value("jitter").map(Value::as_ref) {
        None | Some(ValueRef::Null | ValueRef::Bool(false)) => Jitter::None,
        Some(ValueRef::Bool(true)) => Jitter::Full,
        Some(ValueRef::String(text)) if text.eq_ignore_ascii_case("none") => Jitter::None,
        Some(ValueRef::String(text)) if text.eq_ignore_ascii_case("full") => Jitter::Full,
        Some(ValueRef::String(text)) if text.eq_ignore_ascii_case("equal") => Jitter::Equal,
        Some(_) => return problem("jitter", "`jitter` must be true, false, `none`, `full` or `equal`"),
    };
    Ok(RetryPolicy {
        max_attempts,
        schedule: Schedule::Exponential { initial, maximum, multiplier, jitter },
        retryable: fields.patterns("retryableErrors")?,
        mode: Mode::Enforce,
    })
}

impl ErrorPattern {
    /// Reads one entry of `retryableErrors`: a status such as `503`, a class such as `5xx`, an error code, or a part of a
    /// message.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn from_value(value: &Value) -> Result<ErrorPattern, String> {
        let status = |number: i64| match u16::try_from(number) {
            Ok(status @ 100..=599) => Ok(ErrorPattern::Status(status)),
            _ => Err(format!("an HTTP status must be between 100 and 599 (got {number})")),
        };
        if let Some(number) = value.as_i64() {
            return status(number);
        }
        let Some(text) = value.as_str().map(str::trim) else {
            return Err(format!(
                "an entry of `retryableErrors` must be a string or a status, found {}",
                json_type(value)
            ));
        };
        if text.is_empty() {
            return Err(
                "an entry of `retryableErrors` must not be empty; it would match every error".to_owned()
            );
        }
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return status(text.parse().unwrap_or_default());
        }
        let bytes = text.as_bytes();
        if bytes.len() == 3
            && (b'1'..=b'5').contains(&bytes[0])
            && bytes[1..].iter().all(|byte| byte.eq_ignore_ascii_case(&b'x'))
        {
            return Ok(ErrorPattern::StatusClass(bytes[0] - b'0'));
        }
        Ok(ErrorPattern::Text(Arc::from(text)))
    }
}

impl BreakerSpec {
    /// Reads a `circuitBreaker`; `None` if it is disabled.
    ///
    /// # Errors
    /// [`PolicyProblem`] if it contradicts itself or a value is out of range.
    pub fn from_value(value: &Value) -> Result<Option<BreakerSpec>, PolicyProblem> {
        if value.as_bool() == Some(false) {
            return Ok(None);
        }
        let empty = Value::from(Object::new());
        let fields = if value.as_bool() == Some(true) {
            Fields::of(&empty, "circuitBreaker")?
        } else {
            Fields::of(value, "circuitBreaker")?
        };
        let enabled = fields.boolean("enabled")?.unwrap_or(true);
        let success = fields.count("successThreshold")?;
        let probes = fields.count("halfOpenRequests")?;
        let (success, probes) = match (success, probes) {
            (Some(success), Some(probes)) if success > probes => {
                return problem(
                    "successThreshold",
                    format!(
                        "`successThreshold` must not exceed `halfOpenRequests`, which is {probes} (got {success}); \
                         the circuit would never close again"
                    ),
                );
            }
            (success, probes) => {
                let success =
                    success.unwrap_or_else(|| at_least_one(2).min(probes.unwrap_or(NonZeroU32::MAX)));
                (success, probes.unwrap_or_else(|| at_least_one(3).max(success)))
            }
        };
        let timeout = match fields.duration("timeout")? {
            Some(Duration::ZERO) => {
                return problem(
                    "timeout",
                    "`timeout` must be longer than zero; the circuit would never stay open",
                );
            }
            found => found.unwrap_or(Duration::from_mins(1)),
        };
        let failure_rate = match fields.value("failureRate") {
            None => None,
            Some(value) => Some(rate_trip(value, &fields)?),
        };
        let slow_calls = match fields.value("slowCalls") {
            None => None,
            Some(value) => Some(slow_trip(value)?),
        };
        let spec = BreakerSpec {
            name: fields.name("name")?,
            failure_threshold: fields.count("failureThreshold")?.unwrap_or(at_least_one(5)),
            success_threshold: success,
            timeout,
            half_open_requests: probes,
            failure_rate,
            slow_calls,
            mode: fields.mode()?,
            scope: fields.scope()?,
        };
        spec.check()?;
        Ok(enabled.then_some(spec))
    }
}

/// Reads `failureRate`: a number, or `{threshold, minimumCalls, window}`.
fn rate_trip(value: &Value, breaker: &Fields<'_>) -> Reading<RateTrip> {
    let own;
    let (threshold, fields) = if let Some(share) = number(value) {
        (share, breaker)
    } else {
        own = Fields::of(value, "failureRate")?;
        match own.number("threshold")? {
            Some(threshold) => (threshold, &own),
            None => {
                return problem(
                    "failureRate",
                    "`failureRate` needs a `threshold` greater than 0 and at most 1",
                );
            }
        }
    };
    share("failureRate", threshold)?;
    let window = match (fields.value("window"), fields.count("windowSize")?) {
        (None, size) => Window::Count(size.unwrap_or(at_least_one(100))),
        (Some(_), Some(_)) => {
            return problem("window", "`window` and `windowSize` both set the window; keep one of them");
        }
        (Some(value), None) => match value.as_i64() {
            Some(count) => match u32::try_from(count).ok().and_then(NonZeroU32::new) {
                Some(count) => Window::Count(count),
                None => {
                    return problem("window", "`window` must be a positive number of calls, or a duration");
                }
            },
            None => match Span::from_value(value) {
                Ok(span) if span.approximate() > Duration::ZERO => Window::Time(span.approximate()),
                Ok(_) => return problem("window", "`window` must be longer than zero"),
                Err(reason) => return problem("window", format!("`window`: {reason}")),
            },
        },
    };
    let minimum_calls = fields.count("minimumCalls")?;
    let minimum_calls = match (minimum_calls, window) {
        (Some(minimum), Window::Count(size)) if minimum > size => {
            return problem(
                "minimumCalls",
                format!(
                    "`minimumCalls` must not exceed the window of {size} calls (got {minimum}); the circuit would never open"
                ),
            );
        }
        (Some(minimum), _) => minimum,
        (None, Window::Count(size)) => at_least_one(10).min(size),
        (None, Window::Time(_)) => at_least_one(10),
    };
    Ok(RateTrip { threshold, minimum_calls, window })
}

fn slow_trip(value: &Value) -> Reading<SlowTrip> {
    let fields = Fields::of(value, "slowCalls")?;
    let duration = match fields.duration("duration")? {
        None | Some(Duration::ZERO) => {
            return problem(
                "slowCalls",
                "`slowCalls` needs a `duration` longer than zero, from which on a call is slow",
            );
        }
        Some(duration) => duration,
    };
    let threshold = fields.number("threshold")?.unwrap_or(1.0);
    share("slowCalls", threshold)?;
    Ok(SlowTrip { duration, threshold })
}

fn share(member: &'static str, value: f64) -> Reading<()> {
    if value > 0.0 && value <= 1.0 {
        Ok(())
    } else {
        problem(
            member,
            format!("the threshold of `{member}` must be greater than 0 and at most 1 (got {value})"),
        )
    }
}

impl RateLimitSpec {
    /// Reads a `rateLimit`; `None` if it is disabled.
    ///
    /// # Errors
    /// [`PolicyProblem`] if it contradicts itself or a value is out of range.
    pub fn from_value(value: &Value) -> Result<Option<RateLimitSpec>, PolicyProblem> {
        if value.as_bool() == Some(false) {
            return Ok(None);
        }
        let fields = Fields::of(value, "rateLimit")?;
        let enabled = fields.boolean("enabled")?.unwrap_or(true);
        let Some(requests) = fields.count("requests")? else {
            return problem("requests", "a `rateLimit` needs `requests`, the calls allowed per period");
        };
        let per = match fields.value("per") {
            None => Duration::from_secs(1),
            Some(value) => period(value)?,
        };
        let burst = fields.count("burst")?;
        let max_wait = fields.duration("maxWait")?;
        let name = fields.name("name")?;
        let learn = fields.boolean("learn")?.unwrap_or(true);
        let (mode, scope) = (fields.mode()?, fields.scope()?);
        let spec = RateLimitSpec { name, requests, per, burst, max_wait, learn, mode, scope };
        spec.check()?;
        Ok(enabled.then_some(spec))
    }
}

fn period(value: &Value) -> Reading<Duration> {
    let named = value.as_str().and_then(|text| match text.to_ascii_lowercase().as_str() {
        "second" => Some(1),
        "minute" => Some(60),
        "hour" => Some(3_600),
        "day" => Some(86_400),
        _ => None,
    });
    if let Some(seconds) = named {
        return Ok(Duration::from_secs(seconds));
    }
    match Span::from_value(value) {
        Ok(span) if span.approximate() > Duration::ZERO => Ok(span.approximate()),
        Ok(_) => problem("per", "`per` must be longer than zero"),
        Err(_) => problem("per", "`per` must be `second`, `minute`, `hour`, `day` or a duration"),
    }
}

impl BulkheadSpec {
    /// Reads a `bulkhead`; `None` if it is disabled.
    ///
    /// # Errors
    /// [`PolicyProblem`] if a value is out of range.
    pub fn from_value(value: &Value) -> Result<Option<BulkheadSpec>, PolicyProblem> {
        if value.as_bool() == Some(false) {
            return Ok(None);
        }
        let fields = Fields::of(value, "bulkhead")?;
        let enabled = fields.boolean("enabled")?.unwrap_or(true);
        let Some(max_concurrent) = fields.count("maxConcurrent")? else {
            return problem("maxConcurrent", "a `bulkhead` needs `maxConcurrent`, the most calls in flight");
        };
        let max_queued = fields.integer("maxQueued", 0, i64::from(u32::MAX))?.unwrap_or(0) as u32;
        let name = fields.name("name")?;
        let spec = BulkheadSpec { name, max_concurrent, max_queued, mode: fields.mode()? };
        spec.check()?;
        Ok(enabled.then_some(spec))
    }
}

/// The most copies of a hedged call, including the first.
const HEDGED_MAX: i64 = 11;

impl HedgeSpec {
    /// Reads a `hedge`; `None` if it is disabled.
    ///
    /// # Errors
    /// [`PolicyProblem`] if a value is out of range.
    pub fn from_value(value: &Value) -> Result<Option<HedgeSpec>, PolicyProblem> {
        if value.as_bool() == Some(false) {
            return Ok(None);
        }
        let fields = Fields::of(value, "hedge")?;
        let enabled = fields.boolean("enabled")?.unwrap_or(true);
        let Some(delay) = fields.duration("delay")? else {
            return problem(
                "delay",
                "a `hedge` needs a `delay`, after which another copy of the call is sent",
            );
        };
        let max_attempts = fields.integer("maxAttempts", 2, HEDGED_MAX)?.unwrap_or(2) as u32;
        let idempotent = fields.boolean("idempotent")?.unwrap_or(false);
        let spec = HedgeSpec { delay, max_attempts, idempotent, mode: fields.mode()? };
        spec.check()?;
        Ok(enabled.then_some(spec))
    }
}

/// Parses a `mode`, ignoring case.
pub(crate) fn mode_of(text: &str) -> Option<Mode> {
    match text.to_ascii_lowercase().as_str() {
        "enforce" => Some(Mode::Enforce),
        "observe" => Some(Mode::Observe),
        "off" => Some(Mode::Off),
        _ => None,
    }
}

impl OnUncertain {
    /// Parses `onUncertain`, ignoring case.
    pub fn parse(text: &str) -> Option<OnUncertain> {
        match text.to_ascii_lowercase().as_str() {
            "retry" => Some(OnUncertain::Retry),
            "fail" => Some(OnUncertain::Fail),
            "ask" => Some(OnUncertain::Ask),
            _ => None,
        }
    }
}

fn at_least_one(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

fn number(value: &Value) -> Option<f64> {
    match value.as_ref() {
        ValueRef::Int(value) => Some(value as f64),
        ValueRef::Float(value) => Some(value),
        ValueRef::Decimal(_) => value.to_json_text().parse().ok(),
        _ => None,
    }
}

/// Typed access to the properties of a policy object.
struct Fields<'a> {
    object: &'a Object,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, what: &'static str) -> Reading<Fields<'a>> {
        match value.as_object() {
            Some(object) => Ok(Fields { object }),
            None => problem("", format!("`{what}` must be an object, found {}", json_type(value))),
        }
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get_ignore_case(name).filter(|value| !value.is_null())
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn text(&self, name: &'static str) -> Reading<Option<&'a str>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => problem(name, format!("`{name}` must be a string, found {}", json_type(value))),
            },
        }
    }

    fn name(&self, name: &'static str) -> Reading<Option<Arc<str>>> {
        match self.text(name)?.map(str::trim) {
            Some("") => problem(name, format!("`{name}` must not be empty")),
            found => Ok(found.map(Arc::from)),
        }
    }

    fn mode(&self) -> Reading<Mode> {
        match self.text("mode")? {
            None => Ok(Mode::Enforce),
            Some(text) => match mode_of(text) {
                Some(mode) => Ok(mode),
                None => {
                    problem("mode", format!("`mode` must be `enforce`, `observe` or `off` (got `{text}`)"))
                }
            },
        }
    }

    fn scope(&self) -> Reading<Scope> {
        match self.text("scope")?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("cluster") => Ok(Scope::Cluster),
            Some("node") => Ok(Scope::Node),
            Some(text) => problem("scope", format!("`scope` must be `cluster` or `node` (got `{text}`)")),
        }
    }

    fn boolean(&self, name: &'static str) -> Reading<Option<bool>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_bool() {
                Some(found) => Ok(Some(found)),
                None => problem(name, format!("`{name}` must be a boolean, found {}", json_type(value))),
            },
        }
    }

    fn number(&self, name: &'static str) -> Reading<Option<f64>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match number(value) {
                Some(found) => Ok(Some(found)),
                None => problem(name, format!("`{name}` must be a number, found {}", json_type(value))),
            },
        }
    }

    /// An integer between `low` and `high`. A string of digits is accepted, because expressions often return one.
    fn integer(&self, name: &'static str, low: i64, high: i64) -> Reading<Option<i64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let found = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match found {
            Some(found) if (low..=high).contains(&found) => Ok(Some(found)),
            Some(found) => problem(name, format!("`{name}` must be between {low} and {high} (got {found})")),
            None => problem(name, format!("`{name}` must be an integer, found {}", json_type(value))),
        }
    }

    fn count(&self, name: &'static str) -> Reading<Option<NonZeroU32>> {
        let found = self.integer(name, 1, i64::from(u32::MAX))?;
        Ok(found.and_then(|found| NonZeroU32::new(found as u32)))
    }

    fn duration(&self, name: &'static str) -> Reading<Option<Duration>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match Span::from_value(value) {
                Ok(span) => Ok(Some(span.approximate())),
                Err(reason) => problem(name, format!("`{name}`: {reason}")),
            },
        }
    }

    fn patterns(&self, name: &'static str) -> Reading<Option<Vec<ErrorPattern>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let Some(items) = value.as_array() else {
            return problem(name, format!("`{name}` must be an array, found {}", json_type(value)));
        };
        let patterns: Result<Vec<_>, String> = items.iter().map(ErrorPattern::from_value).collect();
        patterns.map(Some).or_else(|reason| problem(name, reason))
    }
}
