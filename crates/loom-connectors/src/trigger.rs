//! Operations that start runs: polled ones, and those that subscribe to notifications.

use loom_expression::{Object, Value};

use crate::{
    context::Context,
    document::Node,
    index::Entry,
    policy::Action,
    template::{Access, Scope, Source, Template, descend},
};

/// How an operation serves as a trigger, or as the subscription of an action.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Trigger {
    /// Whether one response or notification starts one run, or one for each item.
    pub kind: TriggerKind,
    /// Whether the service is given an address to notify. Otherwise it is polled.
    pub is_webhook: bool,
    /// How a subscription ends.
    pub unsubscribe: Option<Unsubscribe>,
    /// How the state of a polled trigger moves on; `None` when the service keeps it, in the `Location` of its responses.
    pub poll: Option<Poll>,
    /// What makes the trigger fire, for people.
    pub hint: String,
}

/// `x-ms-trigger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerKind {
    /// One run for each response or notification.
    Single,
    /// One run for each item of a response.
    Batch,
}

/// How a subscription ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsubscribe {
    /// By a `DELETE` of the address in the `Location` of the response to the subscription.
    Location,
    /// By an operation of the same path with one more parameter, which the response to the subscription has as a property.
    /// A `Location`, when there is one, takes precedence.
    Operation {
        /// The operation.
        id: String,
        /// Its parameter, and the property of the response.
        parameter: String,
    },
}

/// The policy `pollingtrigger`: what the next poll adds to its query.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    queries: Vec<(String, Template)>,
    items: Vec<Access>,
}

/// What a poll found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Polled {
    /// The items; the body itself when the description names no place for them.
    pub items: Value,
    /// The parameters for the query of the next poll. One that the response has no value for is absent, and keeps the value
    /// that it had.
    pub queries: Object,
}

impl Poll {
    /// Reads the response of a poll.
    pub fn read(&self, body: &Value) -> Polled {
        let scope = Response(body);
        let items = descend(body, &self.items).cloned().unwrap_or_default().labelled(body.labels());
        let has_items = items.as_array().is_none_or(|items| !items.is_empty()) && !items.is_null();
        let mut queries = Object::new();
        for (name, template) in self.queries.iter().filter(|_| has_items) {
            let value = template.evaluate(&scope);
            if !value.is_null() && value.as_str().is_none_or(|text| !text.is_empty()) {
                queries.insert(name.as_str(), value);
            }
        }
        Polled { items, queries }
    }
}

struct Response<'a>(&'a Value);

impl Scope for Response<'_> {
    fn value(&self, source: &Source) -> Value {
        match source {
            Source::TriggerBody | Source::Body => self.0.clone(),
            _ => Value::NULL,
        }
    }
}

/// What the extensions of a description say about an operation with this name and path. `is_webhook`: whether it takes an address
/// for notifications.
pub(crate) fn of_operation(
    context: &Context<'_>,
    (id, path): (&str, &str),
    node: &Node,
    item: &Node,
    is_webhook: bool,
) -> Option<Trigger> {
    let declared = node.text("x-ms-trigger").or_else(|| item.text("x-ms-trigger"));
    if declared.is_none() && !is_webhook {
        return None;
    }
    let is_batch = declared.is_some_and(|kind| kind.eq_ignore_ascii_case("batch"));
    let poll = context.policies(id).find_map(|policy| match &policy.action {
        Ok(Action::Poll { queries, items }) => Some(Poll { queries: queries.clone(), items: items.clone() }),
        _ => None,
    });
    Some(Trigger {
        kind: if is_batch { TriggerKind::Batch } else { TriggerKind::Single },
        is_webhook,
        unsubscribe: is_webhook.then(|| paired(context, path).unwrap_or(Unsubscribe::Location)),
        poll: poll.filter(|_| !is_webhook),
        hint: node.text("x-ms-trigger-hint").unwrap_or_default().to_owned(),
    })
}

/// The operation that ends a subscription: a `DELETE` of the same path with one more parameter.
fn paired(context: &Context<'_>, path: &str) -> Option<Unsubscribe> {
    let own = path.trim_end_matches('/');
    let parameter = |entry: &Entry| {
        let rest = entry.path().strip_prefix(own)?.strip_prefix("/{")?.strip_suffix('}')?;
        (!rest.contains('/')).then(|| rest.to_owned())
    };
    let deletes = context.entries.iter().filter(|entry| entry.is_method("delete"));
    let mut found = deletes.filter_map(|entry| Some((entry, parameter(entry)?)));
    let (entry, parameter) = found.next()?;
    Some(Unsubscribe::Operation { id: entry.id().to_owned(), parameter })
}
