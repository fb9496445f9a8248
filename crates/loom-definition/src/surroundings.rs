//! Loads definitions together with their environment: the files of their project, and the values that a caller supplies.
//!
//! Every command and the server load definitions through [`Surroundings::load`], so that all of them report the same
//! problems with the same severity, and bind the same parameter values.

use std::sync::Arc;

use loom_expression::{Object, Value};

use crate::{
    diagnostic::{Diagnostic, Diagnostics, code},
    load::{Definition, Loaded},
    model::{Parameter, ValueType, same_name},
    options::LoadOptions,
    policy::Policies,
};

/// The parameter that contains the connections of a definition.
const CONNECTIONS: &str = "$connections";

/// The environment of a definition. By default, it is empty.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The content of `parameters.json`; [`LoadOptions::parameters_file`] takes precedence.
    pub parameters_file: Option<Value>,
    /// The values of `appsetting('name')`; secret ones are labelled. Names are case-insensitive.
    pub app_settings: Vec<(Arc<str>, Value)>,
    /// Connections for definitions that declare `$connections`, in addition to those of their own value.
    pub connections: Value,
    /// Values for parameters; they take precedence over those in files.
    pub parameters: Object,
    /// Values for parameters as a user typed them; they take precedence over `parameters`, and also apply to the parameters
    /// of an ARM template. See [`ValueType::read_text`].
    pub typed_parameters: Vec<(Arc<str>, String)>,
    /// Values for the parameters of an ARM template.
    pub template_parameters: Object,
    /// The named policies of `resilience.json`; empty if a project has no such file. Without them, references to policies are
    /// not checked.
    pub policies: Option<Arc<Policies>>,
    /// Whether several definitions share `parameters` and `typed_parameters`. If so, a value for an undeclared parameter is
    /// ignored, because it may be meant for another definition; otherwise it is an error.
    pub shared: bool,
}

/// A loaded definition with the values of its parameters.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The definition.
    pub loaded: Loaded,
    /// The values, in the order of the declarations.
    pub parameters: Vec<Value>,
}

impl Surroundings {
    /// Loads a definition and binds its parameters. Sets [`LoadOptions::strict_expressions`], unless the definition was
    /// [accepted before](LoadOptions::accepted_before).
    ///
    /// # Errors
    /// All errors and warnings about the definition and the values, if there is at least one error.
    pub fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Bound, Diagnostics> {
        let mut options = options.clone();
        options.strict_expressions = !options.accepted_before;
        if options.parameters_file.is_none() {
            options.parameters_file.clone_from(&self.parameters_file);
        }
        if options.policies.is_none() {
            options.policies.clone_from(&self.policies);
        }
        for (name, value) in &self.template_parameters {
            options.arm_parameters.insert(Arc::clone(name), value.clone());
        }
        let of_template = self.typed_for_template(bytes, &mut options);
        let loaded = Definition::parse(bytes, &options)?;
        match self.bind(&loaded, &of_template) {
            Ok(parameters) => Ok(Bound { loaded, parameters }),
            Err(problems) => {
                let mut all = loaded.warnings;
                all.extend(problems);
                Err(Diagnostics(all))
            }
        }
    }

    /// Supplies typed values to the parameters of an ARM template, and returns their names.
    fn typed_for_template(&self, bytes: &[u8], options: &mut LoadOptions) -> Vec<Arc<str>> {
        if self.typed_parameters.is_empty() {
            return Vec::new();
        }
        let declared = Definition::template_parameters(bytes, options);
        let mut names = Vec::new();
        for (name, text) in &self.typed_parameters {
            if let Some((known, kind)) = declared.iter().find(|(known, _)| same_name(known, name)) {
                options.arm_parameters.insert(Arc::clone(known), read_typed(*kind, text));
                names.push(Arc::clone(name));
            }
        }
        names
    }

    fn bind(&self, loaded: &Loaded, of_template: &[Arc<str>]) -> Result<Vec<Value>, Diagnostics> {
        let workflow = &loaded.workflow;
        let mut values = loaded.parameter_values.clone();
        let supply = |values: &mut Object, parameter: &Parameter, value: Value| {
            let name = values.name_ignore_case(&parameter.name).cloned();
            values.insert(name.unwrap_or_else(|| Arc::clone(&parameter.name)), value);
        };
        for (name, value) in &self.parameters {
            match workflow.find_parameter(name) {
                Some(parameter) => supply(&mut values, parameter, value.clone()),
                None if self.shared => {}
                None => drop(values.insert(Arc::clone(name), value.clone())),
            }
        }
        for (name, text) in &self.typed_parameters {
            match workflow.find_parameter(name) {
                Some(parameter) => supply(&mut values, parameter, read_typed(parameter.kind, text)),
                None if self.shared || of_template.contains(name) => {}
                None => drop(values.insert(Arc::clone(name), text.as_str())),
            }
        }
        if workflow.parameters.iter().any(|parameter| &*parameter.name == CONNECTIONS) {
            complete_connections(&mut values, &self.connections);
        }
        let bound = workflow.bind_parameters(&values, &|name| {
            let mut settings = self.app_settings.iter();
            let found = settings.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| Value::from(value.text().into_owned()).labelled(value.labels()))
        });
        bound.map_err(|mut problems| {
            for (name, _) in &self.typed_parameters {
                let message = format!("undeclared parameter `{name}`");
                let of_it = |problem: &&mut Diagnostic| {
                    problem.code == code::PARAMETER_UNDECLARED && problem.message == message
                };
                for problem in problems.0.iter_mut().filter(of_it) {
                    problem.message = format!("{message} (from `--param {name}`)");
                    // The mistake is in the argument, not at a place in the file.
                    problem.pointer.clear();
                }
            }
            problems
        })
    }
}

/// Interprets a typed value. Text that does not fit the type is returned as a string, and is then reported.
fn read_typed(kind: ValueType, text: &str) -> Value {
    kind.read_text(text).unwrap_or_else(|_| Value::from(text))
}

/// The values in the parameters file of an ARM template: `{"parameters": {name: {"value": …}}}`, or only the inner object.
/// Parameters that refer to a key vault are omitted.
pub fn template_parameters(file: &Value) -> Object {
    let inner = file.get("parameters").and_then(Value::as_object).or_else(|| file.as_object());
    let mut values = Object::new();
    for (name, entry) in inner.into_iter().flatten().filter(|(name, _)| !name.starts_with('$')) {
        match entry.as_object() {
            Some(object) => {
                if let Some(value) = object.get("value") {
                    values.insert(Arc::clone(name), value.clone());
                }
            }
            None => drop(values.insert(Arc::clone(name), entry.clone())),
        }
    }
    values
}

/// Adds the connections in `known` to the value of the parameter `$connections`, unless that value already has one of the
/// same name. So a definition may use a connection that only its operator knows.
pub fn complete_connections(values: &mut Object, known: &Value) {
    let name = values.name_ignore_case(CONNECTIONS).cloned().unwrap_or_else(|| CONNECTIONS.into());
    let own = values.get(&name).cloned().unwrap_or_default();
    let whole = match (own.as_object(), known.as_object()) {
        (Some(own), Some(known)) => {
            let missing = known.iter().filter(|(name, _)| own.get_ignore_case(name).is_none());
            own.iter().chain(missing).map(|(name, entry)| (Arc::clone(name), entry.clone())).collect()
        }
        (None, Some(known)) if own.is_null() => known.clone(),
        _ => return,
    };
    values.insert(name, whole);
}
