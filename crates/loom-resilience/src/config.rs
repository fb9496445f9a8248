//! Validation of configurations: errors, and the helper that collects them.

use std::fmt;

/// Everything that is invalid in a configuration, reported at once.
///
/// ```
/// use loom_resilience::{BreakerConfig, Policy};
///
/// let error = Policy::none().breaker(BreakerConfig::new()).validate().unwrap_err();
/// assert_eq!(error.issues[0].field, "breaker");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The issues, in the order of the fields. Never empty.
    pub issues: Vec<ConfigIssue>,
}

/// One invalid setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigIssue {
    /// The path of the field, such as `breaker.failure_threshold`.
    pub field: &'static str,
    /// What is invalid and what would be valid. Reads as a sentence after the field.
    pub text: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.issues.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.field, problem.text)?;
        }
        Ok(())
    }
}

/// Collects the issues of a configuration.
#[derive(Default)]
pub(crate) struct Checker {
    issues: Vec<ConfigIssue>,
}

impl Checker {
    /// Adds an issue unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, field: &'static str, text: impl Into<String>) {
        if !holds {
            self.issues.push(ConfigIssue { field, text: text.into() });
        }
    }

    pub(crate) fn include(&mut self, result: Result<(), ConfigError>) {
        if let Err(error) = result {
            self.issues.extend(error.issues);
        }
    }

    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        if self.issues.is_empty() { Ok(()) } else { Err(ConfigError { issues: self.issues }) }
    }
}

/// Formats a duration for people: `250 ms`, `2.5 s`, `90 s`, `10 min`, `3 h`.
pub(crate) struct Plain(pub(crate) std::time::Duration);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, name) = match nanos {
            0 => return f.write_str("0 s"),
            n if n % 3_600_000_000_000 == 0 => (3_600_000_000_000, "h"),
            n if n % 60_000_000_000 == 0 && n >= 120_000_000_000 => (60_000_000_000, "min"),
            n if n >= 1_000_000_000 => (1_000_000_000, "s"),
            n if n >= 1_000_000 => (1_000_000, "ms"),
            n if n >= 1_000 => (1_000, "µs"),
            _ => (1, "ns"),
        };
        let (whole, rest) = (nanos / unit, nanos % unit);
        if rest == 0 {
            return write!(f, "{whole} {name}");
        }
        let thousandths = format!("{:03}", rest * 1000 / unit);
        match thousandths.trim_end_matches('0') {
            "" => write!(f, "{whole} {name}"),
            digits => write!(f, "{whole}.{digits} {name}"),
        }
    }
}
