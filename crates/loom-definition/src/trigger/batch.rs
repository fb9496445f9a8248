//! Reads the configurations of a Batch trigger: what it collects, and when it releases a batch.

use std::sync::Arc;

use loom_expression::{Object, Value};

use super::{Recurrence, RecurrenceError};

/// One batch that a trigger collects.
#[derive(Clone, Debug)]
pub struct BatchConfiguration {
    /// The name by which senders refer to it.
    pub name: Arc<str>,
    /// Releases the batch when it has this many messages, 1–8,000.
    pub message_count: Option<u32>,
    /// Releases the batch when its messages have this many bytes in total, 1–83,886,080.
    pub batch_size: Option<u32>,
    /// Releases at these times whatever has been collected.
    pub recurrence: Option<Recurrence>,
}

/// A problem in the configuration of a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BatchError {
    /// The properties that lead to the value, from the inputs on.
    pub path: Vec<Arc<str>>,
    /// What is wrong with it.
    pub message: String,
    /// Whether the configuration is valid in the hosted service but not supported here.
    pub unsupported: bool,
}

impl BatchConfiguration {
    /// The most messages in one batch; further messages go into the next one.
    pub const MESSAGES_MAX: u32 = 8_000;

    /// The largest `batchSize`, in bytes.
    pub const BYTES_MAX: u32 = 80 << 20;

    /// Reads the inputs of a Batch trigger: `mode` and `configurations`, by name.
    ///
    /// # Errors
    /// The first problem, with the path to it.
    pub fn from_inputs(inputs: &Value) -> Result<Vec<BatchConfiguration>, BatchError> {
        let Some(object) = inputs.as_object() else {
            return Err(wrong(&[], "a Batch trigger needs `inputs` with `configurations`"));
        };
        let mode = present(object, "mode").map(Value::text);
        if let Some(mode) = mode.filter(|mode| !mode.eq_ignore_ascii_case("Inline")) {
            let message = format!("batches of mode `{mode}` are not supported; `mode` must be `Inline`");
            return Err(BatchError { unsupported: true, ..wrong(&["mode"], &message) });
        }
        let Some(all) = present(object, "configurations") else {
            return Err(wrong(&[], "a Batch trigger needs `configurations`"));
        };
        let all = all.as_object().filter(|all| !all.is_empty());
        let all = all.ok_or_else(|| {
            wrong(
                &["configurations"],
                "`configurations` must be a non-empty object with one property for each batch",
            )
        })?;
        all.iter().map(|(name, value)| configuration(name, value)).collect()
    }
}

fn configuration(name: &Arc<str>, value: &Value) -> Result<BatchConfiguration, BatchError> {
    let criteria = value.as_object().and_then(|value| present(value, "releaseCriteria"));
    let path = |member: &str| ["configurations", name, "releaseCriteria", member].map(Arc::from).to_vec();
    let Some(criteria) = criteria.and_then(Value::as_object) else {
        return Err(wrong(&["configurations", name], &format!("batch `{name}` needs `releaseCriteria`")));
    };
    let whole = |member: &str, most: u32| match present(criteria, member) {
        None => Ok(None),
        Some(value) => {
            let found = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            match found.filter(|found| (1..=i64::from(most)).contains(found)) {
                Some(found) => Ok(Some(found as u32)),
                None => Err(BatchError {
                    path: path(member),
                    message: format!(
                        "`{member}` must be an integer between 1 and {most} (got {})",
                        value.to_json_text()
                    ),
                    unsupported: false,
                }),
            }
        }
    };
    let recurrence = present(criteria, "recurrence").map(Recurrence::from_value).transpose();
    let recurrence = recurrence.map_err(|RecurrenceError { member, message, .. }| {
        let mut path = path("recurrence");
        path.extend((!member.is_empty()).then(|| Arc::from(member)));
        BatchError { path, message, unsupported: false }
    })?;
    let found = BatchConfiguration {
        name: Arc::clone(name),
        message_count: whole("messageCount", BatchConfiguration::MESSAGES_MAX)?,
        batch_size: whole("batchSize", BatchConfiguration::BYTES_MAX)?,
        recurrence,
    };
    if found.message_count.is_none() && found.batch_size.is_none() && found.recurrence.is_none() {
        let message = format!(
            "batch `{name}` would never be released; `releaseCriteria` needs `messageCount`, `batchSize` or `recurrence`"
        );
        return Err(wrong(&["configurations", name, "releaseCriteria"], &message));
    }
    Ok(found)
}

fn wrong(path: &[&str], message: &str) -> BatchError {
    let path = path.iter().map(|member| Arc::from(*member)).collect();
    BatchError { path, message: message.to_owned(), unsupported: false }
}

fn present<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.get_ignore_case(name).filter(|value| !value.is_null())
}
