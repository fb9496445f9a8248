//! DotLiquid's standard filters under their C# names, as Logic Apps registers them.
//!
//! The semantics are those of DotLiquid 2.0, which the hosted service runs: sorting ignores case, `Slice` counts UTF-16
//! code units, the division of integers gives an integer, and `Date` takes .NET format strings.

#![expect(clippy::unnecessary_wraps, reason = "all filters have one signature")]

mod numbers;
mod text;

use std::fmt;

use liquid_core::{
    Error, Expression, Filter, FilterReflection, ParseFilter, Result, Runtime,
    model::{ScalarCow, Value, ValueView},
    parser::{FilterArguments, ParameterReflection},
};

/// The function of a filter: input and arguments to result.
type Compute = fn(&Value, &[Value]) -> std::result::Result<Value, String>;

/// One filter.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) name: &'static str,
    least: usize,
    most: usize,
    compute: Compute,
}

const fn named(name: &'static str, least: usize, most: usize, compute: Compute) -> Named {
    Named { name, least, most, compute }
}

/// All filters.
pub(super) const ALL: &[Named] = &[
    named("Size", 0, 0, size),
    named("Slice", 1, 2, slice),
    named("Downcase", 0, 0, |input, _| on_text(input, str::to_lowercase)),
    named("Upcase", 0, 0, |input, _| on_text(input, str::to_uppercase)),
    named("Capitalize", 0, 0, |input, _| on_text(input, text::title_case)),
    named("UrlEncode", 0, 0, |input, _| on_text(input, text::url_encode)),
    named("UrlDecode", 0, 0, |input, _| on_text(input, text::url_decode)),
    named("Escape", 0, 0, |input, _| on_text(input, text::escape)),
    named("EscapeOnce", 0, 0, |input, _| on_text(input, |text| text::escape(&text::unescape(text)))),
    named("H", 0, 0, |input, _| on_text(input, text::escape)),
    named("Truncate", 0, 2, |input, arguments| {
        let (length, tail) = (integer(arguments, 0, 50)?, argument_text(arguments, 1, "..."));
        on_text(input, |text| text::truncate(text, length, &tail))
    }),
    named("TruncateWords", 0, 2, |input, arguments| {
        let (words, tail) = (integer(arguments, 0, 15)?, argument_text(arguments, 1, "..."));
        on_text(input, |text| text::truncate_words(text, words, &tail))
    }),
    named("Split", 1, 1, split),
    named("StripHtml", 0, 0, |input, _| on_text(input, text::strip_html)),
    named("Strip", 0, 0, |input, _| on_text(input, |text| text.trim().to_owned())),
    named("Lstrip", 0, 0, |input, _| on_text(input, |text| text.trim_start().to_owned())),
    named("Rstrip", 0, 0, |input, _| on_text(input, |text| text.trim_end().to_owned())),
    named("StripNewlines", 0, 0, |input, _| {
        on_text(input, |text| text.replace("\r\n", "").replace(['\n', '\r'], ""))
    }),
    named("NewlineToBr", 0, 0, |input, _| {
        on_text(input, |text| text.replace("\r\n", "\n").replace('\n', "<br />\n"))
    }),
    named("Join", 0, 1, |input, arguments| {
        let glue = argument_text(arguments, 0, " ");
        Ok(on_items(input, |items| Value::scalar(items.iter().map(shown).collect::<Vec<_>>().join(&glue))))
    }),
    named("Sort", 0, 1, |input, arguments| Ok(sorted(input, arguments))),
    named("SortNatural", 0, 1, |input, arguments| Ok(sorted(input, arguments))),
    named("Map", 1, 1, |input, arguments| {
        let name = argument_text(arguments, 0, "");
        Ok(on_items(input, |items| Value::Array(items.iter().map(|item| member(item, &name)).collect())))
    }),
    named("Where", 1, 2, |input, arguments| Ok(filtered(input, arguments))),
    named("Replace", 1, 2, |input, arguments| {
        let (from, to) = (argument_text(arguments, 0, ""), argument_text(arguments, 1, ""));
        on_text(input, |text| if from.is_empty() { text.to_owned() } else { text.replace(&from, &to) })
    }),
    named("ReplaceFirst", 1, 2, |input, arguments| {
        let (from, to) = (argument_text(arguments, 0, ""), argument_text(arguments, 1, ""));
        on_text(input, |text| if from.is_empty() { text.to_owned() } else { text.replacen(&from, &to, 1) })
    }),
    named("Remove", 1, 1, |input, arguments| {
        let from = argument_text(arguments, 0, "");
        on_text(input, |text| if from.is_empty() { text.to_owned() } else { text.replace(&from, "") })
    }),
    named("RemoveFirst", 1, 1, |input, arguments| {
        let from = argument_text(arguments, 0, "");
        on_text(input, |text| if from.is_empty() { text.to_owned() } else { text.replacen(&from, "", 1) })
    }),
    named("Append", 1, 1, |input, arguments| {
        Ok(Value::scalar(format!("{}{}", shown(input), argument_text(arguments, 0, ""))))
    }),
    named("Prepend", 1, 1, |input, arguments| {
        Ok(Value::scalar(format!("{}{}", argument_text(arguments, 0, ""), shown(input))))
    }),
    named("Date", 1, 1, |input, arguments| text::date(input, &argument_text(arguments, 0, ""))),
    named("First", 0, 0, |input, _| {
        Ok(on_items(input, |items| items.into_iter().next().unwrap_or(Value::Nil)))
    }),
    named("Last", 0, 0, |input, _| {
        Ok(on_items(input, |items| items.into_iter().last().unwrap_or(Value::Nil)))
    }),
    named("Plus", 1, 1, |input, arguments| match as_text(input) {
        Some(text) => Ok(Value::scalar(format!("{text}{}", argument_text(arguments, 0, "")))),
        None => numbers::compute(input, &arguments[0], numbers::Operation::Add),
    }),
    named("Minus", 1, 1, |input, arguments| {
        numbers::compute(input, &arguments[0], numbers::Operation::Subtract)
    }),
    named("Times", 1, 1, |input, arguments| {
        numbers::compute(input, &arguments[0], numbers::Operation::Multiply)
    }),
    named("DividedBy", 1, 1, |input, arguments| {
        numbers::compute(input, &arguments[0], numbers::Operation::Divide)
    }),
    named("Modulo", 1, 1, |input, arguments| {
        numbers::compute(input, &arguments[0], numbers::Operation::Remainder)
    }),
    named("Round", 0, 1, |input, arguments| Ok(numbers::round(input, integer(arguments, 0, 0)?))),
    named("Ceil", 0, 0, |input, _| Ok(numbers::whole(input, f64::ceil))),
    named("Floor", 0, 0, |input, _| Ok(numbers::whole(input, f64::floor))),
    named("Abs", 0, 0, |input, _| Ok(numbers::shortest(numbers::number(input).map_or(0.0, f64::abs)))),
    named("AtLeast", 1, 1, |input, arguments| Ok(numbers::bounded(input, &arguments[0], f64::max))),
    named("AtMost", 1, 1, |input, arguments| Ok(numbers::bounded(input, &arguments[0], f64::min))),
    named("Default", 1, 1, |input, arguments| {
        let blank = input.is_nil() || shown(input).trim().is_empty();
        Ok(if blank { arguments[0].clone() } else { input.clone() })
    }),
    named("Uniq", 0, 0, |input, _| Ok(on_items(input, |items| Value::Array(distinct(items))))),
    named("Compact", 0, 0, |input, _| {
        Ok(on_items(input, |items| Value::Array(items.into_iter().filter(|item| !item.is_nil()).collect())))
    }),
    named("Concat", 1, 1, |input, arguments| {
        let more = match &arguments[0] {
            Value::Array(items) => items.clone(),
            Value::Nil => return Ok(input.clone()),
            _ => return Err("the argument of 'Concat' must be an array".to_owned()),
        };
        let mut items = into_items(input);
        items.extend(more);
        Ok(Value::Array(items))
    }),
    named("Reverse", 0, 0, |input, _| match input {
        Value::Array(items) => Ok(Value::Array(items.iter().rev().cloned().collect())),
        other => Ok(other.clone()),
    }),
    named("Base64Encode", 0, 0, |input, _| on_text(input, text::base64_encode)),
    named("Base64Decode", 0, 0, |input, _| {
        let Some(encoded) = plain(input) else { return Ok(Value::Nil) };
        text::base64_decode(&encoded).map(Value::scalar)
    }),
];

