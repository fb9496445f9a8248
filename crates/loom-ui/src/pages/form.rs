//! The form that starts a run, made from the JSON schema of a trigger's body.

use loom_expression::{Object, Value};
use maud::{Markup, html};

use crate::{
    document::{is, items, present, text},
    graph::text::clean,
};

/// The most fields of a form; a body with more properties is entered as JSON.
const FIELDS_MAX: usize = 40;

/// A property of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name of the property.
    pub name: String,
    /// What it accepts.
    pub kind: FieldKind,
    /// What it is, in the words of the schema.
    pub description: String,
    /// Whether the body must have it.
    pub is_required: bool,
}

/// What a field accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Any text.
    Text,
    /// A number; a whole one if true.
    Number(bool),
    /// True or false.
    Switch,
    /// One of these values, each as JSON.
    Choice(Vec<String>),
    /// JSON of any kind.
    Json,
}

/// The fields for a schema; none if its body is entered as JSON as a whole.
pub fn fields_of(schema: &Value) -> Vec<Field> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let properties = properties.into_iter().flatten().take(FIELDS_MAX + 1);
    let required: Vec<&str> = items(schema, "required").filter_map(Value::as_str).collect();
    let fields: Vec<Field> = properties
        .map(|(name, property)| Field {
            name: name.to_string(),
            kind: FieldKind::of(property),
            description: text(property, "description").to_owned(),
            is_required: required.contains(&&**name) || is(property, "required"),
        })
        .collect();
    if fields.len() > FIELDS_MAX { Vec::new() } else { fields }
}

impl FieldKind {
    fn of(property: &Value) -> FieldKind {
        let choices: Vec<String> = items(property, "enum").map(Value::to_json_text).collect();
        if !choices.is_empty() {
            return FieldKind::Choice(choices);
        }
        match text(property, "type") {
            "string" => FieldKind::Text,
            "integer" => FieldKind::Number(true),
            "number" => FieldKind::Number(false),
            "boolean" => FieldKind::Switch,
            _ => FieldKind::Json,
        }
    }

    /// The value of what was entered; nothing if the property is omitted.
    ///
    /// # Errors
    /// What is wrong with it.
    fn value(&self, entered: &str) -> Result<Option<Value>, String> {
        let json = |what: &str| {
            Value::from_json_str(entered).map(Some).map_err(|error| format!("must be {what} ({error})"))
        };
        match self {
            _ if entered.trim().is_empty() => Ok(None),
            FieldKind::Text => Ok(Some(Value::from(entered))),
            FieldKind::Number(true) => match entered.trim().parse::<i64>() {
                Ok(number) => Ok(Some(Value::from(number))),
                Err(_) => Err(format!("must be a whole number (got '{entered}')")),
            },
            FieldKind::Number(false) => match Value::from_json_str(entered.trim()) {
                Ok(number) if number.is_number() => Ok(Some(number)),
                Ok(_) | Err(_) => Err(format!("must be a number (got '{entered}')")),
            },
            FieldKind::Switch => Ok(Some(Value::from(entered == "true"))),
            FieldKind::Choice(choices) if choices.iter().any(|choice| choice == entered) => {
                json("one of the choices")
            }
            FieldKind::Choice(_) => Err("must be one of the choices".to_owned()),
            FieldKind::Json => json("JSON"),
        }
    }
}

/// The body that was entered: `entered` returns what a field of this name has.
///
/// # Errors
/// The first field that is wrong, and why.
pub fn body_of<'e>(
    fields: &[Field],
    entered: impl Fn(&str) -> Option<&'e str>,
) -> Result<Option<Value>, String> {
    if fields.is_empty() {
        return match entered("body").map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => Value::from_json_str(text)
                .map(Some)
                .map_err(|error| format!("The body must be JSON: {error}.")),
        };
    }
    let mut body = Object::new();
    for field in fields {
        let text = entered(&format!("field.{}", field.name)).unwrap_or_default();
        match field.kind.value(text) {
            Ok(Some(value)) => drop(body.insert(field.name.as_str(), value)),
            Ok(None) => {}
            Err(why) => return Err(format!("'{}' {why}.", field.name)),
        }
    }
    Ok(Some(body.into()))
}

