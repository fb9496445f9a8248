//! The kinds of settings and the parsing of their values. All layers use one spelling: a number in `loom.toml`, a flag and a
//! variable arrive here as the same string.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::ValueHint;
use loom_actions::Url;
use loom_definition::{
    duration::Span,
    policy::{RetryPolicy, Spelling},
};
use loom_expression::{Object, Value};

use crate::logs::{LogFormat, LogLevel};

/// The kind of a setting, with its range.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// On or off.
    Switch,
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A duration: whole seconds, `500ms`, `20s`, `5m`, `2h`, `7d`, or ISO 8601.
    Duration {
        /// The least, in seconds.
        min: u64,
        /// The most, in seconds.
        max: u64,
    },
    /// A size: bytes, or `512KiB`, `64MiB`, `10GiB`.
    Bytes {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// An IP address and a port, or a port alone.
    Address,
    /// The URL of a service.
    Url,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Any string.
    Text,
    /// A list of strings.
    List,
    /// `none`, or a retry policy as in a definition.
    Policy,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Kind {
    /// The name of a value in the help.
    pub(super) fn value_name(self) -> &'static str {
        match self {
            Kind::Switch => "true|false",
            Kind::Count { .. } => "COUNT",
            Kind::Duration { .. } => "DURATION",
            Kind::Bytes { .. } => "SIZE",
            Kind::Address => "ADDRESS",
            Kind::Url => "URL",
            Kind::File => "FILE",
            Kind::Directory => "DIR",
            Kind::Text | Kind::List => "STRING",
            Kind::Policy => "JSON",
        }
    }

    pub(super) fn hint(self) -> ValueHint {
        match self {
            Kind::File => ValueHint::FilePath,
            Kind::Directory => ValueHint::DirPath,
            Kind::Url => ValueHint::Url,
            _ => ValueHint::Unknown,
        }
    }

    /// The permitted values, in a few words for the page.
    pub(super) fn range(self) -> String {
        match self {
            Kind::Switch => "`true` or `false`".to_owned(),
            Kind::Count { min: 0, max: u64::MAX } => "a number".to_owned(),
            Kind::Count { min, max: u64::MAX } => format!("a number, at least {min}"),
            Kind::Count { min, max } => format!("a number, {min} to {max}"),
            Kind::Duration { min, max } => format!("a duration, {} to {}", in_seconds(min), in_seconds(max)),
            Kind::Bytes { min: 0, max: u64::MAX } => "a size".to_owned(),
            Kind::Bytes { min, max: u64::MAX } => format!("a size, at least {}", in_bytes(min)),
            Kind::Bytes { min, max } => format!("a size, {} to {}", in_bytes(min), in_bytes(max)),
            Kind::Address => "an IP address and port, or a port".to_owned(),
            Kind::Url => "a URL".to_owned(),
            Kind::File => "a file".to_owned(),
            Kind::Directory => "a directory".to_owned(),
            Kind::Text => "a string".to_owned(),
            Kind::List => "a list of strings".to_owned(),
            Kind::Policy => "`none` or a retry policy".to_owned(),
        }
    }

    fn count(self, text: &str) -> Result<u64, String> {
        let Kind::Count { min, max } = self else { return Err("must be a number".to_owned()) };
        let bounds =
            if max == u64::MAX { format!("at least {min}") } else { format!("between {min} and {max}") };
        let plain = text.replace('_', "");
        let digits = !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit());
        let Some(number) = plain.parse().ok().filter(|_| digits) else {
            return Err(format!("must be a whole number, {bounds} (got `{text}`)"));
        };
        if (min..=max).contains(&number) {
            Ok(number)
        } else {
            Err(format!("must be {bounds} (got {number})"))
        }
    }

    fn duration(self, text: &str) -> Result<Duration, String> {
        let Kind::Duration { min, max } = self else { return Err("must be a duration".to_owned()) };
        let Some(duration) = read_duration(text) else {
            return Err(format!(
                "must be a duration in seconds or with a unit, such as 500ms, 20s, 5m, 2h, 7d or PT20S (got `{text}`)"
            ));
        };
        if duration < Duration::from_secs(min) || duration > Duration::from_secs(max) {
            return Err(format!("must be between {} and {} (got {text})", in_seconds(min), in_seconds(max)));
        }
        Ok(duration)
    }

    fn bytes(self, text: &str) -> Result<u64, String> {
        let Kind::Bytes { min, max } = self else { return Err("must be a size".to_owned()) };
        let Some(bytes) = read_bytes(text) else {
            return Err(format!(
                "must be a size in bytes or with a unit, such as 512KiB, 64MiB or 10GiB (got `{text}`)"
            ));
        };
        if (min..=max).contains(&bytes) {
            return Ok(bytes);
        }
        Err(match max {
            u64::MAX => format!("must be at least {} (got {text})", in_bytes(min)),
            max => format!("must be between {} and {} (got {text})", in_bytes(min), in_bytes(max)),
        })
    }

    /// Normalizes values that have several spellings.
    pub(super) fn plain(self, texts: &[String]) -> Vec<String> {
        let plain = |text: &String| match (self, text.as_str()) {
            (Kind::Switch, "1") => "true".to_owned(),
            (Kind::Switch, "0") => "false".to_owned(),
            (Kind::Count { .. }, text) => text.replace('_', ""),
            (_, text) => text.to_owned(),
        };
        texts.iter().map(plain).collect()
    }

    /// The value as JSON.
    pub(super) fn to_json(self, texts: &[String]) -> Value {
        match (self, texts) {
            (Kind::List, texts) => {
                Value::from(texts.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>())
            }
            (_, []) => Value::NULL,
            (Kind::Switch, [text, ..]) => Value::from(text == "true"),
            (Kind::Count { .. }, [text, ..]) => {
                let number = text.parse::<i64>();
                number.map_or_else(|_| Value::from(text.as_str()), Value::from)
            }
            (Kind::Policy, [text, ..]) => policy_value(text),
            (_, [text, ..]) => Value::from(text.as_str()),
        }
    }
}

