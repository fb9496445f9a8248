//! What surrounds definitions where they are loaded: the files of their project, and what the caller supplies.
//!
//! Every command and the server load definitions through [`Surroundings::load`], so that all of them find the same mistakes at the same
//! severity, and bind the same parameter values.

use std::sync::Arc;

use loom_expression::{Object, Value};

use crate::{
    diagnostic::Diagnostics,
    load::{Definition, LoadOptions, Loaded},
    model::{Parameter, ValueType, same_name},
};

/// The parameter that holds the connections of a definition.
const CONNECTIONS: &str = "$connections";

/// What surrounds a definition. The default surrounds it with nothing.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The content of `parameters.json`, unless [`LoadOptions::parameters_file`] holds another.
    pub parameters_file: Option<Value>,
    /// What `appsetting('name')` gives, labelled where it is secret; names ignore case.
    pub app_settings: Vec<(Arc<str>, Value)>,
    /// What definitions that declare `$connections` find there, beside what their own value names.
    pub connections: Value,
    /// Values for parameters, which take precedence over those of all files.
    pub parameters: Object,
    /// Values for parameters as somebody typed them, which take precedence over `parameters`. They are also values for the
    /// parameters of a deployment template.
    pub typed_parameters: Vec<(Arc<str>, String)>,
    /// Values for the parameters of a deployment template.
    pub template_parameters: Object,
    /// Whether several definitions share `parameters` and `typed_parameters`. A name that a definition does not declare is
    /// then meant for another one; otherwise it is an error.
    pub shared: bool,
}

/// A definition with the values of its parameters.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The definition.
    pub loaded: Loaded,
    /// The values, in the order of the declarations.
    pub parameters: Vec<Value>,
}

impl Surroundings {
    /// Loads a definition and binds its parameters. A mistake in an expression is an error, unless the definition was
    /// [accepted before](LoadOptions::accepted_before).
    ///
    /// # Errors
    /// Everything that is wrong with the definition and the values, warnings included.
    pub fn load(&self, bytes: &[u8], options: &LoadOptions) -> Result<Bound, Diagnostics> {
        let mut options = options.clone();
        options.strict_expressions = !options.accepted_before;
        if options.parameters_file.is_none() {
            options.parameters_file.clone_from(&self.parameters_file);
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

    /// Supplies the typed values that a deployment template declares, and gives their names.
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
        workflow.bind_parameters(&values, &|name| {
            let mut settings = self.app_settings.iter();
            let found = settings.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| Value::from(value.text().into_owned()).labelled(value.labels()))
        })
    }
}

/// A text that is not of the type stays a text, and is refused with its place.
fn read_typed(kind: ValueType, text: &str) -> Value {
    kind.read_text(text).unwrap_or_else(|_| Value::from(text))
}

/// The values in a parameters file of a deployment template: `{"parameters": {name: {"value": …}}}`, or only the inner object.
/// A parameter that refers to a vault has no value there.
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

/// Completes the value of the parameter `$connections`: what a definition's own value does not name is taken from
/// `known`, so that a definition may use a connection that only its operator knows.
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
