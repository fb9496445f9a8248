//! Binds parameters: checks supplied values against their declarations, and takes the others from defaults.

use std::{cell::RefCell, sync::Arc};

use loom_expression::{Context, JsonError, Lookup, LookupError, Name, Object, Template, Value};

use crate::{
    arm,
    diagnostic::{Diagnostic, Diagnostics, Severity, code, did_you_mean, json_type},
    lower::parameter_template,
    model::{Parameter, ValueType, Workflow, same_name},
};

#[cfg(test)]
mod tests;

impl ValueType {
    /// Interprets a value of this type that a user typed, for example `--param NAME=VALUE`. A string is taken literally,
    /// unless it is in JSON quotes. Any other type must be JSON; text that is not JSON is returned as a string, which then
    /// has the wrong type.
    ///
    /// # Errors
    /// The JSON error, if an array or an object is expected and the text is not JSON.
    pub fn read_text(self, text: &str) -> Result<Value, JsonError> {
        match (self, Value::from_json_str(text)) {
            (ValueType::String, Ok(value)) if value.as_str().is_none() => Ok(Value::from(text)),
            (_, Ok(value)) => Ok(value),
            (ValueType::Array | ValueType::Object, Err(error)) => Err(error),
            (_, Err(_)) => Ok(Value::from(text)),
        }
    }
}

impl Workflow {
    /// Finds the declaration of a parameter by name, ignoring case.
    pub fn find_parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| same_name(&parameter.name, name))
    }

    /// The value of each declared parameter, in order: the supplied value, else the default. Values may refer to
    /// `@appsetting('x')` and `@parameters('x')`. Values of secure parameters are marked secret.
    ///
    /// # Errors
    /// All problems at once: values of the wrong type or not among the `allowedValues`, values for undeclared parameters,
    /// parameters without a value, references to settings for which `app_setting` returns `None`. A message never contains a
    /// secure value.
    pub fn bind_parameters(
        &self,
        supplied: &Object,
        app_setting: &dyn Fn(&str) -> Option<Value>,
    ) -> Result<Vec<Value>, Diagnostics> {
        let binding = Binding {
            workflow: self,
            supplied,
            app_setting,
            done: RefCell::new(vec![Slot::Open; self.parameters.len()]),
        };
        let mut problems = Vec::new();
        let mut values = Vec::with_capacity(self.parameters.len());
        for (index, parameter) in self.parameters.iter().enumerate() {
            match binding.value(index) {
                Ok(value) => {
                    let is_supplied = supplied.keys().any(|name| same_name(name, &parameter.name));
                    problems.extend(check(parameter, &value, place(parameter, is_supplied)));
                    values.push(if parameter.secure { value.into_secret() } else { value });
                }
                Err(problem) => problems.push(*problem),
            }
        }
        for (name, _) in supplied {
            if !self.parameters.iter().any(|parameter| same_name(&parameter.name, name)) {
                problems.push(Diagnostic {
                    code: code::PARAMETER_UNDECLARED,
                    severity: Severity::Error,
                    message: format!("undeclared parameter `{name}`"),
                    pointer: "/parameters".to_owned(),
                    span: 0..0,
                    label: String::new(),
                    hint: Some(self.declared_instead(name)),
                    related: Vec::new(),
                });
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(Diagnostics(problems)) }
    }

    /// A hint for a parameter that is not declared: a similar name, otherwise all that are.
    fn declared_instead(&self, name: &str) -> String {
        let names = self.parameters.iter().map(|parameter| &*parameter.name);
        did_you_mean(name, names).unwrap_or_else(|| "the definition declares no parameters".to_owned())
    }
}

#[derive(Clone)]
enum Slot {
    Open,
    /// Being evaluated; to reach it again is a cycle.
    Busy,
    Done(Value),
}

struct Binding<'a> {
    workflow: &'a Workflow,
    supplied: &'a Object,
    app_setting: &'a dyn Fn(&str) -> Option<Value>,
    done: RefCell<Vec<Slot>>,
}

