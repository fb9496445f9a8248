//! What an evaluation may ask from outside: names, records, the time, random numbers, secrets.
//!
//! The engine implements [`Context`] over a run's state; [`crate::RecordedContext`] over plain JSON.

use std::{fmt, sync::Arc};

use crate::{Budget, Value, value::fold_eq};

/// A name in a call such as `variables('n')`, with the index it was resolved to at compile time, if it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The name as written.
    pub text: &'a str,
    /// What [`Names::slot`] answered for it, if the name was a literal.
    pub slot: Option<u32>,
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, slot: None }
    }
}

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A parameter of the workflow.
    Parameter,
    /// A variable of the run.
    Variable,
    /// An action, blocks included.
    Action,
    /// A Foreach or Until, in `items` and `iterationIndexes`.
    Loop,
}

/// Resolves names while templates are compiled, so that running never searches for one.
pub trait Names {
    /// The index of the name, or `None` when there is no such name (which is not an error here).
    fn slot(&self, kind: NameKind, name: &str) -> Option<u32>;
}

/// Resolves nothing; contexts then go by the text of a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn slot(&self, _: NameKind, _: &str) -> Option<u32> {
        None
    }
}

/// What a look-up answers.
pub type Lookup = Result<Value, LookupError>;

/// Why a look-up has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// There is nothing of that name.
    Unknown {
        /// The names that exist, for the message; may be cut short.
        available: Vec<Arc<str>>,
    },
    /// The action exists but has no result yet.
    NotRun,
    /// Not in this place.
    NotAvailable {
        /// Why, as a part of a sentence after "because".
        why: String,
    },
    /// The name stands for several records, none of which is meant more than the others.
    Ambiguous {
        /// Why, as a part of a sentence after "because".
        why: String,
    },
    /// Something outside was asked and failed.
    Failed {
        /// What it said. Must not contain a secret.
        message: String,
    },
}

impl LookupError {
    /// The answer of a context that has no such thing.
    pub fn not_available() -> Self {
        Self::NotAvailable { why: "it is not available here".to_owned() }
    }
}

/// The surroundings of an evaluation. Every method has a body, which answers that there is no such thing.
#[expect(clippy::missing_errors_doc, reason = "each answers with `LookupError`, whose variants say why")]
pub trait Context {
    /// What evaluations with this context may cost together. Without one, each has a budget of its own.
    fn budget(&self) -> Option<&Budget> {
        None
    }

    /// `parameters('name')`.
    fn parameter(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `variables('name')`.
    fn variable(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `actions('name')`: the whole record.
    fn action(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `outputs('name')`: the record's outputs, null when it has none.
    fn action_outputs(&self, name: Name<'_>) -> Lookup {
        Ok(self.action(name)?.get("outputs").cloned().unwrap_or_default())
    }

    /// `body('name')`: `body` of the outputs, null when there is none.
    fn action_body(&self, name: Name<'_>) -> Lookup {
        Ok(self.action_outputs(name)?.get("body").cloned().unwrap_or_default())
    }

    /// `trigger()`: the whole record.
    fn trigger(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `triggerOutputs()`: the record's outputs, null when it has none.
    fn trigger_outputs(&self) -> Lookup {
        Ok(self.trigger()?.get("outputs").cloned().unwrap_or_default())
    }

    /// `triggerBody()`: `body` of the outputs, null when there is none.
    fn trigger_body(&self) -> Lookup {
        Ok(self.trigger_outputs()?.get("body").cloned().unwrap_or_default())
    }

    /// `action()`: the record of the action that is being worked on.
    fn current_action(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `item()`: the item at hand of the innermost Foreach, or of Query, Select, Table.
    fn item(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `items('Loop')`: the item at hand of the named Foreach.
    fn items(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `iterationIndexes('Until')`: the index of the iteration at hand, from 0.
    fn iteration_index(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `result('Block')`: the records of a block's actions.
    fn result(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `workflow()`.
    fn workflow(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `listCallbackUrl()`.
    fn callback_url(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `appsetting('name')`.
    fn app_setting(&self, _: &str) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `agentParameters('name')`.
    fn agent_parameter(&self, _: &str) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `secret('name')`. Whatever is answered here becomes secret.
    fn secret(&self, _: &str) -> Lookup {
        Err(LookupError::not_available())
    }

    /// `memory('key')` and its kin; `operation` is the name of the function in lower case.
    fn memory(&self, _operation: &str, _arguments: &[Value]) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The time now, for `utcNow()` and its kin. A context without a clock answers the Unix epoch.
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// 64 random bits, for `rand()`. A context without randomness answers zero.
    fn random_u64(&self) -> u64 {
        0
    }

    /// A new random id, for `guid()`; version and variant bits are set by the function.
    fn guid(&self) -> u128 {
        (u128::from(self.random_u64()) << 64) | u128::from(self.random_u64())
    }
}

/// A point in time: ticks of 100 ns since 0001-01-01T00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Ticks in a second.
    pub const TICKS_PER_SECOND: i64 = 10_000_000;
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(621_355_968_000_000_000);
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-31T23:59:59.9999999Z.
    pub const MAX: Self = Self(3_155_378_975_999_999_999);

    /// From ticks since the year 1; `None` outside [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    pub fn from_ticks(ticks: i64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&ticks).then_some(Self(ticks))
    }

    /// Ticks since the year 1.
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// From nanoseconds since 1970, rounded down to ticks; clamped to the range.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let ticks = nanos.div_euclid(100) + i128::from(Self::UNIX_EPOCH.0);
        Self(ticks.clamp(i128::from(Self::MIN.0), i128::from(Self::MAX.0)) as i64)
    }

    /// From milliseconds since 1970; clamped to the range.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self::from_unix_nanos(i128::from(millis) * 1_000_000)
    }

    /// Nanoseconds since 1970.
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.0 - Self::UNIX_EPOCH.0) * 100
    }

    /// Milliseconds since 1970, rounded down.
    pub fn unix_millis(self) -> i64 {
        (self.0 - Self::UNIX_EPOCH.0).div_euclid(10_000)
    }
}

/// A string that is not a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a timestamp, such as 2026-11-24T17:00:00Z")]
pub struct InvalidTimestamp;

/// In all the forms that the functions of the language read; without a zone it is UTC.
impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        crate::time::parse_utc(text).ok_or(InvalidTimestamp)
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Self::from_unix_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)),
            Err(before) => {
                Self::from_unix_nanos(-i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX))
            }
        }
    }
}

/// `yyyy-MM-ddTHH:mm:ss.fffffffZ`, as `utcNow()` prints it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / (86_400 * Self::TICKS_PER_SECOND));
        let in_day = self.0 % (86_400 * Self::TICKS_PER_SECOND);
        let (seconds, fraction) = (in_day / Self::TICKS_PER_SECOND, in_day % Self::TICKS_PER_SECOND);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:07}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 0001-01-01.
///
/// The algorithm is Howard Hinnant's `civil_from_days`, with another day zero.
pub(crate) fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Days since 0000-03-01, so that a leap day ends its year.
    let days = days + 306;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 0001-01-01 of a date; the inverse of [`civil_from_days`].
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 306
}

/// Whether two names of the language are the same: case does not count.
pub fn same_name(left: &str, right: &str) -> bool {
    fold_eq(left, right)
}
