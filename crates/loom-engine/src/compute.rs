//! `Expression` actions: the designer's date and time helpers, selected by `kind`.

use std::sync::LazyLock;

use loom_expression::{Context, Error, Lookup, Object, Template, Timestamp, Value};

use crate::{
    event::{ErrorInfo, Outcome},
    time::compile,
};

/// Evaluates the helper named `kind`; its output is `{"body": "<timestamp>"}`. An error is the error of its expression.
pub(crate) fn run(kind: &str, inputs: &Value, now: Timestamp) -> Result<Outcome, Error> {
    let Some((_, template)) = HELPERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)) else {
        let names: Vec<&str> = HELPERS.iter().map(|(name, _)| *name).collect();
        let message =
            format!("The kind of an expression action must be one of {} (got '{kind}').", names.join(", "));
        return Ok(Outcome::of_error(ErrorInfo::new("InvalidTemplate", message)));
    };
    let body = template.evaluate(&Inputs { inputs, now })?;
    let outputs: Object = [("body", body)].into_iter().collect();
    Ok(Outcome::ok(Some(outputs.into())))
}

static HELPERS: LazyLock<Vec<(&str, Template)>> = LazyLock::new(|| {
    let helpers = [
        ("CurrentTime", "@utcNow()"),
        ("AddToTime", "@addToTime(item().baseTime, item().interval, item().timeUnit)"),
        ("SubtractFromTime", "@subtractFromTime(item().baseTime, item().interval, item().timeUnit)"),
        ("GetFutureTime", "@getFutureTime(item().interval, item().timeUnit)"),
        ("GetPastTime", "@getPastTime(item().interval, item().timeUnit)"),
        (
            "ConvertTimeZone",
            "@convertTimeZone(item().baseTime, item().sourceTimeZone, item().destinationTimeZone, \
             coalesce(item()?.formatString, 'o'))",
        ),
    ];
    helpers.into_iter().map(|(name, text)| (name, compile(text))).collect()
});

struct Inputs<'a> {
    inputs: &'a Value,
    now: Timestamp,
}

impl Context for Inputs<'_> {
    fn item(&self) -> Lookup {
        Ok(self.inputs.clone())
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}
