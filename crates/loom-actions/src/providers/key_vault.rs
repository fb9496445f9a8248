//! Azure Key Vault: secrets of a vault. A value that is read stays secret in the run.

use loom_expression::{Timestamp, Value};

use super::{
    Response,
    access::{Access, Given},
    below, members, text,
};
use crate::{Failure, requests::Spec, url::Url};

pub(super) fn access(given: &Given<'_>) -> Result<Access, String> {
    let address = given.required("VaultUri", "")?;
    Access::new(&address, given.token("https://vault.azure.net"))
}

pub(super) fn complete(
    operation: &str,
    parameters: &Value,
    address: &Url,
    spec: &mut Spec,
) -> Result<(), Failure> {
    let (name, version) = (text(parameters, "secretName"), text(parameters, "version"));
    spec.url = match operation {
        "listSecretMetadata" => below(address, &["secrets"])?,
        "getSecret" => below(address, &["secrets", &name])?,
        _ => below(address, &["secrets", &name, &version])?,
    };
    spec.queries = members([("api-version", "7.4".into())]);
    Ok(())
}

pub(super) fn received(response: &Response<'_>) -> Option<Value> {
    if !response.answer.is_success() {
        return None;
    }
    let body = response.body();
    if response.operation != "listSecretMetadata" {
        return Some(described(&body));
    }
    let items = body.get("value").and_then(Value::as_array)?;
    Some(items.iter().map(described).collect::<Vec<Value>>().into())
}

/// A secret as the provider describes it; its value only where the response has one.
fn described(secret: &Value) -> Value {
    let id = secret.get("id").and_then(Value::as_str).unwrap_or_default();
    let mut path = id.split_once("/secrets/").map(|(_, path)| path).unwrap_or_default().split('/');
    let (name, version) = (path.next().unwrap_or_default(), path.next());
    let of = |name: &str| secret.get(name).cloned().unwrap_or_default();
    let attribute =
        |name: &str| secret.get("attributes").and_then(|all| all.get(name)).cloned().unwrap_or_default();
    let time = |name: &str| match attribute(name).as_i64() {
        Some(seconds) => Timestamp::from_unix_millis(seconds.saturating_mul(1_000)).to_string().into(),
        None => Value::NULL,
    };
    let has_value = secret.get("value").is_some();
    members([
        ("identifier", if has_value { id.into() } else { Value::NULL }),
        ("value", secret.get("value").map_or(Value::NULL, |value| value.clone().into_secret())),
        ("name", name.into()),
        ("version", version.map_or(Value::NULL, Value::from)),
        ("contentType", of("contentType")),
        ("isEnabled", attribute("enabled")),
        ("createdTime", time("created")),
        ("lastUpdatedTime", time("updated")),
        ("validityStartTime", time("nbf")),
        ("validityEndTime", time("exp")),
    ])
}
