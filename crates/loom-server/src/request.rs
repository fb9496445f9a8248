//! Converts HTTP requests to trigger outputs: paths, queries, headers, bodies.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, Uri, header},
};
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use loom_engine::trace::TraceParent;
use loom_expression::{Object, Value, form, percent};

use crate::{received::Received, response::Problem, shared::Shared};

/// Query parameters that belong to the signed URL, not to the workflow.
pub(crate) const ADDRESS_QUERIES: [&str; 4] = ["api-version", "sp", "sv", "sig"];

/// Reads a body within the limits of the settings for size and time.
///
/// # Cancel safety
/// Dropping the future drops the body.
pub(crate) async fn read_body(body: Body, shared: &Shared) -> Result<Received, Problem> {
    read_body_up_to(body, shared, shared.settings.body_bytes_max).await
}

/// Like [`read_body`], with a limit of its own.
pub(crate) async fn read_body_up_to(
    body: Body,
    shared: &Shared,
    bytes_max: usize,
) -> Result<Received, Problem> {
    let reading = collect(Limited::new(body, bytes_max), shared.bodies.begin());
    let Ok(read) = tokio::time::timeout(shared.settings.body_timeout, reading).await else {
        let message = "The request body was not received in time.";
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message));
    };
    match read {
        Ok(received) => received,
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("The request body exceeds the limit of {bytes_max} bytes."),
        )),
        Err(error) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            format!("The request body is incomplete: {error}."),
        )),
    }
}

/// Collects a body, and counts its bytes as they arrive.
async fn collect(
    mut body: Limited<Body>,
    mut received: Received,
) -> Result<Result<Received, Problem>, Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if let Err(problem) = received.charge(data.len() as u64) {
            return Ok(Err(problem));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Ok(received.ended(bytes.freeze())))
}

/// The JSON body of an API request, if there is a body.
pub(crate) fn json(bytes: &[u8], shared: &Shared) -> Result<Option<Value>, Problem> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Problem::bad("The body is not valid JSON: it is not UTF-8."))?;
    let values_max = shared.host.engine.environment().budgets.json_values_max;
    Value::from_json_str_within(text, values_max).map(Some).map_err(|error| {
        if error.is_too_large {
            return too_many_values(&error.to_string());
        }
        Problem::bad(format!("The body is not valid JSON: {error}."))
    })
}

fn too_many_values(why: &str) -> Problem {
    let message = format!("The request body cannot be read: {why}.");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "JsonValuesExceeded", message)
}

/// The body as a value of the language, if there is one. Compressed bodies are rejected: their decoded size is not known.
pub(crate) fn decode_body(
    bytes: &[u8],
    headers: &HeaderMap,
    values_max: usize,
) -> Result<Option<Value>, Problem> {
    let packed = headers.get(header::CONTENT_ENCODING).map(|name| String::from_utf8_lossy(name.as_bytes()));
    if let Some(name) =
        packed.filter(|name| !name.trim().eq_ignore_ascii_case("identity") && !bytes.is_empty())
    {
        let message = format!("The content encoding '{name}' is not supported; send the body unencoded.");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    loom_actions::decode_within(bytes, kind, values_max).map_err(|error| {
        if error.is_too_large {
            return too_many_values(&error.reason);
        }
        let message = format!("The request body cannot be read: {error}.");
        Problem::new(StatusCode::BAD_REQUEST, "InvalidRequestContent", message)
    })
}

/// The trigger outputs of every request: `headers`, and `queries` if there are any.
pub(crate) fn outputs(uri: &Uri, headers: &HeaderMap) -> Object {
    let mut outputs = Object::new();
    outputs.insert("headers", headers_object(headers));
    let queries: Object = queries(uri).filter(|(name, _)| !ADDRESS_QUERIES.contains(&&**name)).collect();
    if !queries.is_empty() {
        outputs.insert("queries", queries);
    }
    outputs
}

/// Headers as definitions see them: standard names in their usual spelling, extensions (`x-…`) in lower case, repeated
/// ones joined with commas. Definitions that compare names would not expect the lower case of the HTTP library.
fn headers_object(headers: &HeaderMap) -> Object {
    let spelled = headers.keys().map(|name| {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (spelling(name.as_str()), values.join(","))
    });
    spelled.collect()
}

fn spelling(name: &str) -> String {
    if name.starts_with("x-") {
        return name.to_owned();
    }
    if name == "etag" {
        return "ETag".to_owned();
    }
    let word = |word: &str| {
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect::<String>()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// The trace context of the caller. An invalid or repeated `traceparent` is ignored.
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let state: Vec<&str> =
        headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok()).collect();
    TraceParent::parse(parent.to_str().ok()?.trim(), Some(&state.join(",")))
}

/// The query, decoded.
pub(crate) fn queries(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    let pairs = form::decode(uri.query().unwrap_or_default());
    pairs.into_iter().filter(|(name, value)| !(name.is_empty() && value.is_empty()))
}

/// Rejects unknown query parameters, so that a misspelt one is not silently ignored.
pub(crate) fn only(uri: &Uri, known: &[&str]) -> Result<(), Problem> {
    match queries(uri).find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) if known.is_empty() => {
            Err(Problem::bad(format!("Unknown query parameter '{name}'; this route has none.")))
        }
        Some((name, _)) => {
            let known = known.join("', '");
            Err(Problem::bad(format!("Unknown query parameter '{name}'; expected one of '{known}'.")))
        }
    }
}

/// One query parameter.
pub(crate) fn query(uri: &Uri, name: &str) -> Option<String> {
    queries(uri).find(|(known, _)| known == name).map(|(_, value)| value)
}

/// The decoded `{parameters}` of a trigger's relative path; None if the path does not match.
///
/// A `{parameter}` stands for one segment. `path` is still escaped, so that an escaped slash stays inside its segment.
pub(crate) fn relative_path(template: &str, path: &str) -> Option<Object> {
    let mut found = Object::new();
    let mut wanted = template.trim_matches('/').split('/');
    let mut given = path.trim_matches('/').split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(wanted), Some(given)) => {
                let given = percent::decode(given);
                match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(_) if given.is_empty() => return None,
                    Some(name) => {
                        found.insert(name, given);
                    }
                    None if percent::decode(wanted).eq_ignore_ascii_case(&given) => {}
                    None => return None,
                }
            }
            (Some(_), None) | (None, Some(_)) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
