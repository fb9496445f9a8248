//! Calls every operation of a collection of descriptions, and has an independent judge accept the requests:
//! `connectors DIRECTORY JUDGES`.
//!
//! `JUDGES` is a file with the address of a server for each description, which validates the requests that it receives against
//! the very document and responds to invalid ones with `application/problem+json`. For each operation, arguments are made from
//! the description: once the required ones, once all. The requests go through the same code as those of actions.
//!
//! Then each argument is damaged, by leaving out a required one and by giving one a wrong type. Such calls must be refused
//! before a request is made.
//!
//! Prints counts, and each operation that is not covered, with the reason. Exits with 1 if fewer than 97 % of the operations
//! pass, or if a damaged call is not refused.

use std::{collections::BTreeMap, error::Error, fs, path::Path, process::ExitCode, sync::Arc};

use loom_actions::{Behaviour, Marks, Progress, Requests, Settings, Spec};
use loom_connectors::{Connection, Connector, Error as CallError, Field, Location, NoFiles};
use loom_expression::{Object, Timestamp, Value};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The least share of operations that must pass, in percent.
const LEAST: usize = 97;

const CALLBACK: &str = "https://loom.example.com/callback";

#[derive(Default)]
struct Tally {
    operations: usize,
    passed: usize,
    requests: usize,
    refused: usize,
    /// Operations that did not pass, with the reason.
    uncovered: BTreeMap<String, String>,
    /// Damaged calls that were not refused.
    accepted: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: connectors DIRECTORY JUDGES";
    let directory = arguments.next().ok_or(usage)?;
    let judges = Value::parse_json(&fs::read(arguments.next().ok_or(usage)?)?)?;
    let requests = Requests::new(Settings::default(), Arc::new(|| Timestamp::from_unix_millis(0)))?;
    let mut tally = Tally::default();
    for (name, judge) in judges.as_object().ok_or("JUDGES must contain an object")? {
        let connector = read(Path::new(&directory), name)?;
        let judge = judge.as_str().ok_or("an address must be a string")?;
        for entry in connector.operations() {
            tally.operations += 1;
            match judged(&requests, &connector, entry.id(), judge, &mut tally).await? {
                None => tally.passed += 1,
                Some(reason) => {
                    tally.uncovered.insert(format!("{name} {}", entry.id()), reason);
                }
            }
            damage(&connector, entry.id(), judge, &mut tally)?;
        }
    }
    Ok(report(&tally))
}

