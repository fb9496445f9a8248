//! How results of an operation are divided into pages.

use crate::{context::Context, document::Node, policy::Action};

/// How results are divided into pages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paging {
    /// The property of a response with the address of the next page.
    pub next_link: String,
    /// The property with the items.
    pub items: String,
}

/// `x-ms-pageable`, or the policy that rewrites the link to the next page.
pub(crate) fn of_operation(context: &Context<'_>, id: &str, node: &Node) -> Option<Paging> {
    let by_policy = context.policies(id).find_map(|policy| match &policy.action {
        Ok(Action::NextLink { property }) => Some(property.clone()),
        _ => None,
    });
    let node = node.get("x-ms-pageable");
    let link = node.as_ref().and_then(|node| node.text("nextLinkName").map(str::to_owned));
    let items = node.as_ref().and_then(|node| node.text("itemName").map(str::to_owned));
    Some(Paging { next_link: link.or(by_policy)?, items: items.unwrap_or_else(|| "value".to_owned()) })
}
