//! What an entry of `serviceProviderConnections` says about the way to a service: connection strings, addresses, and who
//! fetches a token.

use loom_expression::{Object, Value};

use crate::url::Url;

/// The way to a service.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) address: Url,
    /// An `authentication` object, or null.
    pub(super) authentication: Value,
    /// What is added to every query: the parts of a shared access signature.
    pub(super) queries: Object,
}

impl Access {
    pub(super) fn new(address: &str, authentication: Value) -> Result<Access, String> {
        let address = Url::parse(address).map_err(|error| format!("{error}."))?;
        Ok(Access { address, authentication, queries: Object::new() })
    }
}

/// The members of an entry.
pub(super) struct Given<'a> {
    entry: &'a Value,
    parameters: Option<&'a Object>,
}

impl<'a> Given<'a> {
    pub(super) fn of_entry(entry: &'a Value) -> Given<'a> {
        Given { entry, parameters: entry.get("parameterValues").and_then(Value::as_object) }
    }

    /// A parameter of the connection, if it is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.parameters?.get_ignore_case(name).filter(|value| !value.is_null())?;
        Some(value.text().trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The address in a parameter that has to be there.
    pub(super) fn required(&self, name: &str, or: &str) -> Result<String, String> {
        self.text(name).ok_or_else(|| format!("its `parameterValues` have no '{name}'{or}."))
    }

    /// The address that the operator gives instead of the provider's own.
    pub(super) fn base_url(&self) -> Option<&'a str> {
        self.entry.get("baseUrl").and_then(Value::as_str)
    }

    /// The access with the operator's own address and credentials, where the entry has them.
    pub(super) fn overridden(&self, mut access: Access) -> Result<Access, String> {
        if let Some(address) = self.base_url() {
            access.address = Url::parse(address).map_err(|error| format!("{error}."))?;
        }
        if let Some(own) = self.entry.get("authentication").filter(|own| !own.is_null()) {
            access.authentication = own.clone();
        }
        Ok(access)
    }

    /// The `authentication` of a service that takes tokens: that of `authProvider`, or the managed identity.
    pub(super) fn token(&self, audience: &str) -> Value {
        let provider = self.parameters.and_then(|parameters| parameters.get_ignore_case("authProvider"));
        let mut members = Object::new();
        // The language spells these names in lower case, the files of projects often in upper case.
        for (name, value) in provider.and_then(Value::as_object).into_iter().flatten() {
            let mut letters = name.chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            members.insert(first.into_iter().chain(letters).collect::<String>(), value.clone());
        }
        if !members.contains_key("type") {
            members.insert("type", "ManagedServiceIdentity");
        }
        if !members.contains_key("audience") {
            members.insert("audience", audience);
        }
        members.into()
    }
}

/// The settings in a connection string, `Name=value;Name=value`.
pub(super) struct ConnectionString(Vec<(String, String)>);

impl ConnectionString {
    pub(super) fn parse(text: &str) -> ConnectionString {
        let settings = text.split(';').filter_map(|setting| setting.split_once('='));
        // Keys are base64 and may end in `=`, which belongs to the value.
        ConnectionString(
            settings
                .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("its connection string has no '{name}'."))
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}
