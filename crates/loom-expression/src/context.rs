//! `Context`: what an evaluation reads from its surroundings: names, records, the time, random numbers, secrets.
//!
//! The engine implements [`Context`] for the state of a run, [`crate::RecordedContext`] implements it for JSON.

use std::{fmt, sync::Arc};

use crate::{Budget, Value, value::fold_eq};

/// A name in a call such as `variables('n')`, with the index that it was resolved to at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The name as written.
    pub text: &'a str,
    /// What [`Names::slot`] returned for the name, if it is a literal.
    pub slot: Option<u32>,
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, slot: None }
    }
}

/// The kind of thing that a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A parameter of the workflow.
    Parameter,
    /// A variable of the run.
    Variable,
    /// An action, including scopes and loops.
    Action,
    /// A Foreach or Until loop, in `items` and `iterationIndexes`.
    Loop,
}

/// Resolves names to indexes at compile time, so that evaluation does not search for them.
pub trait Names {
    /// The index of a name, or `None` if there is no such name. An unknown name is not a compile error.
    fn slot(&self, kind: NameKind, name: &str) -> Option<u32>;
}

/// Resolves no names; contexts then look them up by their text.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn slot(&self, _: NameKind, _: &str) -> Option<u32> {
        None
    }
}

/// The result of looking up a name.
pub type Lookup = Result<Value, LookupError>;

/// Why a look-up failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// There is nothing with that name.
    Unknown {
        /// The existing names, for the message. May be incomplete.
        available: Vec<Arc<str>>,
    },
    /// The action exists, but has no result yet.
    NotRun,
    /// The function is not available where the expression is.
    NotAvailable {
        /// Why, as a clause that follows "because".
        why: String,
    },
    /// The name refers to several records, and nothing says which one is meant.
    Ambiguous {
        /// Why, as a clause that follows "because".
        why: String,
    },
    /// An external source, such as a secret store, failed.
    Failed {
        /// Its error message. Must not contain a secret.
        message: String,
    },
}

/// What a function expects a key of shared memory to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryForm {
    /// Anything: `memory()`.
    Any,
    /// A list, as an array: `memoryList()`.
    List,
    /// A hash, as an object: `memoryHash()`.
    Hash,
}

impl LookupError {
    /// The error of a context that does not support the look-up.
    pub fn not_available() -> Self {
        Self::NotAvailable { why: "it is not available here".to_owned() }
    }
}

/// The surroundings of an evaluation. Every method has a default, which reports that the look-up is not available.
#[expect(clippy::missing_errors_doc, reason = "all of them return `LookupError`, whose variants say why")]
pub trait Context {
    /// The budget that all evaluations with this context share. Without one, each has a budget of its own.
    fn budget(&self) -> Option<&Budget> {
        None
    }

