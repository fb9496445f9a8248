//! Pagination: lists that a service returns in pages, each with the URL of the next.

use std::collections::HashSet;

use loom_expression::{Array, Value};

use super::{Answer, Behaviour, Requests, Spec};
use crate::{Failure, auth::Credentials, client::Reply, headers::Marks};

/// The result of the first request.
pub(super) struct First<'a> {
    pub(super) answer: Answer,
    pub(super) reply: &'a Reply,
    /// The least number of items that the action needs.
    pub(super) minimum: u64,
}

const NEXT: [&str; 2] = ["nextLink", "@odata.nextLink"];

impl Requests {
    /// Follows the pages until there are enough items, and puts all of them into the `value` of the first page.
    ///
    /// The URL of the next page is kept in the response when there are more items than were requested, and is
    /// removed otherwise. A page that fails is the result: a partial list with a success status would be mistaken for
    /// a whole one.
    pub(super) async fn pages(
        &self,
        first: First<'_>,
        spec: &Spec,
        credentials: &Credentials,
        marks: &Marks,
        behaviour: &Behaviour,
    ) -> Result<Answer, Failure> {
        let First { mut answer, reply, minimum } = first;
        let Some(mut body) = answer.outputs.get("body").and_then(Value::as_object).cloned() else {
            return Ok(answer);
        };
        let (list, links) = names(behaviour);
        let Some(mut items) = body.get(list).and_then(Value::as_array).cloned() else { return Ok(answer) };
        let mut base = reply.url.clone();
        let mut next = next_link(&Value::from(body.clone()), &links);
        let mut bytes = reply.body.len();
        let mut seen = HashSet::new();
        while let Some(link) = next.take() {
            if items.len() as u64 >= minimum {
                next = Some(link);
                break;
            }
            let url = base.join(&link)?;
            if !seen.insert(url.to_string()) || seen.len() >= self.settings.pages_max {
                return Err(Failure::lasting(
                    "BadGateway",
                    format!(
                        "The pages of '{}' do not end: {} pages were read.",
                        spec.url.shown(),
                        seen.len()
                    ),
                ));
            }
            let request = self.follow_up(url, spec, marks, behaviour)?;
            let reply = self.send(request, spec, credentials).await?;
            let page = self.answer(&reply).await?;
            if !page.is_success() {
                return Ok(page);
            }
            bytes += reply.body.len();
            if bytes > self.settings.client.body_bytes_max {
                return Err(Failure::lasting(
                    "ResponseTooLarge",
                    format!(
                        "The pages of '{}' exceed the limit of {} bytes in total.",
                        spec.url.shown(),
                        self.settings.client.body_bytes_max
                    ),
                ));
            }
            base = reply.url.clone();
            let page = page.outputs.get("body").cloned().unwrap_or_default();
            append(&mut items, &page, list);
            next = next_link(&page, &links);
        }
        body.insert(list, items);
        let name = links.iter().find_map(|name| body.name_ignore_case(name)).cloned();
        match (name, next) {
            (Some(name), Some(link)) => {
                body.insert(name, link);
            }
            (Some(name), None) => {
                body.remove(&name);
            }
            (None, _) => {}
        }
        if let Some(mut outputs) = answer.outputs.as_object().cloned() {
            outputs.insert("body", body);
            answer.outputs = outputs.into();
        }
        Ok(answer)
    }
}

/// The property with the items, and those that may have the address of the next page: as a description says, or as the
/// language does.
fn names(behaviour: &Behaviour) -> (&str, Vec<&str>) {
    match &behaviour.paging {
        Some((items, link)) => (items, vec![link]),
        None => ("value", NEXT.to_vec()),
    }
}

fn append(items: &mut Array, page: &Value, list: &str) {
    for item in page.get(list).and_then(Value::as_array).into_iter().flatten() {
        items.push(item.clone());
    }
}

fn next_link(body: &Value, links: &[&str]) -> Option<String> {
    let link = links.iter().find_map(|name| body.get(name)?.as_str())?;
    (!link.trim().is_empty()).then(|| link.to_owned())
}