fn report(tally: &Tally) -> ExitCode {
    println!(
        "connectors: {} of {} operations passed with {} requests; {} damaged calls were refused",
        tally.passed, tally.operations, tally.requests, tally.refused
    );
    for (operation, reason) in &tally.uncovered {
        println!("connectors: not covered: {operation}: {reason}");
    }
    for call in &tally.accepted {
        println!("connectors: not refused: {call}");
    }
    if tally.passed * 100 < tally.operations * LEAST {
        println!("connectors: expected at least {LEAST} % to pass");
        return ExitCode::FAILURE;
    }
    if tally.accepted.is_empty() && tally.operations > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(directory: &Path, name: &str) -> Fallible<Connector> {
    let document = fs::read(directory.join(format!("{name}.swagger.json")))?;
    let properties = fs::read(directory.join(format!("{name}.properties.json"))).ok();
    Ok(Connector::read(name, &document, properties.as_deref(), Arc::new(NoFiles))?)
}

/// A connection with a value for each parameter.
fn connection(connector: &Connector, judge: &str) -> Connection {
    let mut parameters: Object = ["api_key", "token", "username", "password"]
        .into_iter()
        .map(|name| (name, Value::from("value")))
        .collect();
    for parameter in connector.connection_parameters() {
        let value = parameter.allowed.first().cloned().unwrap_or_else(|| "value".into());
        parameters.insert(parameter.name.as_str(), value);
    }
    Connection::new(parameters).with_base_url(judge)
}

/// Why an operation did not pass; `None` when it did.
async fn judged(
    requests: &Requests,
    connector: &Connector,
    id: &str,
    judge: &str,
    tally: &mut Tally,
) -> Fallible<Option<String>> {
    let connection = connection(connector, judge);
    for optional in [false, true] {
        let example = match connector.example(id, optional) {
            Ok(example) => example,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let call = match connector.call(id, &example.into(), &connection, Some(CALLBACK)) {
            Ok(call) => call,
            Err(error) => return Ok(Some(error.to_string())),
        };
        // The judge knows the description; what policies make of the request is for the service.
        if let Err(error) = call.request(&vec![Value::from("value"); call.lookups().len()]) {
            return Ok(Some(error.to_string()));
        }
        let spec = Spec::from_inputs(&call.described().to_inputs().into())?;
        let behaviour = Behaviour { no_polling: true, no_marks: true, ..Behaviour::default() };
        tally.requests += 1;
        let answer = match requests.perform(&spec, &Marks::default(), &behaviour, None).await {
            Ok(Progress::Final(answer) | Progress::Pending { answer, .. }) => answer,
            Err(failure) => return Ok(Some(failure.message.clone())),
        };
        if let Some(reason) = rejection(&answer.outputs) {
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

/// What the judge says about a request, if it rejected it.
fn rejection(outputs: &Value) -> Option<String> {
    let kind = outputs.get("headers")?.as_object()?.get_ignore_case("content-type")?.as_str()?;
    if !kind.starts_with("application/problem") {
        return None;
    }
    let body = outputs.get("body")?;
    let found = body.get("validation").and_then(Value::as_array);
    let found: Vec<String> =
        found.into_iter().flatten().filter_map(|one| Some(one.get("message")?.text().into_owned())).collect();
    let detail = body.get("detail").or_else(|| body.get("title")).map(Value::text).unwrap_or_default();
    Some(format!("the judge says: {}", if found.is_empty() { detail.into_owned() } else { found.join("; ") }))
}

/// Damages the arguments of a call in every way, and counts the calls that are refused.
fn damage(connector: &Connector, id: &str, judge: &str, tally: &mut Tally) -> Fallible<()> {
    let connection = connection(connector, judge);
    let (Ok(required), Ok(all)) = (connector.example(id, false), connector.example(id, true)) else {
        return Ok(());
    };
    if connector.operation(id)?.unsupported().is_empty() {
        let mut check = |what: String, damaged: Object| match connector.call(
            id,
            &damaged.into(),
            &connection,
            Some(CALLBACK),
        ) {
            Err(CallError::Arguments(_)) => tally.refused += 1,
            _ => tally.accepted.push(format!("{} {id}: {what}", connector.name())),
        };
        for field in connector.fields(id)? {
            if field.required
                && !field.internal
                && field.default.is_none()
                && let Some(damaged) = replaced(&required, &field, None)
            {
                check(format!("without {}", field.name), damaged);
            }
            if let Some(wrong) = wrong(&field)
                && let Some(damaged) = replaced(&all, &field, Some(&wrong))
            {
                check(format!("{} = {}", field.name, wrong.to_json_text()), damaged);
            }
        }
        let mut unknown = required.clone();
        unknown.insert("no-such-parameter", 1);
        check("an unknown parameter".to_owned(), unknown);
    }
    Ok(())
}

/// A value of another type than the field's; `None` when the description does not say which it has.
fn wrong(field: &Field) -> Option<Value> {
    match field.kind.split(' ').next()? {
        "string" | "file" => Some(Value::from(vec![Value::from(1)])),
        "integer" | "number" | "boolean" | "array" => Some("no value of this type".into()),
        "object" if field.location != Location::Body || field.name.contains('/') => Some(1.into()),
        _ => None,
    }
}

/// The arguments with another value for a field, or without it; `None` when they do not have the field.
fn replaced(arguments: &Object, field: &Field, value: Option<&Value>) -> Option<Object> {
    fn within(value: &Value, path: &[&str], new: Option<&Value>) -> Option<Value> {
        let mut members = value.as_object()?.clone();
        // The name of a property may contain the separator.
        for taken in (1..=path.len()).rev() {
            let name = path[..taken].join("/");
            let Some(inner) = members.get(&name).cloned() else { continue };
            match (&path[taken..], new) {
                ([], None) => drop(members.remove(&name)),
                ([], Some(new)) => drop(members.insert(name, new.clone())),
                (rest, new) => drop(members.insert(name, within(&inner, rest, new)?)),
            }
            return Some(members.into());
        }
        None
    }
    let path: Vec<&str> = field.name.split('/').collect();
    within(&arguments.clone().into(), &path, value)?.into_object()
}