    /// The result of `parameters('name')`.
    fn parameter(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `variables('name')`.
    fn variable(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `actions('name')`: the whole record.
    fn action(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `outputs('name')`: the record's outputs, or null if it has none.
    fn action_outputs(&self, name: Name<'_>) -> Lookup {
        Ok(self.action(name)?.get("outputs").cloned().unwrap_or_default())
    }

    /// The result of `body('name')`: the `body` of the outputs, or null if there is none.
    fn action_body(&self, name: Name<'_>) -> Lookup {
        Ok(self.action_outputs(name)?.get("body").cloned().unwrap_or_default())
    }

    /// The result of `trigger()`: the whole record.
    fn trigger(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `triggerOutputs()`: the record's outputs, or null if it has none.
    fn trigger_outputs(&self) -> Lookup {
        Ok(self.trigger()?.get("outputs").cloned().unwrap_or_default())
    }

    /// The result of `triggerBody()`: the `body` of the outputs, or null if there is none.
    fn trigger_body(&self) -> Lookup {
        Ok(self.trigger_outputs()?.get("body").cloned().unwrap_or_default())
    }

    /// The result of `action()`: the record of the current action.
    fn current_action(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `item()`: the current item of the innermost Foreach loop, or of a Query, Select or Table action.
    fn item(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `items('Loop')`: the current item of the named Foreach loop.
    fn items(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `iterationIndexes('Until')`: the index of the current iteration, starting at 0.
    fn iteration_index(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `result('Block')`: the records of the actions directly inside a block.
    fn result(&self, _: Name<'_>) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `workflow()`.
    fn workflow(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `listCallbackUrl()`.
    fn callback_url(&self) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `appsetting('name')`.
    fn app_setting(&self, _: &str) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `agentParameters('name')`.
    fn agent_parameter(&self, _: &str) -> Lookup {
        Err(LookupError::not_available())
    }

    /// The result of `secret('name')`, or of `secret('name', version)` as `name@version`. The returned value is labelled
    /// secret.
    fn secret(&self, _: &str) -> Lookup {
        Err(LookupError::not_available())
    }

    /// Whether `declassify()` may remove the label of a value.
    ///
    /// # Errors
    /// Why it may not.
    fn declassify(&self, _: &Value) -> Result<(), LookupError> {
        Err(LookupError::not_available())
    }

    /// What the key at an address of shared memory holds, for `memory('namespace/key')` and the other memory functions;
    /// `None` when it is absent. Fails when the key does not have the form.
    fn memory(&self, _address: &str, _form: MemoryForm) -> Result<Option<Value>, LookupError> {
        Err(LookupError::not_available())
    }

    /// The current time, for `utcNow()` and others. The default, for a context without a clock, is the Unix epoch.
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// 64 random bits, for `rand()`. The default, for a context without randomness, is zero.
    fn random_u64(&self) -> u64 {
        0
    }

    /// 128 random bits, for `guid()`, which sets the version and variant bits itself.
    fn guid(&self) -> u128 {
        (u128::from(self.random_u64()) << 64) | u128::from(self.random_u64())
    }
}

/// A point in time: ticks of 100 ns since 0001-01-01T00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The number of ticks in a second.
    pub const TICKS_PER_SECOND: i64 = 10_000_000;
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(621_355_968_000_000_000);
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// 9999-12-31T23:59:59.9999999Z.
    pub const MAX: Self = Self(3_155_378_975_999_999_999);

    /// From ticks since the start of the year 1; `None` outside [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    pub fn from_ticks(ticks: i64) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&ticks).then_some(Self(ticks))
    }

    /// Ticks since the start of the year 1.
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// From nanoseconds since the Unix epoch, rounded down to ticks and clamped to the range.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let ticks = nanos.div_euclid(100) + i128::from(Self::UNIX_EPOCH.0);
        Self(ticks.clamp(i128::from(Self::MIN.0), i128::from(Self::MAX.0)) as i64)
    }

    /// From milliseconds since the Unix epoch, clamped to the range.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self::from_unix_nanos(i128::from(millis) * 1_000_000)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.0 - Self::UNIX_EPOCH.0) * 100
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub fn unix_millis(self) -> i64 {
        (self.0 - Self::UNIX_EPOCH.0).div_euclid(10_000)
    }
}

/// A string that is not a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a timestamp, such as 2026-11-24T17:00:00Z")]
pub struct InvalidTimestamp;

/// Parses every format that the functions of the language accept. A timestamp without a zone is UTC.
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

/// Formats as `yyyy-MM-ddTHH:mm:ss.fffffffZ`, like `utcNow()`.
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

/// The year, month and day in the proleptic Gregorian calendar, from days since 0001-01-01.
///
/// The algorithm is Howard Hinnant's `civil_from_days`, with a different epoch.
pub(crate) fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Days since 0000-03-01, so that the leap day is the last day of a year.
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

/// The days from 0001-01-01 to a date; the inverse of [`civil_from_days`].
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 306
}

/// Whether two names are equal, ignoring case, as the names of actions, variables and parameters are.
pub fn same_name(left: &str, right: &str) -> bool {
    fold_eq(left, right)
}
