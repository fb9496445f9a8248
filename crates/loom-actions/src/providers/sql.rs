//! SQL through Data API builder, which offers tables and stored procedures of a database as a REST API.

use loom_expression::{Object, Value};

use super::{
    Response,
    access::{Access, Given},
    below, members, text,
};
use crate::{Failure, requests::Spec, url::Url};

pub(super) fn access(given: &Given<'_>) -> Result<Access, String> {
    let address = given.base_url().ok_or(
        "it needs a 'baseUrl': the address of Data API builder, such as https://data.example.com/api. Loom does not speak the \
         protocol of databases.",
    )?;
    Access::new(address, Value::NULL)
}

pub(super) fn complete(
    operation: &str,
    parameters: &Value,
    address: &Url,
    spec: &mut Spec,
) -> Result<(), Failure> {
    let table = entity(&text(parameters, "tableName"));
    let object = |name: &str| parameters.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let wanted = object("columnValuesForWhereCondition");
    spec.queries = Value::NULL;
    spec.url = below(address, &[&table])?;
    match operation {
        "getRows" | "getRowsV2" => {
            let mut queries = object("queries");
            if !wanted.is_empty() {
                let secret = Value::from(wanted.clone()).contains_secret();
                queries.insert("$filter", Value::from(filter(&wanted)).secret_if(secret));
            }
            spec.queries = queries.into();
        }
        "insertRow" => spec.body = object("setColumns").into(),
        "updateRows" | "deleteRows" => {
            if wanted.is_empty() {
                return Err(Failure::bad_request(
                    "'columnValuesForWhereCondition' must have the columns of the primary key.",
                ));
            }
            let values: Vec<(String, String)> =
                wanted.iter().map(|(name, value)| (name.to_string(), value.text().into_owned())).collect();
            let key = values.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
            spec.url = below(address, &[table.as_str()].into_iter().chain(key).collect::<Vec<_>>())?;
            if operation == "updateRows" {
                spec.body = object("setColumns").into();
                // Without it, a row that is not there would be created.
                spec.add_plain_header("If-Match", "*");
            } else {
                spec.body = Value::NULL;
            }
        }
        _ => {
            spec.url = below(address, &[&entity(&text(parameters, "storedProcedureName"))])?;
            let own = object("storedProcedureParameters");
            let own = own.iter().map(|(name, value)| (name.trim_start_matches('@'), value.clone()));
            spec.body = own.collect::<Object>().into();
        }
    }
    Ok(())
}

/// The entity for `[dbo].[Orders]`, `dbo.Orders` or `Orders`: `Orders`.
fn entity(name: &str) -> String {
    let bare = name.replace(['[', ']'], "");
    bare.strip_prefix("dbo.").unwrap_or(&bare).to_owned()
}

/// An OData filter for rows with these values.
fn filter(wanted: &Object) -> String {
    let conditions = wanted.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} eq '{}'", text.replace('\'', "''")),
        None => format!("{name} eq {}", value.to_json_text()),
    });
    conditions.collect::<Vec<_>>().join(" and ")
}

pub(super) fn received(response: &Response<'_>) -> Option<Value> {
    if !response.answer.is_success() {
        return None;
    }
    let body = response.body();
    let rows = body.get("value").cloned();
    Some(match response.operation {
        "getRows" | "updateRows" => rows?,
        "getRowsV2" => members([("value", rows?)]),
        "insertRow" => rows?.index(0).cloned().unwrap_or_default(),
        "deleteRows" => Vec::<Value>::new().into(),
        _ => {
            let sets = rows.map_or_else(|| Object::new().into(), |rows| members([("Table1", rows)]));
            members([("resultSets", sets)])
        }
    })
}
