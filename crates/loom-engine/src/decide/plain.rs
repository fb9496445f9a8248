//! Actions without effects: variables and data operations.

use std::{borrow::Cow, sync::Arc};

use loom_definition::{
    Status, VariableIdx,
    model::{ActionKind, ValueType, VariableChange, VariableInit},
};
use loom_expression::{Limits, Object, Template, Value, ValueRef, envelope};

use super::Decider;
use crate::{
    data,
    event::{ErrorInfo, Event, Outcome, Place},
    names, types,
};

impl Decider<'_> {
    pub(super) fn initialize_variables(&mut self, place: Place, variables: &[VariableInit]) {
        let mut values = Vec::with_capacity(variables.len());
        for init in variables {
            let declared = &self.state.workflow.variables[init.variable.0 as usize];
            let value = match &init.value {
                None => types::empty(declared.kind),
                Some(template) => match self.evaluate(place, template) {
                    Ok(value) => value,
                    Err(error) => return self.fail_inputs(place, &error),
                },
            };
            let value = match (declared.kind, value.as_ref()) {
                // Documented: null becomes the empty string.
                (ValueType::String, ValueRef::Null) => Value::from(""),
                _ => value,
            };
            if init.value.is_some()
                && let Err(found) = types::check(declared.kind, &value)
            {
                let message = format!(
                    "The variable '{}' of type '{}' cannot be initialized with a value of type '{found}'.",
                    declared.name,
                    types::name(declared.kind)
                );
                return self
                    .end(place, Outcome::of_error(ErrorInfo::new("InvalidVariableInitialization", message)));
            }
            values.push((init.variable, value));
        }
        let labels = self.action(place).secure.labels_of_inputs();
        for (variable, value) in values {
            self.out.push(Event::VariableSet { variable, value: value.labelled(labels) });
        }
        self.end(place, Outcome { code: Cow::Borrowed("NotSpecified"), ..Outcome::ok(None) });
    }

    pub(super) fn change_variable(
        &mut self,
        place: Place,
        variable: VariableIdx,
        change: VariableChange,
        value: Option<&Template>,
    ) {
        let operand = match value {
            Some(template) => match self.evaluate(place, template) {
                Ok(value) => value.labelled(self.action(place).secure.labels_of_inputs()),
                Err(error) => return self.fail_inputs(place, &error),
            },
            None => Value::from(1i64),
        };
        match self.changed(variable, change, operand) {
            Ok((event, outputs)) => {
                self.out.push(event);
                self.end(place, Outcome { code: Cow::Borrowed("NotSpecified"), ..Outcome::ok(outputs) });
            }
            Err(message) => {
                let error = ErrorInfo::new("InvalidVariableOperation", message);
                self.end(place, Outcome::of_error(error));
            }
        }
    }

    /// The result of changing a variable: the event, and the action's outputs.
    fn changed(
        &self,
        variable: VariableIdx,
        change: VariableChange,
        operand: Value,
    ) -> Result<(Event, Option<Value>), String> {
        let declared = &self.state.workflow.variables[variable.0 as usize];
        let (name, kind) = (&declared.name, types::name(declared.kind));
        let Some(current) = &self.state.variables[variable.0 as usize] else {
            return Err(format!("The variable '{name}' must be initialized before it is used."));
        };
        if let Some(why) = self.state.unavailable.reason_in(current).filter(|_| change != VariableChange::Set)
        {
            return Err(format!("The variable '{name}' cannot be changed: {why}."));
        }
        let refuse = |what: &str| {
            let found = operand.kind();
            format!("The variable '{name}' of type '{kind}' cannot {what} a value of type '{found}'.")
        };
        match change {
            VariableChange::Set => {
                let value = match (declared.kind, operand.as_ref()) {
                    (ValueType::String, ValueRef::Null) => Value::from(""),
                    _ => operand.clone(),
                };
                types::check(declared.kind, &value).map_err(|_| refuse("be set to"))?;
                Ok((Event::VariableSet { variable, value }, None))
            }
            VariableChange::Increment | VariableChange::Decrement => {
                let value = counted(declared.kind, current, &operand, change).ok_or_else(|| {
                    refuse(if change == VariableChange::Increment {
                        "be incremented by"
                    } else {
                        "be decremented by"
                    })
                })?;
                let value = value.labelled(operand.labels() | current.labels());
                types::check(declared.kind, &value).map_err(|_| refuse("be changed by"))?;
                let counter = Object::pair(
                    (names::name(), Value::from(Arc::clone(name))),
                    (names::value(), value.clone()),
                );
                let outputs = Object::single(names::body(), Value::from(counter));
                Ok((Event::VariableSet { variable, value }, Some(outputs.into())))
            }
            VariableChange::AppendText => {
                if declared.kind != ValueType::String {
                    return Err(refuse("be extended by"));
                }
                let (before, added) = (current.text(), envelope::text(&operand));
                let most = self.environment.budgets.run_bytes_max;
                if (before.len() + added.len()) as u64 > most {
                    return Err(format!(
                        "The variable '{name}' would exceed {most} bytes (setting run-bytes-max)."
                    ));
                }
                let mut text = before.into_owned();
                text.push_str(&added);
                let value = Value::from(text).labelled(operand.labels_within() | current.labels());
                Ok((Event::VariableSet { variable, value }, None))
            }
            VariableChange::AppendItem => {
                if declared.kind != ValueType::Array {
                    return Err(refuse("be extended by"));
                }
                let most = Limits::default().depth_max;
                if operand.depth() >= most {
                    return Err(format!(
                        "The variable '{name}' would be nested more than {most} levels deep."
                    ));
                }
                Ok((Event::VariableAppended { variable, item: operand }, None))
            }
        }
    }

    pub(super) fn shape_data(&mut self, place: Place, kind: &ActionKind) {
        let scope = self.scope(place.opening);
        let result = match kind {
            ActionKind::ParseJson { content, schema } => data::parse_json(content, schema, &scope),
            ActionKind::Query { from, filter } => data::query(from, filter, &scope),
            ActionKind::Select { from, select } => data::select(from, select, &scope),
            ActionKind::Join { from, with } => data::join(from, with, &scope),
            ActionKind::Table { format, from, columns } => {
                data::table(*format, from, columns.as_deref(), &scope)
            }
            _ => return,
        };
        match result {
            Ok(body) => {
                let outputs = Object::single(names::body(), body);
                let outcome = Outcome::ok(Some(outputs.into()));
                self.end(
                    place,
                    match kind {
                        ActionKind::Query { .. } | ActionKind::Select { .. } => {
                            Outcome { code: Cow::Borrowed("NotSpecified"), ..outcome }
                        }
                        _ => outcome,
                    },
                );
            }
            Err(data::Failure::Template(error)) => self.fail_inputs(place, &error),
            Err(data::Failure::Filter { expression, error }) => {
                let message = format!(
                    "The execution of template action '{}' failed: The evaluation of 'query' action 'where' expression \
                     '{expression}' failed: '{error}'.",
                    self.action(place).name
                );
                let code = super::code_of(&error, "InvalidTemplate");
                self.end(place, Outcome::of_error(ErrorInfo::new(code, message)));
            }
            Err(data::Failure::Refused { code, message, outputs }) => {
                let error = ErrorInfo::new(code, message);
                let outcome = Outcome { outputs, status: Status::Failed, ..Outcome::of_error(error) };
                self.end(place, outcome);
            }
        }
    }
}

/// The counter after the change; none when the types do not allow it. A Float variable may hold a whole number.
fn counted(kind: ValueType, current: &Value, by: &Value, change: VariableChange) -> Option<Value> {
    let up = change == VariableChange::Increment;
    match (current.as_ref(), by.as_ref()) {
        (ValueRef::Int(current), ValueRef::Int(by)) => {
            let counted = if up { current.checked_add(by) } else { current.checked_sub(by) };
            counted.map(Value::from)
        }
        _ if kind == ValueType::Float => {
            let (current, by) = (current.as_f64()?, by.as_f64()?);
            Some(Value::from(if up { current + by } else { current - by }))
        }
        _ => None,
    }
}