fn in_seconds(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        s if s % DAY == 0 => format!("{}d", s / DAY),
        s if s % HOUR == 0 => format!("{}h", s / HOUR),
        s if s % MINUTE == 0 => format!("{}m", s / MINUTE),
        s => format!("{s}s"),
    }
}

fn in_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        b if b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => b.to_string(),
    }
}

fn read_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.starts_with(['P', 'p']) {
        return Span::parse_iso8601(text).ok().map(Span::approximate);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let number: u64 = text[..digits].replace('_', "").parse().ok()?;
    let seconds = match text[digits..].trim() {
        "ms" => return Some(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" | "min" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn read_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let number: u64 = text[..digits].replace('_', "").parse().ok()?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// A type that a field of [`Values`](super::Values) may have.
pub(super) trait Typed: Sized {
    /// Parses the strings of one setting.
    ///
    /// # Errors
    /// The reason, as a predicate for the name of the setting: "must be …".
    fn read(kind: &Kind, texts: &[String]) -> Result<Self, String>;
}

fn one(texts: &[String]) -> Result<&str, String> {
    match texts {
        [text] => Ok(text),
        [] => Err("must be set".to_owned()),
        _ => Err("must be one value, found a list".to_owned()),
    }
}

impl Typed for u64 {
    fn read(kind: &Kind, texts: &[String]) -> Result<u64, String> {
        if matches!(kind, Kind::Bytes { .. }) { kind.bytes(one(texts)?) } else { kind.count(one(texts)?) }
    }
}

impl Typed for Duration {
    fn read(kind: &Kind, texts: &[String]) -> Result<Duration, String> {
        kind.duration(one(texts)?)
    }
}

impl Typed for bool {
    fn read(_: &Kind, texts: &[String]) -> Result<bool, String> {
        match one(texts)? {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("must be `true` or `false` (got `{other}`)")),
        }
    }
}

impl Typed for String {
    fn read(kind: &Kind, texts: &[String]) -> Result<String, String> {
        let text = one(texts)?;
        if matches!(kind, Kind::Url) {
            return match Url::parse(text) {
                Ok(_) if text.contains(['?', '#']) => {
                    Err("must be a URL without a query or fragment".to_owned())
                }
                Ok(_) => Ok(text.trim_end_matches('/').to_owned()),
                // The error quotes the URL without credentials.
                Err(error) => Err(format!("must be a valid URL: {} (got `{}`)", error.reason, error.address)),
            };
        }
        Ok(text.to_owned())
    }
}

impl Typed for PathBuf {
    fn read(_: &Kind, texts: &[String]) -> Result<PathBuf, String> {
        match one(texts)? {
            "" => Err("must be a path, found an empty string".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }
}

impl Typed for LogFormat {
    fn read(_: &Kind, texts: &[String]) -> Result<LogFormat, String> {
        let text = one(texts)?;
        LogFormat::parse(text).ok_or_else(|| format!("must be `text` or `json` (got `{text}`)"))
    }
}

impl Typed for LogLevel {
    fn read(_: &Kind, texts: &[String]) -> Result<LogLevel, String> {
        LogLevel::parse(one(texts)?).map_err(|part| {
            format!("must be `error`, `warn`, `info` or `debug`, or a list such as `warn,loom_server=debug` (got `{part}`)")
        })
    }
}

impl Typed for SocketAddr {
    /// A port alone, and `localhost`, mean the loopback address.
    fn read(_: &Kind, texts: &[String]) -> Result<SocketAddr, String> {
        let text = one(texts)?;
        let port = text.strip_prefix("localhost:").unwrap_or(text).parse().ok();
        let local = port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        local.or_else(|| text.parse().ok()).ok_or_else(|| {
            format!(
                "must be an IP address and a port, such as 127.0.0.1:7070 or [::1]:0, or only a port up to 65535 (got `{text}`)"
            )
        })
    }
}

impl Typed for RetryPolicy {
    fn read(_: &Kind, texts: &[String]) -> Result<RetryPolicy, String> {
        let value = policy_value(one(texts)?);
        let named = match value.as_str() {
            Some(name) => [("type", name)].into_iter().collect::<Object>().into(),
            None => value,
        };
        RetryPolicy::read(&named, Spelling::Wdl)
            .map_err(|problem| format!("must be `none` or a retry policy: {}", problem.message))
    }
}

fn policy_value(text: &str) -> Value {
    Value::from_json_str(text).unwrap_or_else(|_| Value::from(text))
}

impl<T: Typed> Typed for Option<T> {
    fn read(kind: &Kind, texts: &[String]) -> Result<Option<T>, String> {
        if texts.is_empty() { Ok(None) } else { T::read(kind, texts).map(Some) }
    }
}

impl Typed for Vec<String> {
    fn read(_: &Kind, texts: &[String]) -> Result<Vec<String>, String> {
        Ok(texts.to_vec())
    }
}