/// What was entered into a form that was refused, and why.
#[derive(Clone, Copy, Debug)]
pub struct Refilled<'a> {
    /// The trigger whose form it is.
    pub trigger: &'a str,
    /// The fields, by the names of their elements.
    pub entered: &'a [(String, String)],
    /// What is wrong.
    pub message: &'a str,
}

impl<'a> Refilled<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.entered.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The fields as elements of a form, with what was entered before.
pub(super) fn inputs(fields: &[Field], before: Option<Refilled<'_>>) -> Markup {
    let entered = |name: &str| before.and_then(|before| before.get(name)).unwrap_or_default();
    html! {
        @if let Some(before) = before {
            p class="error" role="alert" id="refused" tabindex="-1" { (clean(before.message)) }
        }
        @if fields.is_empty() {
            label { "Body as JSON"
                textarea name="body" rows="6" spellcheck="false" placeholder="{}"
                    aria-invalid=[before.map(|_| "true")] aria-describedby=[before.map(|_| "refused")] autofocus[before.is_some()] {
                    // A parser of HTML drops the first line break.
                    @if entered("body").starts_with(['\n', '\r']) { "\n" }
                    (entered("body"))
                }
            }
        }
        @for field in fields {
            @let name = format!("field.{}", field.name);
            @let known = entered(&name);
            @let title = clean(&field.name);
            label {
                span { (title) @if field.is_required { " " abbr title="required" { "*" } } }
                @match &field.kind {
                    FieldKind::Text => input name=(name) value=(known) required[field.is_required] autocomplete="off";,
                    FieldKind::Number(whole) => input type="number" name=(name) value=(known) step=(if *whole { "1" } else { "any" }) required[field.is_required];,
                    FieldKind::Switch => select name=(name) { option value="" { "Not given" } @for choice in ["true", "false"] { option selected[choice == known] { (choice) } } },
                    FieldKind::Choice(choices) => select name=(name) { option value="" { "Not given" } @for choice in choices { option selected[choice == known] { (choice) } } },
                    FieldKind::Json => textarea name=(name) rows="3" spellcheck="false" placeholder="JSON" { @if known.starts_with(['\n', '\r']) { "\n" } (known) },
                }
                @if !field.description.is_empty() { span class="muted" { (clean(&field.description)) } }
            }
        }
    }
}

/// Whether a schema says anything.
pub(super) fn has_fields(schema: Option<&Value>) -> Vec<Field> {
    schema.filter(|schema| present(schema, "properties").is_some()).map(fields_of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        Value::from_json_str(
            r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer", "description": "The order"},
             "tier": {"enum": ["gold", 2]}, "paid": {"type": "boolean"}, "note": {"type": "string"}, "lines": {"type": "array"}, "rate": {"type": "number"}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_body_is_made_from_what_was_entered() {
        let fields = fields_of(&schema());
        let given = [
            ("field.id", "7"),
            ("field.tier", "\"gold\""),
            ("field.paid", "true"),
            ("field.note", ""),
            ("field.lines", "[1]"),
            ("field.rate", "1.5"),
        ];
        let entered = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        let body = body_of(&fields, entered).unwrap().unwrap();
        assert_eq!(body.to_json_text(), r#"{"id":7,"tier":"gold","paid":true,"lines":[1],"rate":1.5}"#);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fields = fields_of(&schema());
        let wrong = |name: &'static str, text: &'static str| {
            body_of(&fields, move |asked| (asked == name).then_some(text)).unwrap_err()
        };
        assert_eq!(wrong("field.id", "seven"), "'id' must be a whole number (got 'seven').");
        assert_eq!(wrong("field.tier", "3"), "'tier' must be one of the choices.");
        assert_eq!(wrong("field.rate", "true"), "'rate' must be a number (got 'true').");
        assert!(wrong("field.lines", "[").starts_with("'lines' must be JSON ("));
    }

    #[test]
    fn without_properties_the_body_is_json() {
        assert_eq!(fields_of(&Value::default()), []);
        assert_eq!(body_of(&[], |_| Some(" ")).unwrap(), None);
        assert_eq!(body_of(&[], |_| Some("[1]")).unwrap().unwrap().to_json_text(), "[1]");
        assert!(body_of(&[], |_| Some("{")).unwrap_err().starts_with("The body must be JSON: "));
    }
}
