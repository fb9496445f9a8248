//! Functions that read form fields and multipart bodies of actions and of the trigger.

use super::{Arguments, Body, Category, Function, Outcome, ex_in};
use crate::{LookupError, NameKind, ReferenceKind, Value, error::Failure, evaluate::lookup_failed, form};

const fn of_action(name: &'static str, body: fn(&mut Arguments<'_>) -> Outcome) -> Function {
    Function::new(Category::Workflow, name, (2, 2), Body::Plain(body))
        .mentions(ReferenceKind::ActionForm)
        .names(NameKind::Action)
}

const fn of_trigger(name: &'static str, body: fn(&mut Arguments<'_>) -> Outcome) -> Function {
    Function::new(Category::Workflow, name, (1, 1), Body::Plain(body)).mentions(ReferenceKind::Trigger)
}

/// A form with `a=1`, `b=2` and `b=3`.
const ACTION: &str = r#"{"actions": {"Form": {"outputs": {"body": {"$content-type": "application/x-www-form-urlencoded", "$content": "YT0xJmI9MiZiPTM="}}}}}"#;
const TRIGGER: &str = r#"{"trigger": {"outputs": {"body": {"$content-type": "application/x-www-form-urlencoded", "$content": "YT0xJmI9MiZiPTM="}}}}"#;
const PARTS: &str = r#"{"actions": {"Up": {"outputs": {"body": {"$content-type": "multipart/form-data", "$multipart": [{"headers": {}, "body": "x"}]}}}}, "trigger": {"outputs": {"body": {"$content-type": "multipart/form-data", "$multipart": [{"headers": {}, "body": "x"}]}}}}"#;

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    of_action("formDataValue", |arguments| single(arguments, &action_body(arguments)?, 1)).docs(
        "formDataValue(action: string, key: string) → string",
        "Returns the value of a field in the form in an action's body, or null if the field is missing. More than one field with this name is an error.",
    ).examples(&[ex_in(ACTION, "@formDataValue('Form', 'c')", "null"), ex_in(ACTION, "@formDataValue('Form', 'a')", r#""1""#), ex_in(ACTION, "@formDataValue('Form', 'b')", "error")]),
    of_action("formDataMultiValues", |arguments| all(arguments, &action_body(arguments)?, 1)).docs(
        "formDataMultiValues(action: string, key: string) → array of strings",
        "Returns all values of a field in the form in an action's body.",
    ).examples(&[ex_in(ACTION, "@formDataMultiValues('Form', 'b')", r#"["2","3"]"#)]),
    of_action("multipartBody", |arguments| part(arguments, &action_body(arguments)?, 1)).docs(
        "multipartBody(action: string, index: integer) → any",
        "Returns the body of a part of an action's multipart body. Parts are numbered from 0.",
    ).examples(&[ex_in(PARTS, "@multipartBody('Up', 0)", r#""x""#), ex_in(PARTS, "@multipartBody('Up', 1)", "error")]),
    of_trigger("triggerFormDataValue", |arguments| single(arguments, &trigger_body(arguments)?, 0)).docs(
        "triggerFormDataValue(key: string) → string",
        "Returns the value of a field in the form in the trigger's body, or null if the field is missing. More than one field with this name is an error.",
    ).examples(&[ex_in(TRIGGER, "@triggerFormDataValue('a')", r#""1""#)]),
    of_trigger("triggerFormDataMultiValues", |arguments| all(arguments, &trigger_body(arguments)?, 0)).docs(
        "triggerFormDataMultiValues(key: string) → array of strings",
        "Returns all values of a field in the form in the trigger's body.",
    ).examples(&[ex_in(TRIGGER, "@triggerFormDataMultiValues('b')", r#"["2","3"]"#)]),
    of_trigger("triggerMultipartBody", |arguments| part(arguments, &trigger_body(arguments)?, 0)).docs(
        "triggerMultipartBody(index: integer) → any",
        "Returns the body of a part of the trigger's multipart body. Parts are numbered from 0.",
    ).examples(&[ex_in(PARTS, "@triggerMultipartBody(0)", r#""x""#)]),
];

fn action_body(arguments: &Arguments<'_>) -> Result<Value, Failure> {
    let failed = |error: LookupError| lookup_failed(arguments.function, Some(arguments.get(0)), error);
    let outputs = arguments.context.action_outputs(arguments.name()?).map_err(failed)?;
    Ok(outputs.get("body").cloned().unwrap_or_default())
}

fn trigger_body(arguments: &Arguments<'_>) -> Result<Value, Failure> {
    let failed = |error: LookupError| lookup_failed(arguments.function, None, error);
    arguments.context.trigger_body().map_err(failed)
}

fn values(arguments: &Arguments<'_>, body: &Value, at: usize) -> Result<Vec<Value>, Failure> {
    let key = arguments.str(at)?;
    let fields = form::fields(body).ok_or_else(|| arguments.bad(at, "the body is not a form"))?;
    let labels = body.labels_within();
    let found = fields.into_iter().filter(|(name, _)| crate::context::same_name(name, key));
    Ok(found.map(|(_, value)| value.labelled(labels)).collect())
}

fn single(arguments: &Arguments<'_>, body: &Value, at: usize) -> Outcome {
    let mut found = values(arguments, body, at)?;
    match (found.pop(), found.len()) {
        (Some(value), 0) => Ok(value),
        (None, _) => Ok(Value::NULL),
        (Some(_), _) => {
            let all = arguments.function.info.name.replace("DataValue", "DataMultiValues");
            Err(arguments.bad(at, &format!("the form has more than one field with this name; use {all}()")))
        }
    }
}

fn all(arguments: &Arguments<'_>, body: &Value, at: usize) -> Outcome {
    values(arguments, body, at).map(Value::from)
}

fn part(arguments: &Arguments<'_>, body: &Value, at: usize) -> Outcome {
    let index = arguments.int(at)?;
    let parts = form::parts(body).ok_or_else(|| arguments.bad(at, "the body has no parts"))?;
    let part = usize::try_from(index).ok().and_then(|index| parts.get(index).cloned());
    let part = part.ok_or_else(|| match parts.len() {
        0 => arguments.bad(at, "the body has no parts"),
        count => arguments.bad(at, &format!("the index must be between 0 and {}", count - 1)),
    })?;
    Ok(part.get("body").cloned().unwrap_or_default().labelled(body.labels_within()))
}
