//! The values that templates in a connections file may refer to.

use std::{cell::Cell, collections::BTreeMap, path::PathBuf};

use loom_expression::{
    Context, Lookup, LookupError, Masker, Name, NoNames, Options, Template, Value, context::same_name,
};

use crate::secrets::Secrets;

/// App settings and parameters by name, and secrets. The value of a parameter may itself be a template, or `{"type":
/// …, "value": …}` as in a `parameters.json`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The values of `appsetting('name')`.
    pub app_settings: BTreeMap<String, String>,
    /// The values of `parameters('name')`.
    pub parameters: BTreeMap<String, Value>,
    /// The values of `secret('name')`.
    pub secrets: Secrets,
    /// Learns the secrets that are read, to mask them.
    pub masker: Masker,
    /// The directory of the connections file, to which the paths of descriptions are relative.
    pub directory: Option<PathBuf>,
}

/// Limits how deeply parameters may refer to each other, and ends cycles.
const DEPTH_MAX: u32 = 16;

impl Sources {
    /// Evaluates every template in a value.
    ///
    /// # Errors
    /// A message that says which template failed, and why.
    pub fn evaluate(&self, value: &Value) -> Result<Value, String> {
        Scope { sources: self, depth: Cell::new(0) }.evaluate(value)
    }
}

struct Scope<'a> {
    sources: &'a Sources,
    depth: Cell<u32>,
}

impl Scope<'_> {
    fn evaluate(&self, value: &Value) -> Result<Value, String> {
        let template = Template::compile(value, &NoNames, &Options::default())
            .map_err(|errors| errors.first().map(|error| error.message.clone()).unwrap_or_default())?;
        template.evaluate(self).map_err(|error| error.to_string())
    }
}

impl Context for Scope<'_> {
    fn parameter(&self, name: Name<'_>) -> Lookup {
        let parameters = &self.sources.parameters;
        let found = parameters.iter().find(|(key, _)| same_name(key, name.text));
        let (_, value) = found.ok_or_else(|| LookupError::Unknown {
            available: parameters.keys().map(|key| key.as_str().into()).collect(),
        })?;
        let wrapped = value.get("type").is_some().then(|| value.get("value")).flatten();
        if self.depth.get() >= DEPTH_MAX {
            return Err(LookupError::Failed {
                message: format!("The parameter '{}' refers to itself.", name.text),
            });
        }
        self.depth.set(self.depth.get() + 1);
        let result = self.evaluate(wrapped.unwrap_or(value));
        self.depth.set(self.depth.get() - 1);
        result.map_err(|message| LookupError::Failed { message })
    }

    fn app_setting(&self, name: &str) -> Lookup {
        let settings = &self.sources.app_settings;
        let found = settings.iter().find(|(key, _)| same_name(key, name));
        found
            .map(|(_, value)| Value::from(value.as_str()))
            .ok_or_else(|| LookupError::Unknown { available: Vec::new() })
    }

    fn secret(&self, name: &str) -> Lookup {
        let value = self.sources.secrets.get(name).map(|text| Value::from(text).into_secret());
        value
            .inspect(|value| self.sources.masker.learn(value))
            .map_err(|error| LookupError::NotAvailable { why: error.whole_text() })
    }
}
