//! Built-in service providers of Standard projects that are one HTTP API away: Azure Blob Storage, Service Bus, Event Grid, Key
//! Vault, and SQL through Data API builder.
//!
//! Each has a description of our own, so that its operations are listed, shown and checked like those of any connector, with
//! the names that Standard projects use. What a description cannot say is code here: how a connection string becomes an address
//! and credentials, what an operation sends beside its parameters, and what a flow sees of the response.

mod access;
mod azure_blob;
mod event_grid;
mod key_vault;
mod service_bus;
mod sql;

use std::sync::Arc;

use loom_connectors::{Connector, Error, NoFiles};
use loom_expression::{Object, Timestamp, Value};

use self::access::Access;
use crate::{
    Failure,
    requests::{Answer, Behaviour, Spec},
    url::Url,
};

/// A service provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    AzureBlob,
    ServiceBus,
    EventGridPublisher,
    KeyVault,
    Sql,
}

/// A connection of a service provider, ready to be used.
#[derive(Clone, Debug)]
pub(crate) struct BuiltIn {
    pub(crate) provider: Provider,
    access: Access,
}

impl Provider {
    /// The provider of an entry of `serviceProviderConnections`; `None` for those that need a protocol of their own.
    pub(crate) fn of_entry(entry: &Value) -> Option<Provider> {
        let id = entry.get("serviceProvider")?.get("id")?.as_str()?;
        Some(match id.rsplit('/').next()?.to_ascii_lowercase().as_str() {
            "azureblob" => Provider::AzureBlob,
            "servicebus" => Provider::ServiceBus,
            "eventgridpublisher" => Provider::EventGridPublisher,
            "keyvault" => Provider::KeyVault,
            "sql" => Provider::Sql,
            _ => return None,
        })
    }

    /// The connector of its description.
    pub(crate) fn connector(self, name: &str) -> Result<Connector, Error> {
        let (document, properties): (&[u8], &[u8]) = match self {
            Provider::AzureBlob => (
                include_bytes!("providers/azure-blob.swagger.json"),
                include_bytes!("providers/azure-blob.properties.json"),
            ),
            Provider::ServiceBus => (
                include_bytes!("providers/service-bus.swagger.json"),
                include_bytes!("providers/service-bus.properties.json"),
            ),
            Provider::EventGridPublisher => (
                include_bytes!("providers/event-grid-publisher.swagger.json"),
                include_bytes!("providers/event-grid-publisher.properties.json"),
            ),
            Provider::KeyVault => (
                include_bytes!("providers/key-vault.swagger.json"),
                include_bytes!("providers/key-vault.properties.json"),
            ),
            Provider::Sql => (
                include_bytes!("providers/sql.swagger.json"),
                include_bytes!("providers/sql.properties.json"),
            ),
        };
        Connector::read(name, document, Some(properties), Arc::new(NoFiles))
    }
}

impl BuiltIn {
    /// The connection of an evaluated entry of `serviceProviderConnections`.
    ///
    /// # Errors
    /// What the entry lacks.
    pub(crate) fn new(provider: Provider, entry: &Value) -> Result<BuiltIn, String> {
        let given = access::Given::of_entry(entry);
        let access = match provider {
            Provider::AzureBlob => azure_blob::access(&given),
            Provider::ServiceBus => service_bus::access(&given),
            Provider::EventGridPublisher => event_grid::access(&given),
            Provider::KeyVault => key_vault::access(&given),
            Provider::Sql => sql::access(&given),
        }?;
        Ok(BuiltIn { provider, access: given.overridden(access)? })
    }

    /// The address of the service.
    pub(crate) fn address(&self) -> &Url {
        &self.access.address
    }

    /// Makes the request of an operation the one that the service expects.
    ///
    /// # Errors
    /// [`Failure`] when the parameters cannot be sent.
    pub(crate) fn complete(
        &self,
        operation: &str,
        parameters: &Value,
        spec: &mut Spec,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let address = &self.access.address;
        match self.provider {
            Provider::AzureBlob => azure_blob::complete(operation, parameters, address, spec),
            Provider::ServiceBus => service_bus::complete(operation, parameters, address, spec),
            Provider::EventGridPublisher => {
                event_grid::complete(parameters, address, spec, now);
                Ok(())
            }
            Provider::KeyVault => key_vault::complete(operation, parameters, address, spec),
            Provider::Sql => sql::complete(operation, parameters, address, spec),
        }?;
        spec.authentication = self.access.authentication.clone();
        if !self.access.queries.is_empty() {
            let mut queries = spec.queries.as_object().cloned().unwrap_or_default();
            for (name, value) in &self.access.queries {
                queries.insert(Arc::clone(name), value.clone());
            }
            spec.queries = queries.into();
        }
        Ok(())
    }

    /// Adapts how the request is made: nothing that is Loom's own is sent to the service.
    pub(crate) fn adapt(&self, operation: &str, parameters: &Value, behaviour: &mut Behaviour) {
        behaviour.no_marks = true;
        behaviour.chunked = false;
        behaviour.no_polling = true;
        let reads_blob = self.provider == Provider::AzureBlob && operation == "readBlob";
        behaviour.untyped = reads_blob && !is_true(parameters.get("inferContentType"));
    }

    /// The response as the flow sees it.
    pub(crate) fn received(&self, operation: &str, parameters: &Value, answer: Answer) -> Answer {
        let response = Response { operation, parameters, answer: &answer };
        let body = match self.provider {
            Provider::AzureBlob => azure_blob::received(&response),
            Provider::ServiceBus => service_bus::received(&response),
            Provider::KeyVault => key_vault::received(&response),
            Provider::Sql => sql::received(&response),
            Provider::EventGridPublisher => None,
        };
        let Some(body) = body else { return answer };
        let mut outputs = answer.outputs.as_object().cloned().unwrap_or_default();
        // The only refusal that is an answer: a blob that is not there.
        let status = if answer.is_success() { answer.status } else { 200 };
        outputs.insert("statusCode", i64::from(status));
        outputs.insert("body", body);
        Answer { status, outputs: outputs.into(), ..answer }
    }
}

/// The response of an operation.
struct Response<'a> {
    operation: &'a str,
    parameters: &'a Value,
    answer: &'a Answer,
}

impl Response<'_> {
    fn body(&self) -> Value {
        self.answer.outputs.get("body").cloned().unwrap_or_default()
    }

    fn headers(&self) -> Object {
        self.answer.outputs.get("headers").and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

/// A parameter that the description requires, as text.
fn text(parameters: &Value, name: &str) -> String {
    parameters.get(name).map(|value| value.text().into_owned()).unwrap_or_default()
}

/// Whether a flag is set; flows write it as a boolean or as text.
fn is_true(value: Option<&Value>) -> bool {
    value.is_some_and(|value| {
        value.as_bool().unwrap_or_else(|| value.text().trim().eq_ignore_ascii_case("true"))
    })
}

/// A path below the address of a service, from segments that are encoded here. A segment of dots alone would lead elsewhere.
fn below(address: &Url, segments: &[&str]) -> Result<Url, Failure> {
    let encoded = segments.iter().map(|segment| match *segment {
        "." | ".." => segment.replace('.', "%2E"),
        segment => loom_expression::percent::encode(segment),
    });
    Ok(address.below(&encoded.collect::<Vec<_>>().join("/"))?)
}

fn members(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    pairs.into_iter().filter(|(_, value)| !value.is_null()).collect::<Object>().into()
}
