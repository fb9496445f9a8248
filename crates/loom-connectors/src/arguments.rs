//! The arguments of a call: the `parameters` of an action, matched with what an operation takes.

use std::sync::Arc;

use loom_expression::{Object, Value, nearest};

use crate::{
    Error, Problem, Step,
    bounds::Budget,
    document::Document,
    error::kind_of,
    field::Location,
    operation::{Body, Operation, Parameter},
    schema::{self, Checker},
};

/// Matches arguments with an operation.
pub(crate) struct Binding<'a> {
    pub(crate) document: &'a Document,
    pub(crate) operation: &'a Operation,
    /// Whether a value is one, and not an expression that is still to be evaluated.
    pub(crate) is_known: &'a dyn Fn(&Value) -> bool,
    /// The address for notifications; `None` when nothing is subscribed to.
    pub(crate) notification_url: Option<&'a str>,
}

/// The values of an operation's parameters, checked and converted.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// By the index of the parameter.
    pub(crate) values: Vec<(usize, Value)>,
    pub(crate) body: Option<Value>,
}

/// A body that is put together from several arguments.
struct Assembled {
    value: Option<Value>,
    /// Where each argument went: its path in the body, and its name as written.
    origins: Vec<(Vec<String>, Arc<str>)>,
    /// Whether the whole body is an expression that is still to be evaluated.
    is_unknown: bool,
    /// Whether every argument was null.
    is_null: bool,
}