/// A value as a template renders it.
fn shown(value: &Value) -> String {
    value.to_kstr().into_string()
}

/// The text of a string; `None` for all other types.
fn as_text(value: &Value) -> Option<String> {
    let scalar = value.as_scalar()?;
    (scalar.type_name() == "string").then(|| scalar.into_string().into_string())
}

/// The text of a scalar; `None` for nil.
fn plain(value: &Value) -> Option<String> {
    (!value.is_nil()).then(|| shown(value))
}

fn on_text(input: &Value, compute: impl FnOnce(&str) -> String) -> std::result::Result<Value, String> {
    Ok(plain(input).map_or(Value::Nil, |text| Value::scalar(compute(&text))))
}

/// The items of an array. Any other value is one item, and nil is none.
fn into_items(input: &Value) -> Vec<Value> {
    match input {
        Value::Array(items) => items.clone(),
        Value::Nil => Vec::new(),
        other => vec![other.clone()],
    }
}

fn on_items(input: &Value, compute: impl FnOnce(Vec<Value>) -> Value) -> Value {
    if input.is_nil() { Value::Nil } else { compute(into_items(input)) }
}

fn argument_text(arguments: &[Value], at: usize, default: &str) -> String {
    arguments.get(at).map_or_else(|| default.to_owned(), shown)
}

