//! Arithmetic on timestamps: adding the definition's durations, and the time at which a `Wait` ends.

use std::{sync::LazyLock, time::Duration};

use loom_definition::duration::Span;
use loom_expression::{Context, Lookup, NoNames, Options, Template, Timestamp, Value};
use loom_store::UnixMillis;

/// `from` plus `span`; months are calendar months.
pub(crate) fn add(from: Timestamp, span: Span) -> Timestamp {
    let from = if span.months == 0 { from } else { add_months(from, span.months) };
    after(from, span.exact)
}

/// `from` plus a plain duration, saturating at the latest timestamp.
pub(crate) fn after(from: Timestamp, wait: Duration) -> Timestamp {
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    let fraction = i64::from(wait.subsec_nanos().div_ceil(100));
    let ticks = seconds.saturating_mul(Timestamp::TICKS_PER_SECOND).saturating_add(fraction);
    Timestamp::from_ticks(from.ticks().saturating_add(ticks)).unwrap_or(Timestamp::MAX)
}

fn add_months(from: Timestamp, months: u32) -> Timestamp {
    let moved = shift(&Value::from(from.to_string()), &Value::from(i64::from(months)), &Value::from("Month"));
    moved.ok().and_then(|text| parse(&text).ok()).unwrap_or(Timestamp::MAX)
}

/// `addToTime(base, count, unit)`.
pub(crate) fn shift(base: &Value, count: &Value, unit: &Value) -> Result<Value, loom_expression::Error> {
    static SHIFT: LazyLock<Template> =
        LazyLock::new(|| compile("@addToTime(item()[0], item()[1], item()[2])"));
    SHIFT.evaluate(&Arguments(Value::from(vec![base.clone(), count.clone(), unit.clone()])))
}

/// Parses a timestamp in any of the language's formats; UTC if it has no time zone.
pub(crate) fn parse(text: &Value) -> Result<Timestamp, loom_expression::Error> {
    static TICKS: LazyLock<Template> = LazyLock::new(|| compile("@ticks(item()[0])"));
    let ticks = TICKS.evaluate(&Arguments(Value::from(vec![text.clone()])))?;
    Ok(ticks.as_i64().and_then(Timestamp::from_ticks).unwrap_or(Timestamp::MAX))
}

/// The duration from `earlier` to `later`; zero if `later` is earlier.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let ticks = u64::try_from(later.ticks() - earlier.ticks()).unwrap_or(0);
    Duration::from_nanos(ticks.saturating_mul(100))
}

pub(crate) fn compile(text: &str) -> Template {
    Template::compile_str(text, &NoNames, &Options::default()).expect("a constant expression is well formed")
}

/// A context whose `item()` is the given value.
pub(crate) struct Arguments(pub(crate) Value);

impl Context for Arguments {
    fn item(&self) -> Lookup {
        Ok(self.0.clone())
    }
}

/// A time as the store keeps it.
pub(crate) fn millis(at: Timestamp) -> UnixMillis {
    UnixMillis(at.unix_millis())
}