impl Binding<'_> {
    /// # Errors
    /// [`Error::Arguments`] with everything that is wrong.
    pub(crate) fn bind(&self, arguments: &Value) -> Result<Bound, Error> {
        if !(self.is_known)(arguments) {
            return Ok(Bound::default());
        }
        let empty = Object::new();
        let arguments = match arguments.as_object() {
            Some(arguments) => arguments,
            None if arguments.is_null() => &empty,
            None => {
                let message = format!("`parameters` must be an object, found {}", kind_of(arguments));
                return Err(Error::Arguments(vec![Problem::new(&[], message)]));
            }
        };
        let body = self.operation.body.as_ref().filter(|_| !self.operation.has_form());
        let mut problems = Vec::new();
        let mut given: Vec<Option<(Arc<str>, Value)>> = vec![None; self.operation.parameters.len()];
        let mut assembled = Assembled { value: None, origins: Vec::new(), is_unknown: false, is_null: true };
        for (key, value) in arguments {
            if self.is_parameter(key, value, &mut given) {
                continue;
            }
            match body {
                Some(body) if self.is_of_body(key, value, body, &mut assembled, &mut problems)? => {}
                _ => problems.push(self.unknown(key)),
            }
        }
        let budget = Budget::for_value(arguments);
        let mut checker = Checker::new(self.document, self.is_known, self.notification_url, budget);
        checker.problems = problems;
        let mut bound = Bound::default();
        for (at, (parameter, given)) in self.operation.parameters.iter().zip(given).enumerate() {
            if let Some(value) = self.value_of(parameter, given, &mut checker)? {
                bound.values.push((at, value));
            }
        }
        if let Some(body) = body {
            bound.body = Self::body_of(body, assembled, &mut checker)?;
        }
        if checker.problems.is_empty() { Ok(bound) } else { Err(Error::Arguments(checker.problems)) }
    }

    fn is_parameter(&self, key: &Arc<str>, value: &Value, given: &mut [Option<(Arc<str>, Value)>]) -> bool {
        let all = &self.operation.parameters;
        let exact = all.iter().any(|parameter| *parameter.name == **key);
        let mut found = false;
        // One argument serves all parameters of its name, wherever they are in the request.
        for (parameter, given) in all.iter().zip(given.iter_mut()) {
            let is_it =
                if exact { *parameter.name == **key } else { parameter.name.eq_ignore_ascii_case(key) };
            if is_it {
                *given = Some((Arc::clone(key), value.clone()));
                found = true;
            }
        }
        // The fields of a form in OpenAPI 3, as properties of its body.
        if !found
            && self.operation.has_form()
            && let Some(short) = key.strip_prefix("body/")
        {
            let at = all.iter().position(|parameter| parameter.name == short);
            if let Some(given) = at.and_then(|at| given.get_mut(at)) {
                *given = Some((Arc::clone(key), value.clone()));
                found = true;
            }
        }
        found
    }

    /// Adds an argument to the body, if it belongs there.
    fn is_of_body(
        &self,
        key: &Arc<str>,
        value: &Value,
        body: &Body,
        assembled: &mut Assembled,
        problems: &mut Vec<Problem>,
    ) -> Result<bool, Error> {
        let names = [body.name.as_str(), "body"];
        if names.iter().any(|name| key.eq_ignore_ascii_case(name)) {
            if !(self.is_known)(value) {
                assembled.is_unknown = true;
            }
            // Flat names take precedence over the same properties of a whole body, wherever they are written.
            let mut whole = value.clone();
            for (path, _) in &assembled.origins {
                if let Some(inner) = assembled.value.as_ref().and_then(|body| at_path(body, path)) {
                    whole = with_path(&whole, path, &inner);
                }
            }
            assembled.is_null &= value.is_null();
            assembled.value = Some(whole);
            assembled.origins.push((Vec::new(), Arc::clone(key)));
            return Ok(true);
        }
        let rest = names.iter().find_map(|name| {
            let prefix = key.get(..name.len())?;
            prefix
                .eq_ignore_ascii_case(name)
                .then(|| key.get(name.len()..))?
                .and_then(|rest| rest.strip_prefix('/'))
        });
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else { return Ok(false) };
        let path = schema::flat_steps(self.document, &body.schema, rest)?;
        if let Some(message) = schema::unknown_flat_name(self.document, &body.schema, &path, &body.name)? {
            problems.push(Problem::new(&[Step::Name(key.to_string())], message));
            return Ok(true);
        }
        let whole = assembled.value.take().unwrap_or_default();
        assembled.value = Some(with_path(&whole, &path, value));
        assembled.origins.push((path, Arc::clone(key)));
        assembled.is_null &= value.is_null();
        Ok(true)
    }

    fn unknown(&self, key: &str) -> Problem {
        let mut names: Vec<String> =
            self.operation.parameters.iter().map(|parameter| parameter.name.clone()).collect();
        if let Some(body) = self.operation.body.as_ref().filter(|_| !self.operation.has_form()) {
            names.push(body.name.clone());
            let properties =
                schema::properties(self.document, &body.schema, &mut Budget::new()).unwrap_or_default();
            names.extend(properties.into_iter().map(|(name, _)| format!("{}/{name}", body.name)));
        }
        // The name of a property without that of the body is a common slip.
        let near = names.iter().find(|name| name.rsplit('/').next() == Some(key)).map(String::as_str);
        let near = near.or_else(|| nearest(key, names.iter().map(String::as_str)));
        let hint = near.map_or_else(
            || {
                let listed: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
                if listed.is_empty() {
                    format!("; operation `{}` takes none", self.operation.id)
                } else {
                    format!("; operation `{}` takes {}", self.operation.id, listed.join(", "))
                }
            },
            |near| format!("; did you mean `{near}`?"),
        );
        Problem::new(&[Step::Name(key.to_owned())], format!("unknown parameter `{key}`{hint}"))
    }

    fn value_of(
        &self,
        parameter: &Parameter,
        given: Option<(Arc<str>, Value)>,
        checker: &mut Checker<'_>,
    ) -> Result<Option<Value>, Error> {
        if parameter.notification && given.as_ref().is_none_or(|(_, value)| value.is_null()) {
            return Ok(self.notification_url.map(Value::from));
        }
        let Some((key, value)) = given.filter(|(_, value)| !value.is_null()) else {
            if (parameter.required || parameter.internal)
                && let Some(default) =
                    parameter.default(self.document).filter(|default| !schema::is_expression(default))
            {
                return Ok(Some(default));
            }
            if parameter.required {
                let message = format!("required parameter `{}` is missing", parameter.name);
                checker.problems.push(Problem::new(&[], message));
            }
            return Ok(None);
        };
        let mut path = vec![Step::Name(key.to_string())];
        let value = checker.check(&value, &parameter.schema, &parameter.name, &mut path)?;
        if parameter.location == Location::Path && value.as_str().is_some_and(str::is_empty) {
            let message = format!("`{}` must not be empty, because it is a part of the path", parameter.name);
            checker.problems.push(Problem::new(&path, message));
        }
        Ok(Some(value))
    }

    fn body_of(body: &Body, assembled: Assembled, checker: &mut Checker<'_>) -> Result<Option<Value>, Error> {
        if assembled.is_unknown {
            return Ok(assembled.value);
        }
        let Some(value) = assembled.value.filter(|value| !value.is_null()) else {
            // A body of constants alone needs no argument.
            let object: Value = Object::new().into();
            let before = checker.problems.len();
            let filled = checker.check(&object, &body.schema, &body.name, &mut Vec::new())?;
            let has_constants = filled.as_object().is_some_and(|filled| !filled.is_empty());
            if !body.required {
                let is_complete = checker.problems.len() == before;
                checker.problems.truncate(before);
                return Ok((is_complete && has_constants).then_some(filled));
            }
            if checker.problems.len() == before && !has_constants && assembled.origins.is_empty() {
                let message = format!("required parameter `{}` is missing", body.name);
                checker.problems.push(Problem::new(&[], message));
            }
            return Ok(Some(filled));
        };
        let before = checker.problems.len();
        let value = checker.check(&value, &body.schema, &body.name, &mut Vec::new())?;
        for problem in checker.problems.iter_mut().skip(before) {
            problem.path = as_written(&problem.path, &assembled.origins);
        }
        // Nothing was given: neither is a body.
        let is_empty = value.as_object().is_some_and(Object::is_empty);
        Ok(Some(value).filter(|_| !(assembled.is_null && is_empty && !body.required)))
    }
}

/// A path in the body as a path in the arguments: the argument that is nearest to it, and the rest below.
fn as_written(path: &[Step], origins: &[(Vec<String>, Arc<str>)]) -> Vec<Step> {
    let is_prefix = |origin: &[String]| {
        origin.len() <= path.len()
            && origin.iter().zip(path).all(|(name, step)| matches!(step, Step::Name(step) if step == name))
    };
    let nearest =
        origins.iter().filter(|(origin, _)| is_prefix(origin)).max_by_key(|(origin, _)| origin.len());
    let Some((origin, key)) = nearest else { return Vec::new() };
    let mut written = vec![Step::Name(key.to_string())];
    written.extend_from_slice(path.get(origin.len()..).unwrap_or_default());
    written
}

fn at_path(value: &Value, path: &[String]) -> Option<Value> {
    path.iter().try_fold(value, |value, name| value.get(name)).cloned()
}

/// A copy of a value with another at the end of a path of properties.
fn with_path(value: &Value, path: &[String], inner: &Value) -> Value {
    let Some((first, rest)) = path.split_first() else { return inner.clone() };
    let mut members = value.as_object().cloned().unwrap_or_default();
    let below = members.get(first).cloned().unwrap_or_default();
    members.insert(first.as_str(), with_path(&below, rest, inner));
    members.into()
}