fn integer(arguments: &[Value], at: usize, default: i64) -> std::result::Result<i64, String> {
    let Some(value) = arguments.get(at) else { return Ok(default) };
    let found = value.as_scalar().and_then(|scalar| scalar.to_integer());
    found.ok_or_else(|| format!("expected an integer, found '{}'", shown(value)))
}

/// The property of an object, or nil if it has no such property.
fn member(item: &Value, name: &str) -> Value {
    item.as_object().and_then(|object| object.get(name)).map_or(Value::Nil, ValueView::to_value)
}

fn size(input: &Value, _: &[Value]) -> std::result::Result<Value, String> {
    let size = match (input, as_text(input)) {
        (_, Some(text)) => text.encode_utf16().count(),
        (Value::Array(items), _) => items.len(),
        (Value::Object(members), _) => members.len(),
        _ => 0,
    };
    Ok(Value::scalar(size as i64))
}

fn slice(input: &Value, arguments: &[Value]) -> std::result::Result<Value, String> {
    let (offset, length) = (integer(arguments, 0, 0)?, integer(arguments, 1, 1)?);
    let range = |size: usize| {
        let size = size as i64;
        let start = if offset < 0 { size + offset } else { offset };
        let end = start.saturating_add(length.max(0)).clamp(0, size);
        (start.clamp(0, size) as usize).min(end as usize)..end as usize
    };
    Ok(match input {
        Value::Array(items) => {
            let range = range(items.len());
            Value::Array(items[range].to_vec())
        }
        Value::Nil => Value::Nil,
        other => {
            let units: Vec<u16> = shown(other).encode_utf16().collect();
            Value::scalar(String::from_utf16_lossy(&units[range(units.len())]))
        }
    })
}

