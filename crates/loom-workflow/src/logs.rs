//! The log of `loom serve` on standard error: lines of text, or one JSON object per line.
//!
//! The other crates log with `tracing` and do not write to terminals. Everything passes through `console`, which masks the
//! secrets that it knows.

use std::fmt::{self, Write as _};

use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::{Object, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

use crate::console;

/// The format of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `loom: message; name: value`, for people. A supervisor such as journald adds the time.
    #[default]
    Text,
    /// `{"time": …, "level": …, "target": …, "message": …}` and the fields of the event.
    Json,
}

impl LogFormat {
    /// Parses `text` or `json`.
    pub(crate) fn parse(text: &str) -> Option<LogFormat> {
        [("text", LogFormat::Text), ("json", LogFormat::Json)]
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, format)| format)
    }
}

/// The least severe level that is logged, in general and by target: `info`, or `warn,loom_server=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel {
    general: LevelFilter,
    targets: Vec<(String, LevelFilter)>,
}

impl Default for LogLevel {
    fn default() -> LogLevel {
        LogLevel { general: LevelFilter::INFO, targets: Vec::new() }
    }
}

impl LogLevel {
    /// Parses a level, or a list of levels by target as `RUST_LOG` has it.
    ///
    /// # Errors
    /// The part that is not one.
    pub(crate) fn parse(text: &str) -> Result<LogLevel, String> {
        let mut found = LogLevel { general: LevelFilter::ERROR, targets: Vec::new() };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) = match part.split_once('=') {
                Some((target, level)) => (Some(target.trim()), level.trim()),
                None => (None, part),
            };
            let level: LevelFilter = level.parse().map_err(|_| part.to_owned())?;
            match target {
                Some(target) => found.targets.push((target.replace('-', "_"), level)),
                None => found.general = level,
            }
        }
        // The most specific target decides.
        found.targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(found)
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let is_part = |name: &str| {
            target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let own = self.targets.iter().find(|(name, _)| is_part(name)).map(|(_, level)| level);
        *metadata.level() <= *own.unwrap_or(&self.general)
    }
}

/// Logs from now on, until the process ends.
pub(crate) fn begin(format: LogFormat, level: LogLevel) {
    // Fails only if a subscriber is installed already, which then logs.
    tracing::subscriber::set_global_default(Log { format, level }).ok();
}

struct Log {
    format: LogFormat,
    level: LogLevel,
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("loom_") && self.level.allows(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        match self.format {
            LogFormat::Text => {
                let mut line = Line::default();
                event.record(&mut line);
                // Other levels are visible by what they say; these are rare.
                let level = match *metadata.level() {
                    Level::DEBUG => "debug: ",
                    Level::TRACE => "trace: ",
                    Level::ERROR | Level::WARN | Level::INFO => "",
                };
                eprintln!("loom: {level}{}{}", line.message, line.fields);
            }
            LogFormat::Json => {
                let mut object = Object::new();
                object.insert("time", SystemClock.now().to_string());
                object.insert("level", metadata.level().as_str());
                object.insert("target", metadata.target());
                let mut fields = Fields(object);
                event.record(&mut fields);
                console::note_json(&Value::from(fields.0).to_json_text());
            }
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// `message; name: value, name: value`
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        if field.name() == "message" {
            write!(self.message, "{value:?}").ok();
        } else {
            let between = if self.fields.is_empty() { "; " } else { ", " };
            write!(self.fields, "{between}{}: {value:?}", field.name()).ok();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// The properties of an object.
struct Fields(Object);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_general_or_of_a_target() {
        let level = LogLevel::parse("warn, loom-server=debug,loom_server::runs=off").unwrap();
        assert_eq!(level.general, LevelFilter::WARN);
        assert_eq!(
            level.targets,
            [
                ("loom_server::runs".to_owned(), LevelFilter::OFF),
                ("loom_server".to_owned(), LevelFilter::DEBUG)
            ]
        );
        assert_eq!(LogLevel::parse("loud"), Err("loud".to_owned()));
        assert_eq!(LogLevel::parse("info,loom_server=loud"), Err("loom_server=loud".to_owned()));
    }

    #[test]
    fn a_format_is_text_or_json() {
        assert_eq!((LogFormat::parse("JSON"), LogFormat::parse("xml")), (Some(LogFormat::Json), None));
    }
}