impl Binding<'_> {
    fn value(&self, index: usize) -> Result<Value, Box<Diagnostic>> {
        let parameter = &self.workflow.parameters[index];
        let before = std::mem::replace(&mut self.done.borrow_mut()[index], Slot::Busy);
        match before {
            Slot::Done(value) => {
                self.done.borrow_mut()[index] = Slot::Done(value.clone());
                return Ok(value);
            }
            Slot::Busy => {
                let message = format!("the value of parameter `{}` refers to itself", parameter.name);
                return Err(Box::new(about(parameter, code::PARAMETER_EXPRESSION, message)));
            }
            Slot::Open => {}
        }
        let supplied = self.supplied.get_ignore_case(&parameter.name).or_else(|| {
            self.supplied.iter().find(|(name, _)| same_name(name, &parameter.name)).map(|(_, value)| value)
        });
        let template: Template = match (supplied, &parameter.default) {
            (Some(value), _) => parameter_template(value),
            (None, Some(default)) => default.clone(),
            (None, None) => {
                let message = format!("parameter `{}` has no value and no default", parameter.name);
                let mut problem = about(parameter, code::PARAMETER_MISSING, message);
                problem.hint =
                    Some(format!("supply a value, for example `--param {}=VALUE`", parameter.name));
                return Err(Box::new(problem));
            }
        };
        let value = match template.as_constant() {
            Some(value) => value.clone(),
            None => template.evaluate(self).map_err(|error| {
                let place = place(parameter, supplied.is_some());
                let message =
                    format!("cannot evaluate the value of parameter `{}`{place}: {error}", parameter.name);
                Box::new(about(parameter, code::PARAMETER_EXPRESSION, message))
            })?,
        };
        self.done.borrow_mut()[index] = Slot::Done(value.clone());
        Ok(value)
    }
}

impl Context for Binding<'_> {
    fn parameter(&self, name: Name<'_>) -> Lookup {
        let parameters = &self.workflow.parameters;
        let Some(index) = parameters.iter().position(|parameter| same_name(&parameter.name, name.text))
        else {
            let available = parameters.iter().map(|parameter| Arc::clone(&parameter.name)).collect();
            return Err(LookupError::Unknown { available });
        };
        let secure = parameters[index].secure;
        match self.value(index) {
            Ok(value) if secure => Ok(value.into_secret()),
            Ok(value) => Ok(value),
            Err(problem) => Err(LookupError::Failed { message: problem.message }),
        }
    }

    fn app_setting(&self, name: &str) -> Lookup {
        (self.app_setting)(name).ok_or(LookupError::Unknown { available: Vec::new() })
    }
}

/// Where the value of a parameter is from, as it follows in a message: nothing if it is from the definition or was supplied.
fn place(parameter: &Parameter, is_supplied: bool) -> &'static str {
    if parameter.from_file && !is_supplied { " in parameters.json" } else { "" }
}

fn check(parameter: &Parameter, value: &Value, place: &str) -> Option<Diagnostic> {
    // A parameter of any type may be null if its default is null.
    if value.is_null()
        && parameter.default.as_ref().and_then(Template::as_constant).is_some_and(Value::is_null)
    {
        return None;
    }
    // An unresolved template expression was already reported.
    if value.as_str().is_some_and(arm::is_expression) {
        return None;
    }
    if !parameter.kind.accepts(value) {
        let message = format!(
            "parameter `{}` has type {}, but its value{place} is {}",
            parameter.name,
            parameter.kind.as_str(),
            json_type(value)
        );
        let mut problem = about(parameter, code::PARAMETER_TYPE, message);
        problem.hint =
            Some("values are not converted, except that an integer is accepted as a float".to_owned());
        return Some(problem);
    }
    if let Some(allowed) = &parameter.allowed
        && !allowed.iter().any(|allowed| allowed.wdl_equals(value))
    {
        let message =
            format!("the value of parameter `{}`{place} is not one of its `allowedValues`", parameter.name);
        let mut problem = about(parameter, code::PARAMETER_NOT_ALLOWED, message);
        if !parameter.secure {
            let shown: Vec<String> = allowed.iter().take(10).map(Value::to_json_text).collect();
            problem.hint = Some(format!("allowed values: {}", shown.join(", ")));
        }
        return Some(problem);
    }
    None
}

fn about(parameter: &Parameter, code: &'static str, message: String) -> Diagnostic {
    Diagnostic {
        code,
        severity: Severity::Error,
        message,
        pointer: parameter.pointer.to_string(),
        span: parameter.span.clone(),
        label: String::new(),
        hint: None,
        related: Vec::new(),
    }
}