fn split(input: &Value, arguments: &[Value]) -> std::result::Result<Value, String> {
    let pattern = argument_text(arguments, 0, "");
    let Some(text) = plain(input).filter(|text| !text.trim().is_empty()) else {
        return Ok(Value::Array(Vec::new()));
    };
    let parts: Vec<Value> = if pattern.is_empty() {
        text.chars().map(|character| Value::scalar(character.to_string())).collect()
    } else {
        // Empty parts are dropped, as in DotLiquid.
        text.split(&pattern)
            .filter(|part| !part.is_empty())
            .map(|part| Value::scalar(part.to_owned()))
            .collect()
    };
    Ok(Value::Array(parts))
}

/// Sorts the items, or objects by a property: strings ignoring case, numbers by value.
fn sorted(input: &Value, arguments: &[Value]) -> Value {
    let name = arguments.first().map(shown);
    let key = |item: &Value| name.as_deref().map_or_else(|| item.clone(), |name| member(item, name));
    on_items(input, |mut items| {
        items.sort_by(|left, right| {
            let (left, right) = (key(left), key(right));
            let number = |value: &Value| if as_text(value).is_some() { None } else { numbers::number(value) };
            match (number(&left), number(&right)) {
                (Some(left), Some(right)) => left.total_cmp(&right),
                _ => shown(&left).to_lowercase().cmp(&shown(&right).to_lowercase()),
            }
        });
        Value::Array(items)
    })
}

/// The items whose property is truthy, or equal to a value.
fn filtered(input: &Value, arguments: &[Value]) -> Value {
    let name = argument_text(arguments, 0, "");
    on_items(input, |items| {
        let fits = |item: &Value| {
            let found = member(item, &name);
            match arguments.get(1).filter(|wanted| !wanted.is_nil() && !found.is_nil()) {
                Some(wanted) => found == *wanted || shown(&found) == shown(wanted),
                None => !found.is_nil() && found.as_scalar().and_then(|found| found.to_bool()) != Some(false),
            }
        };
        Value::Array(items.into_iter().filter(fits).collect())
    })
}

fn distinct(items: Vec<Value>) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

impl FilterReflection for Named {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> &'static str {
        "a DotLiquid filter"
    }

    fn positional_parameters(&self) -> &'static [ParameterReflection] {
        &[]
    }

    fn keyword_parameters(&self) -> &'static [ParameterReflection] {
        &[]
    }
}

impl ParseFilter for Named {
    fn parse(&self, arguments: FilterArguments<'_>) -> Result<Box<dyn Filter>> {
        let positional: Vec<Expression> = arguments.positional.collect();
        if positional.len() < self.least || positional.len() > self.most {
            let wanted = if self.least == self.most {
                self.least.to_string()
            } else {
                format!("{} to {}", self.least, self.most)
            };
            let message =
                format!("filter '{}' takes {wanted} arguments (got {})", self.name, positional.len());
            return Err(Error::with_msg(message));
        }
        Ok(Box::new(Applied { filter: *self, arguments: positional }))
    }

    fn reflection(&self) -> &dyn FilterReflection {
        self
    }
}

/// A filter with its arguments.
struct Applied {
    filter: Named,
    arguments: Vec<Expression>,
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Applied").field(&self.filter.name).finish()
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.filter.name)
    }
}

impl Filter for Applied {
    fn evaluate(&self, input: &dyn ValueView, runtime: &dyn Runtime) -> Result<Value> {
        let arguments = self.arguments.iter().map(|argument| Ok(argument.evaluate(runtime)?.into_owned()));
        let arguments = arguments.collect::<Result<Vec<Value>>>()?;
        (self.filter.compute)(&input.to_value(), &arguments)
            .map_err(|message| Error::with_msg(format!("filter '{}': {message}", self.filter.name)))
    }
}

/// The number of a numeric scalar, for [`numbers`].
fn float(scalar: &ScalarCow<'_>) -> Option<f64> {
    scalar.to_float()
}
