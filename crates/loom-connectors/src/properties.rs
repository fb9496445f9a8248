//! `apiProperties.json`: the parameters of a connection, the policies, and which operations run scripts.

use loom_expression::Value;

use crate::{Error, document::is_true, error::kind_of, parameter::ConnectionParameter, policy::Policy};

/// The content of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties {
    pub(crate) parameters: Vec<ConnectionParameter>,
    pub(crate) policies: Vec<Policy>,
    /// The operations that run a script. An empty list means all of them.
    pub(crate) scripts: Option<Vec<String>>,
}

impl Properties {
    pub(crate) fn from_value(value: &Value) -> Result<Properties, Error> {
        let shape = |place: &str, expected, found: &Value| Error::Shape {
            place: place.to_owned(),
            expected,
            found: kind_of(found).to_owned(),
        };
        let value = value.get("properties").unwrap_or(value);
        if value.as_object().is_none() {
            return Err(shape("properties", "an object", value));
        }
        let mut parameters = Vec::new();
        if let Some(declared) = value.get("connectionParameters").filter(|value| !value.is_null()) {
            let declared = declared.as_object();
            let declared = declared.ok_or_else(|| {
                shape(
                    "connectionParameters",
                    "an object",
                    &value.get("connectionParameters").cloned().unwrap_or_default(),
                )
            })?;
            parameters.extend(declared.iter().map(|(name, declared)| parameter(name, declared)));
        }
        // A connection has the parameters of one of the sets; which one, its parameters say.
        let sets = value
            .get("connectionParameterSets")
            .and_then(|sets| sets.get("values"))
            .and_then(Value::as_array);
        for set in sets.into_iter().flatten() {
            for (name, declared) in set.get("parameters").and_then(Value::as_object).into_iter().flatten() {
                if !parameters.iter().any(|known| known.name == **name) {
                    parameters.push(ConnectionParameter { required: false, ..parameter(name, declared) });
                }
            }
        }
        let policies = value.get("policyTemplateInstances").and_then(Value::as_array);
        let scripts = match value.get("scriptOperations").and_then(Value::as_array) {
            Some(operations) => {
                let named: Vec<String> =
                    operations.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                // An empty list has the script run for everything.
                Some(named)
            }
            None => value.get("script").is_some_and(|script| !script.is_null()).then(Vec::new),
        };
        Ok(Properties {
            parameters,
            policies: policies.into_iter().flatten().map(Policy::from_value).collect(),
            scripts,
        })
    }
}

fn parameter(name: &str, declared: &Value) -> ConnectionParameter {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let ui = declared.get("uiDefinition");
    let constraints = ui.and_then(|ui| ui.get("constraints"));
    let oauth = declared.get("oAuthSettings");
    let custom = |name: &str| {
        let custom = oauth?.get("customParameters")?.as_object()?;
        custom.get_ignore_case(name)?.get("value")?.as_str().map(str::to_owned)
    };
    let allowed =
        constraints.and_then(|constraints| constraints.get("allowedValues")).and_then(Value::as_array);
    let kind = text(declared.get("type"));
    let is_oauth = kind.eq_ignore_ascii_case("oauthSetting");
    let tenant = || {
        let login = custom("loginUri").or_else(|| custom("loginUriAAD"))?;
        Some(format!("{}/{{TenantId}}/oauth2/v2.0/token", login.trim_end_matches('/')))
    };
    let scopes = oauth.and_then(|oauth| oauth.get("scopes")).and_then(Value::as_array);
    ConnectionParameter {
        name: name.to_owned(),
        required: constraints.and_then(|constraints| constraints.get("required")).is_some_and(is_true),
        description: text(ui.and_then(|ui| ui.get("description")).or_else(|| ui?.get("displayName"))),
        default: constraints
            .and_then(|constraints| constraints.get("default"))
            .or_else(|| declared.get("defaultValue"))
            .filter(|default| !default.is_null())
            .cloned(),
        allowed: allowed
            .into_iter()
            .flatten()
            .map(|value| value.get("value").unwrap_or(value).clone())
            .collect(),
        token_url: is_oauth
            .then(|| {
                let urls = ["refreshUrlTemplate", "refreshUrl", "tokenUrlTemplate", "tokenUrl"];
                urls.into_iter().find_map(custom).or_else(tenant)
            })
            .flatten(),
        scopes: scopes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        kind,
    }
}
