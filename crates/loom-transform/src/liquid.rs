//! Liquid templates as Logic Apps runs them: filters have DotLiquid's C# names, and unknown names render as nothing.
//!
//! The crate `liquid` parses templates and runs tags. The filters, the `for` loop and the lookup of names are
//! implemented here, because DotLiquid differs from Ruby's Liquid in them.

mod filters;
mod for_loop;
mod runtime;

use std::io::{self, Write};

use liquid_core::{Language, Renderable, model, parser, runtime::Template};
use liquid_lib::stdlib;
use loom_expression::{Object, Value, ValueRef};

use self::runtime::Scope;
use crate::Error;

/// The limit on the output of a template, in bytes: 50 MiB.
const OUTPUT_BYTES_MAX: usize = 50 * 1024 * 1024;

/// The output format of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// JSON text, which is parsed into a value.
    Json,
    /// Text, which becomes a string.
    Text,
}

/// Renders a template. The template reads `content` under the name `content`.
///
/// # Errors
/// `LiquidTemplateInvalid` if the template cannot be parsed, `LiquidTransformFailed` if rendering fails or exceeds
/// 50 MiB, `LiquidOutputInvalid` if the output should be JSON but is not.
///
/// ```
/// use loom_transform::{Value, liquid};
///
/// let content = Value::from_json_str(r#"{"name": "ann"}"#).unwrap();
/// let made = liquid::render(r#"{"who": "{{ content.name | Upcase }}"}"#, &content, liquid::Output::Json).unwrap();
/// assert_eq!(made.get("who").and_then(Value::as_str), Some("ANN"));
/// ```
pub fn render(template: &str, content: &Value, output: Output) -> Result<Value, Error> {
    let language = language();
    let template = template.trim_start_matches('\u{feff}');
    let parsed = parser::parse(template, &language)
        .map_err(|error| Error::new("LiquidTemplateInvalid", explained(&error.to_string())))?;
    let globals: model::Object = [("content".into(), to_liquid(content))].into_iter().collect();
    let mut written = Bounded(Vec::new());
    let rendered = Template::new(parsed).render_to(&mut written, &Scope::new(globals));
    rendered.map_err(|error| Error::new("LiquidTransformFailed", explained(&error.to_string())))?;
    let text = String::from_utf8_lossy(&written.0).into_owned();
    match output {
        Output::Text => Ok(text.into()),
        Output::Json => Value::from_json_str(&text).map_err(|error| {
            let message = format!("The template did not render valid JSON: {error}.");
            Error::new("LiquidOutputInvalid", message)
        }),
    }
}

/// The tags and filters that templates may use.
fn language() -> Language {
    let mut language = Language::empty();
    language.blocks.register("for".to_owned(), for_loop::ForLoop.into());
    language.blocks.register("if".to_owned(), stdlib::IfBlock.into());
    language.blocks.register("unless".to_owned(), stdlib::UnlessBlock.into());
    language.blocks.register("case".to_owned(), stdlib::CaseBlock.into());
    language.blocks.register("capture".to_owned(), stdlib::CaptureBlock.into());
    language.blocks.register("comment".to_owned(), stdlib::CommentBlock.into());
    language.blocks.register("raw".to_owned(), stdlib::RawBlock.into());
    language.blocks.register("ifchanged".to_owned(), stdlib::IfChangedBlock.into());
    language.blocks.register("tablerow".to_owned(), stdlib::TableRowBlock.into());
    language.tags.register("assign".to_owned(), stdlib::AssignTag.into());
    language.tags.register("cycle".to_owned(), stdlib::CycleTag.into());
    language.tags.register("increment".to_owned(), stdlib::IncrementTag.into());
    language.tags.register("decrement".to_owned(), stdlib::DecrementTag.into());
    language.tags.register("break".to_owned(), stdlib::BreakTag.into());
    language.tags.register("continue".to_owned(), stdlib::ContinueTag.into());
    for filter in filters::ALL {
        language.filters.register(filter.name.to_owned(), Box::new(*filter));
    }
    language
}

/// The library's message on one line. For a filter in Ruby's spelling, suggests DotLiquid's name.
fn explained(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let unknown = lines.iter().find_map(|line| line.strip_prefix("requested filter="));
    if let Some(name) = unknown {
        let squashed = |text: &str| text.replace('_', "").to_lowercase();
        let near = filters::ALL.iter().find(|filter| squashed(filter.name) == squashed(name));
        return match near {
            Some(filter) => format!(
                "Unknown filter '{name}'; did you mean '{}'? Filters have DotLiquid's names.",
                filter.name
            ),
            None => {
                format!("Unknown filter '{name}'. Filters have DotLiquid's names, such as 'Upcase'.")
            }
        };
    }
    lines.join(" ").trim_start_matches("liquid: ").to_owned()
}

/// Converts a value to the library's type.
fn to_liquid(value: &Value) -> model::Value {
    match value.as_ref() {
        ValueRef::Null => model::Value::Nil,
        ValueRef::Bool(value) => model::Value::scalar(value),
        ValueRef::Int(value) => model::Value::scalar(value),
        ValueRef::Float(value) => model::Value::scalar(value),
        ValueRef::Array(items) => model::Value::Array(items.iter().map(to_liquid).collect()),
        ValueRef::Object(members) => model::Value::Object(members_of(members)),
        _ => match (value.as_str(), value.as_f64()) {
            (Some(text), _) => model::Value::scalar(text.to_owned()),
            (None, Some(number)) => model::Value::scalar(number),
            (None, None) => model::Value::scalar(value.text().into_owned()),
        },
    }
}

fn members_of(members: &Object) -> model::Object {
    members.iter().map(|(name, value)| (name.to_string().into(), to_liquid(value))).collect()
}

/// A buffer whose writes fail beyond [`OUTPUT_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other(format!("the output exceeds {OUTPUT_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
