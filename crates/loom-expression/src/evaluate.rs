//! Evaluates compiled expressions with a context.

use std::ops::Range;

use crate::{
    Budget, Code, Context, Error, Kind, Labels, Limits, LookupError, Name, Object, Template, TemplateError,
    Value, ValueRef, budget,
    compile::{AccessExpr, CallExpr, Expr, Part, Step},
    envelope,
    error::Failure,
    functions::{Arguments, Body, Cost, Function, Lazy, Outcome, Secrecy, arguments},
    suggest,
    value::TextBuilder,
};

/// The evaluation of one string.
#[derive(Clone, Copy)]
pub(crate) struct Evaluation<'a> {
    pub(crate) context: &'a dyn Context,
    pub(crate) limits: &'a Limits,
    pub(crate) budget: &'a Budget,
    /// The source of the string, which messages quote.
    pub(crate) source: &'a str,
}

impl Evaluation<'_> {
    /// Evaluates an expression.
    #[inline]
    pub(crate) fn expr(&self, expr: &Expr) -> Outcome {
        match expr {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Call(call) => self.call(call),
            Expr::Access(access) => self.access(access),
            Expr::Operand(operand) => self.operand(&operand.0, &operand.1),
            Expr::Misfit(misfit) => Err(misfitted(misfit)),
        }
    }

    #[inline(never)]
    fn operand(&self, template: &Template, pointer: &str) -> Outcome {
        template.evaluate_within(self.context, self.limits, self.budget).map_err(|error| {
            let inner = error.pointer.as_deref().unwrap_or_default();
            Box::new(Error { pointer: Some(format!("{pointer}{inner}")), ..error })
        })
    }

    /// Evaluates an interpolated string.
    pub(crate) fn interpolation(&self, parts: &[Part]) -> Outcome {
        let mut text = TextBuilder::default();
        let mut labels = Labels::NONE;
        self.budget.pay(parts.len() as u64)?;
        for part in parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Expression(expr) => {
                    let value = self.expr(expr)?;
                    labels |= value.labels_within();
                    self.budget.pay_value(&value)?;
                    envelope::push_text(&value, &mut text);
                }
            }
            if text.len() > self.limits.text_bytes_max {
                let message =
                    format!("The string would have more than {} bytes.", self.limits.text_bytes_max);
                return Err(Error::new(Code::LimitExceeded, message));
            }
        }
        Ok(text.finish().labelled(labels))
    }

    fn call(&self, call: &CallExpr) -> Outcome {
        self.budget.pay(1)?;
        match call.function.body {
            // Up to a few arguments are kept on the stack, in an array of exactly their number.
            Body::Plain(body) => match &*call.arguments {
                [] => self.plain(call, body, &mut []),
                [only] => self.plain(call, body, &mut [self.expr(only)?]),
                [first, second] => self.plain(call, body, &mut [self.expr(first)?, self.expr(second)?]),
                [first, second, third] => {
                    self.plain(call, body, &mut [self.expr(first)?, self.expr(second)?, self.expr(third)?])
                }
                many => self.plain_many(call, body, many),
            },
            Body::Pair(pair, body) => match &*call.arguments {
                [first, second] => self.pair(call, pair, body, first, second),
                many => self.plain_many(call, body, many),
            },
            Body::AskByName(ask) => self.ask_by_name(call, ask),
            Body::Ask(ask) => match ask(self.context) {
                Ok(value) => Ok(value),
                Err(error) => Err(placed(lookup_failed(call.function, None, error), &call.span)),
            },
            Body::Lazy(lazy) => self.lazy(call, lazy).map_err(|failure| placed(failure, &call.span)),
        }
    }

    /// Calls a function that only reads its two arguments, so that constants are not cloned.
    #[inline]
    fn pair(
        &self,
        call: &CallExpr,
        pair: fn(&Value, &Value) -> Option<Value>,
        body: fn(&mut Arguments<'_>) -> Outcome,
        first: &Expr,
        second: &Expr,
    ) -> Outcome {
        let (computed_first, computed_second);
        let left = match first {
            Expr::Constant(value) => value,
            first => {
                computed_first = self.expr(first)?;
                &computed_first
            }
        };
        let right = match second {
            Expr::Constant(value) => value,
            second => {
                computed_second = self.expr(second)?;
                &computed_second
            }
        };
        if left.is_plain() && right.is_plain() {
            return match pair(left, right) {
                Some(value) => Ok(value),
                None => self.plain_cold(call, body, left, right),
            };
        }
        self.budget.pay(budget::whole(left).saturating_add(budget::whole(right)))?;
        match pair(left, right) {
            Some(value) => Ok(value.labelled(left.labels_within() | right.labels_within())),
            None => self.plain_cold(call, body, left, right),
        }
    }

    #[cold]
    fn plain_cold(
        &self,
        call: &CallExpr,
        body: fn(&mut Arguments<'_>) -> Outcome,
        left: &Value,
        right: &Value,
    ) -> Outcome {
        self.plain(call, body, &mut [left.clone(), right.clone()])
    }

    #[inline(never)]
    fn plain_many(&self, call: &CallExpr, body: fn(&mut Arguments<'_>) -> Outcome, many: &[Expr]) -> Outcome {
        let mut values = many.iter().map(|argument| self.expr(argument)).collect::<Result<Vec<_>, _>>()?;
        self.plain(call, body, &mut values)
    }

    #[inline]
    fn plain(
        &self,
        call: &CallExpr,
        body: fn(&mut Arguments<'_>) -> Outcome,
        values: &mut [Value],
    ) -> Outcome {
        let function = call.function;
        // Arguments without labels and heap data cost no steps, and most calls have only such arguments.
        let labels =
            if values.iter().all(Value::is_plain) { Labels::NONE } else { self.weigh(call, values)? };
        let mut arguments = Arguments {
            values,
            context: self.context,
            limits: self.limits,
            budget: self.budget,
            function,
            slot: call.slot,
        };
        match body(&mut arguments) {
            Ok(value) if labels.is_empty() && value.is_plain() => Ok(value),
            Ok(value) => self.checked(call, value, labels),
            Err(failure) => Err(placed(withheld(failure, function, labels), &call.span)),
        }
    }

    /// Spends the steps for the arguments of a call, and returns their labels.
    #[inline(never)]
    fn weigh(&self, call: &CallExpr, values: &[Value]) -> Result<Labels, Failure> {
        self.budget.pay(cost(call.function, values)).map_err(|failure| placed(failure, &call.span))?;
        Ok(values.iter().map(Value::labels_within).collect())
    }

    /// Checks the depth and the size of a result, and adds the labels of the arguments.
    #[inline(never)]
    fn checked(&self, call: &CallExpr, value: Value, labels: Labels) -> Outcome {
        let function = call.function;
        if value.depth() > self.limits.depth_max {
            return Err(placed(too_deep(function.info.name, self.limits.depth_max), &call.span));
        }
        if value.bytes() > self.limits.value_bytes_max {
            return Err(placed(too_heavy(function, self.limits.value_bytes_max), &call.span));
        }
        Ok(if function.secrecy == Secrecy::Mix { value.labelled(labels) } else { value })
    }

    fn ask_by_name(&self, call: &CallExpr, ask: fn(&dyn Context, Name<'_>) -> crate::Lookup) -> Outcome {
        let computed;
        let name = match &call.arguments[0] {
            Expr::Constant(name) => name,
            argument => {
                computed = self.expr(argument)?;
                &computed
            }
        };
        let Some((text, labels)) = name.as_labelled_str() else {
            return Err(placed(arguments::wrong_type(call.function, 0, "a string", name.kind()), &call.span));
        };
        match ask(self.context, Name { text, slot: call.slot }) {
            Ok(value) => Ok(value.labelled(labels)),
            Err(error) => {
                let failure = lookup_failed(call.function, Some(name), error);
                Err(placed(withheld(failure, call.function, labels), &call.span))
            }
        }
    }

    #[inline(never)]
    fn lazy(&self, call: &CallExpr, lazy: Lazy) -> Outcome {
        let boolean = |at: usize, value: &Value| {
            value.as_bool().ok_or_else(|| arguments::wrong_type(call.function, at, "a boolean", value.kind()))
        };
        // The evaluated conditions decide the result, so the result receives their labels.
        let mut labels = Labels::NONE;
        match lazy {
            Lazy::If => {
                let condition = self.expr(&call.arguments[0])?;
                let branch = if boolean(0, &condition)? { 1 } else { 2 };
                Ok(self.expr(&call.arguments[branch])?.labelled(condition.labels()))
            }
            Lazy::And | Lazy::Or => {
                let stop = matches!(lazy, Lazy::Or);
                for (at, argument) in call.arguments.iter().enumerate() {
                    let value = self.expr(argument)?;
                    labels |= value.labels_within();
                    if boolean(at, &value)? == stop {
                        return Ok(Value::from(stop).labelled(labels));
                    }
                }
                Ok(Value::from(!stop).labelled(labels))
            }
            Lazy::Coalesce => {
                for argument in &call.arguments {
                    let value = self.expr(argument)?;
                    if !value.is_null() {
                        return Ok(value.labelled(labels));
                    }
                    labels |= value.labels();
                }
                Ok(Value::NULL.labelled(labels))
            }
            Lazy::Concat => self.concat(call),
        }
    }

    /// Appends each argument as soon as it is evaluated, so that constants are not cloned and values not collected.
    fn concat(&self, call: &CallExpr) -> Outcome {
        const COMPUTED_BYTES: usize = 24;
        let sizes = call.arguments.iter().map(|argument| match argument {
            Expr::Constant(value) => value.as_str().map_or(COMPUTED_BYTES, str::len),
            _ => COMPUTED_BYTES,
        });
        let limit = self.limits.text_bytes_max;
        let mut text = TextBuilder::with_capacity(sizes.sum::<usize>().min(limit));
        let mut labels = Labels::NONE;
        for argument in &call.arguments {
            let computed;
            let value = match argument {
                Expr::Constant(value) => value,
                argument => {
                    computed = self.expr(argument)?;
                    &computed
                }
            };
            labels |= value.labels_within();
            self.budget.pay_value(value)?;
            envelope::push_text(value, &mut text);
            if text.len() > limit {
                return Err(arguments::too_large(call.function, "bytes", limit));
            }
        }
        Ok(text.finish().labelled(labels))
    }

    /// Follows the accesses by reference and clones only the final value.
    fn access(&self, access: &AccessExpr) -> Outcome {
        let owned;
        let mut at = match &access.target {
            Expr::Constant(value) => value,
            target => {
                owned = self.expr(target)?;
                &owned
            }
        };
        let mut labels = Labels::NONE;
        for step in &access.steps {
            let computed;
            let key = match &step.key {
                Expr::Constant(key) => key,
                key => {
                    computed = self.expr(key)?;
                    &computed
                }
            };
            labels |= key.labels_within();
            match self.step(at, key, step, access.start) {
                Ok(Some(member)) => at = member,
                Ok(None) => {
                    // The absence of a property also reveals something about a secret object.
                    labels |= at.labels();
                    at = const { &Value::NULL };
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(at.clone().labelled(labels))
    }

    /// The accessed value, with the labels of the value it was taken from.
    fn step<'v>(
        &self,
        target: &'v Value,
        key: &Value,
        step: &Step,
        start: u32,
    ) -> Result<Option<&'v Value>, Failure> {
        let found = match (target.as_ref(), key.as_ref()) {
            (ValueRef::Object(object), ValueRef::String(name)) => {
                object.get_ignore_case(name).or_else(|| along_path(object, name))
            }
            (ValueRef::Array(items), ValueRef::Int(index)) => {
                usize::try_from(index).ok().and_then(|index| items.get(index))
            }
            (ValueRef::Null, _) => None,
            _ => return Err(self.access_failed(target, key, step, start)),
        };
        match found {
            None if !step.optional => Err(self.access_failed(target, key, step, start)),
            found => Ok(found),
        }
    }

    #[cold]
    fn access_failed(&self, target: &Value, key: &Value, step: &Step, start: u32) -> Failure {
        let quoted = self.source.get(start as usize..step.span.end as usize).unwrap_or_default();
        let shown = if key.contains_secret() { "<secret>".into() } else { key.text() };
        let because = match (target.as_ref(), key.as_ref()) {
            // The names and the number of items or properties in a secret are secret too.
            (ValueRef::Object(_), ValueRef::String(_)) if target.is_secret() => {
                (Code::NoProperty, format!("property '{shown}' doesn't exist"))
            }
            (ValueRef::Array(_), ValueRef::Int(_)) if target.is_secret() => {
                (Code::OutOfRange, format!("array index '{shown}' is outside bounds"))
            }
            (ValueRef::Object(object), ValueRef::String(_)) => {
                let available = quoted_list(object.keys().map(|key| &**key));
                (
                    Code::NoProperty,
                    format!("property '{shown}' doesn't exist, available properties are '{available}'"),
                )
            }
            (ValueRef::Array(items), ValueRef::Int(_)) => {
                let range = match items.len() {
                    0 => "the array is empty".to_owned(),
                    length => format!("the indexes of the array are 0 to {}", length - 1),
                };
                (Code::OutOfRange, format!("array index '{shown}' is outside bounds, {range}"))
            }
            (ValueRef::Null, _) => (
                Code::NullTarget,
                format!("property '{shown}' cannot be selected: the value it is read from is null"),
            ),
            (ValueRef::Array(_), _) => (
                Code::NoAccess,
                format!(
                    "property '{shown}' cannot be selected. Array elements can only be selected using an integer index, not a key of type '{}'",
                    key.kind()
                ),
            ),
            (ValueRef::Object(_), _) => (
                Code::NoAccess,
                format!(
                    "'{shown}' cannot be selected. Object properties can only be selected by a name, not by a key of type '{}'",
                    key.kind()
                ),
            ),
            _ => (
                Code::NoAccess,
                format!(
                    "property '{shown}' cannot be selected. Property selection is not supported on values of type '{}'",
                    target.kind()
                ),
            ),
        };
        let (code, because) = because;
        let message =
            format!("The template language expression '{quoted}' cannot be evaluated because {because}.");
        placed(Error::new(code, message), &(start..step.span.end))
    }
}

/// The value at a path such as `body/value`, which definitions with connectors use, if the object has no property with
/// this name.
fn along_path<'v>(object: &'v Object, path: &str) -> Option<&'v Value> {
    let (first, rest) = path.split_once('/')?;
    let inner = object.get_ignore_case(first)?.as_object()?;
    inner.get_ignore_case(rest).or_else(|| along_path(inner, rest))
}

/// The failure of a call with too few or too many arguments.
#[cold]
fn misfitted(misfit: &TemplateError) -> Failure {
    let mut failure = Error::new(misfit.code, misfit.message.clone());
    failure.span = Some(misfit.span.clone());
    failure
}

/// Sets the span of a failure unless it has one further inside.
#[cold]
fn placed(mut failure: Failure, span: &Range<u32>) -> Failure {
    failure.span.get_or_insert(span.start as usize..span.end as usize);
    failure
}

/// The failure of a function whose arguments have these labels. If they are secret, the message is replaced unless it
/// only names types and limits, because any other message may quote the arguments.
#[cold]
fn withheld(mut failure: Failure, function: &Function, labels: Labels) -> Failure {
    if labels.contains(Labels::SECRET)
        && !matches!(
            failure.code,
            Code::WrongType | Code::LimitExceeded | Code::StepsExceeded | Code::DivisionByZero
        )
    {
        failure.message = format!(
            "The template language function '{}' cannot be evaluated. Its arguments are secret, so the reason is \
             not shown.",
            function.info.name
        );
    }
    failure
}

/// The steps that a call costs for its arguments, in addition to the one step of every call.
#[inline]
fn cost(function: &Function, values: &[Value]) -> u64 {
    let cost: fn(&Value) -> u64 = match function.cost {
        Cost::Flat => return 0,
        Cost::Items => budget::items,
        Cost::Whole => budget::whole,
    };
    values.iter().map(cost).fold(0, u64::saturating_add)
}

#[cold]
fn too_heavy(function: &Function, limit: u64) -> Failure {
    Error::new(
        Code::LimitExceeded,
        format!(
            "The template language function '{}' cannot be evaluated: its result would take more than {limit} bytes \
             of memory.",
            function.info.name
        ),
    )
}

fn too_deep(function: &str, limit: usize) -> Failure {
    Error::new(
        Code::LimitExceeded,
        format!(
            "The template language function '{function}' cannot be evaluated: its result would nest deeper than {limit} levels."
        ),
    )
}

/// Joins names for a message, and shortens a long list.
fn quoted_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_NAMES: usize = 30;
    let mut shown = String::new();
    for (at, name) in names.enumerate() {
        if at == SHOWN_NAMES {
            shown.push_str(", …");
            break;
        }
        if at > 0 {
            shown.push_str(", ");
        }
        shown.push_str(name);
    }
    shown
}

/// The failure for a look-up error of the context.
#[cold]
pub(crate) fn lookup_failed(function: &Function, name: Option<&Value>, error: LookupError) -> Failure {
    let what = function.info.name;
    let name = name.map(|name| if name.contains_secret() { "<secret>".into() } else { name.text() });
    let call = match &name {
        Some(name) => format!("{what}('{name}')"),
        None => format!("{what}()"),
    };
    let name = name.unwrap_or_default();
    let (code, because) = match error {
        LookupError::Unknown { available } => {
            let mut because = if available.is_empty() {
                format!("'{name}' doesn't exist")
            } else {
                let names = quoted_list(available.iter().map(|name| &**name));
                format!("'{name}' doesn't exist, available names are '{names}'")
            };
            if let Some(near) = suggest::nearest(&name, available.iter().map(|name| &**name)) {
                because.push_str("; did you mean '");
                because.push_str(near);
                because.push_str("'?");
            }
            (Code::UnknownName, because)
        }
        LookupError::NotRun => {
            (Code::NotRun, format!("the action '{name}' has not run, or has no result yet"))
        }
        LookupError::NotAvailable { why } => (Code::NotAvailable, why),
        LookupError::Ambiguous { why } => (Code::Ambiguous, why),
        LookupError::Failed { message } => (Code::Outside, message),
    };
    let end = if because.ends_with(['.', '?']) { "" } else { "." };
    Error::new(
        code,
        format!("The template language expression '{call}' cannot be evaluated because {because}{end}"),
    )
}

/// The failure of a condition that is not a boolean.
pub(crate) fn not_boolean(kind: Kind) -> Failure {
    Error::new(
        Code::NotBoolean,
        format!(
            "The result of the evaluation of the condition is of type '{kind}'. The result must be a valid boolean."
        ),
    )
}
