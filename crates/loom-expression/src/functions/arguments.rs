//! `Arguments`: what the body of a function receives, with accessors that fail with a message about the argument.

use crate::{
    Budget, Code, Context, Error, Kind, Labels, Limits, Name, Value, ValueRef, error::Failure,
    functions::Function,
};

/// The evaluated arguments of one call.
pub(crate) struct Arguments<'a> {
    pub(crate) values: &'a mut [Value],
    pub(crate) context: &'a dyn Context,
    pub(crate) limits: &'a Limits,
    pub(crate) budget: &'a Budget,
    pub(crate) function: &'static Function,
    /// The index that the first argument was resolved to at compile time, if it is a literal name.
    pub(crate) slot: Option<u32>,
}

impl Arguments<'_> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The argument at an index that the function's arity guarantees.
    pub(crate) fn get(&self, at: usize) -> &Value {
        &self.values[at]
    }

    /// The argument, or `None` after the last one.
    pub(crate) fn opt(&self, at: usize) -> Option<&Value> {
        self.values.get(at)
    }

    /// Takes the argument and leaves null in its place.
    pub(crate) fn take(&mut self, at: usize) -> Value {
        std::mem::take(&mut self.values[at])
    }

    /// The labels of the arguments themselves.
    pub(crate) fn labels(&self) -> Labels {
        self.values.iter().map(Value::labels).collect()
    }

    /// The labels of the arguments and of everything inside them.
    pub(crate) fn labels_within(&self) -> Labels {
        self.values.iter().map(Value::labels_within).collect()
    }

    /// The argument as a string.
    pub(crate) fn str(&self, at: usize) -> Result<&str, Failure> {
        self.get(at).as_str().ok_or_else(|| self.wrong_type(at, "a string"))
    }

    /// An optional string argument.
    pub(crate) fn opt_str(&self, at: usize) -> Result<Option<&str>, Failure> {
        if at < self.len() { self.str(at).map(Some) } else { Ok(None) }
    }

    pub(crate) fn int(&self, at: usize) -> Result<i64, Failure> {
        self.get(at).as_i64().ok_or_else(|| self.wrong_type(at, "an integer"))
    }

    pub(crate) fn bool(&self, at: usize) -> Result<bool, Failure> {
        self.get(at).as_bool().ok_or_else(|| self.wrong_type(at, "a boolean"))
    }

    /// The first argument as a name to look up in the context.
    pub(crate) fn name(&self) -> Result<Name<'_>, Failure> {
        Ok(Name { text: self.str(0)?, slot: self.slot })
    }

    /// The failure of an argument of the wrong type.
    pub(crate) fn wrong_type(&self, at: usize, wanted: &str) -> Failure {
        wrong_type(self.function, at, wanted, self.get(at).kind())
    }

    /// The failure of an argument of the right type whose value cannot be used. `why` is a clause without a full stop.
    pub(crate) fn bad(&self, at: usize, why: &str) -> Failure {
        Error::new(
            Code::BadArgument,
            format!(
                "The template language function '{}' was invoked with a parameter that is not valid. \
                 Parameter {} is {}: {}",
                self.function.info.name,
                at + 1,
                self.shown(at),
                sentence_end(why),
            ),
        )
    }

    /// The failure of a string that cannot be converted. `why` is a clause without a full stop.
    pub(crate) fn not_convertible(&self, at: usize, why: &str) -> Failure {
        Error::new(
            Code::Conversion,
            format!(
                "The template language function '{}' was invoked with a parameter that is not valid. \
                 The value cannot be converted to the target type. Parameter {} is {}: {}",
                self.function.info.name,
                at + 1,
                self.shown(at),
                sentence_end(why),
            ),
        )
    }

    /// The failure of a result that would be too large.
    pub(crate) fn too_large(&self, what: &str, limit: usize) -> Failure {
        too_large(self.function, what, limit)
    }

    /// Checks the length of a string in bytes against the limits before the string is built.
    pub(crate) fn check_text_bytes(&self, bytes: usize) -> Result<(), Failure> {
        let limit = self.limits.text_bytes_max;
        if bytes > limit { Err(self.too_large("bytes", limit)) } else { Ok(()) }
    }

    /// Checks the number of items against the limits before they are built.
    pub(crate) fn check_items(&self, items: usize) -> Result<(), Failure> {
        let limit = self.limits.items_max;
        if items > limit { Err(self.too_large("items", limit)) } else { Ok(()) }
    }

    /// The argument as a message shows it: short, and never a secret.
    pub(crate) fn shown(&self, at: usize) -> String {
        shown(self.get(at))
    }
}

/// The failure of a result that would be too large.
#[cold]
pub(crate) fn too_large(function: &Function, what: &str, limit: usize) -> Failure {
    Error::new(
        Code::LimitExceeded,
        format!(
            "The template language function '{}' cannot be evaluated: its result would have more than \
             {limit} {what}.",
            function.info.name
        ),
    )
}

/// The failure of an argument of the wrong type.
pub(crate) fn wrong_type(function: &Function, at: usize, wanted: &str, kind: Kind) -> Failure {
    Error::new(
        Code::WrongType,
        format!(
            "The template language function '{}' expects its parameter {} to be {wanted}. The provided value \
             is of type '{kind}'.",
            function.info.name,
            at + 1,
        ),
    )
}

/// The end of a message with its full stop, unless it ends in a question.
fn sentence_end(why: &str) -> String {
    if why.ends_with(['.', '?']) { why.to_owned() } else { format!("{why}.") }
}

/// A value as a message shows it: text and numbers shortened, other values by type, and secrets only by type.
pub(crate) fn shown(value: &Value) -> String {
    const SHOWN_CHARS: usize = 60;
    if value.contains_secret() {
        return format!("a secret of type '{}'", value.kind());
    }
    match value.as_ref() {
        ValueRef::Array(_) | ValueRef::Object(_) => format!("of type '{}'", value.kind()),
        ValueRef::Null => "null".to_owned(),
        ValueRef::String(text) => {
            let cut: String = text.chars().take(SHOWN_CHARS).collect();
            let more = if cut.len() < text.len() { "…" } else { "" };
            format!("'{cut}{more}'")
        }
        _ => value.text().into_owned(),
    }
}
