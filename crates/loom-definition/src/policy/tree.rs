//! Members of policies as a tree: in the spelling of the table below, each with its position in the text.

use std::sync::Arc;

use loom_expression::{Object, Value};
use loom_resilience::inherit::Settings;

use crate::{
    diagnostic::did_you_mean,
    text::{Node, Shape, Span32},
};

/// The members of a policy, and those of its parts.
const MEMBERS: [(&str, &[&str]); 10] = [
    ("mode", &[]),
    ("timeout", &[]),
    ("timeoutMode", &[]),
    ("attemptTimeout", &[]),
    ("attemptTimeoutMode", &[]),
    ("retryPolicy", super::RETRY_MEMBERS),
    ("circuitBreaker", super::BREAKER_MEMBERS),
    ("rateLimit", super::RATE_LIMIT_MEMBERS),
    ("bulkhead", super::BULKHEAD_MEMBERS),
    ("hedge", super::HEDGE_MEMBERS),
];

/// The members of a retry policy that only the spelling of the language has.
const LANGUAGE: [&str; 6] =
    ["type", "count", "interval", "minimumInterval", "maximumInterval", "maxInterval"];

/// A value of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Where it was written.
    pub place: Span32,
    pub(super) shape: TreeShape,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TreeShape {
    Leaf(Value),
    Object(Vec<(Arc<str>, Tree)>),
}

/// A member that a policy does not have, or one whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownMember {
    pub(crate) place: Span32,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Settings for Tree {
    fn members(&self) -> Option<Vec<(&str, &Self)>> {
        match &self.shape {
            TreeShape::Leaf(_) => None,
            TreeShape::Object(members) => {
                Some(members.iter().map(|(name, value)| (&**name, value)).collect())
            }
        }
    }

    fn is_null(&self) -> bool {
        matches!(&self.shape, TreeShape::Leaf(value) if value.is_null())
    }
}

impl Tree {
    /// A policy as an object of the text holds it, without the members in `except`. Names are compared without regard to
    /// case.
    pub(super) fn of_policy(node: &Node, except: &[&str], unknown: &mut Vec<UnknownMember>) -> Tree {
        let mut members = Vec::new();
        for member in node.members().unwrap_or_default() {
            if except.iter().any(|name| name.eq_ignore_ascii_case(&member.name)) {
                continue;
            }
            let known = MEMBERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&member.name));
            let Some((name, inner)) = known else {
                let names = MEMBERS.iter().map(|(name, _)| *name).chain(except.iter().copied());
                unknown.push(UnknownMember {
                    place: member.name_place,
                    message: format!("unknown property `{}` in a policy", member.name),
                    hint: did_you_mean(&member.name, names),
                });
                continue;
            };
            add(&mut members, name, of_part(&member.value, name, inner, unknown));
        }
        Tree { place: node.place, shape: TreeShape::Object(members) }
    }

    /// The members of an action that override those of its policy.
    pub(crate) fn of_overrides(node: &Node) -> Tree {
        let mut members = Vec::new();
        for (name, inner) in MEMBERS.iter().filter(|(name, _)| *name != "mode") {
            if let Some(member) = node.member(name) {
                // An unknown member is reported where the part is read.
                add(&mut members, name, of_part(&member.value, name, inner, &mut Vec::new()));
            }
        }
        Tree { place: node.place, shape: TreeShape::Object(members) }
    }

    /// Whether there are members.
    pub fn is_empty(&self) -> bool {
        matches!(&self.shape, TreeShape::Object(members) if members.is_empty())
    }

    /// A member by its name in the table.
    pub(crate) fn get(&self, name: &str) -> Option<&Tree> {
        match &self.shape {
            TreeShape::Leaf(_) => None,
            TreeShape::Object(members) => {
                members.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let TreeShape::Object(members) = &mut self.shape {
            members.retain(|(known, _)| &**known != name);
        }
    }

    /// The value without its positions.
    pub(crate) fn to_value(&self) -> Value {
        match &self.shape {
            TreeShape::Leaf(value) => value.clone(),
            TreeShape::Object(members) => {
                let members = members.iter().map(|(name, value)| (Arc::clone(name), value.to_value()));
                Value::from(members.collect::<Object>())
            }
        }
    }
}

/// Adds a member; of two with the same name the last one counts, as everywhere in JSON.
fn add(members: &mut Vec<(Arc<str>, Tree)>, name: &str, value: Tree) {
    members.retain(|(known, _)| &**known != name);
    members.push((Arc::from(name), value));
}

fn of_part(node: &Node, part: &str, known: &[&str], unknown: &mut Vec<UnknownMember>) -> Tree {
    let Some(found) = node.members().filter(|_| !known.is_empty()) else {
        return leaf(node, unknown);
    };
    // A retry policy in the spelling of the language replaces what it inherits, because the two spellings do not mix.
    let of_language = |name: &str| LANGUAGE.iter().any(|known| known.eq_ignore_ascii_case(name));
    if part == "retryPolicy" && found.iter().any(|member| of_language(&member.name)) {
        return Tree { place: node.place, shape: TreeShape::Leaf(node.to_value()) };
    }
    let mut members = Vec::new();
    for member in found {
        let name = known.iter().find(|name| name.eq_ignore_ascii_case(&member.name));
        let Some(name) = name else {
            unknown.push(UnknownMember {
                place: member.name_place,
                message: format!("unknown property `{}` in `{part}`", member.name),
                hint: did_you_mean(&member.name, known.iter().copied()),
            });
            continue;
        };
        add(&mut members, name, of_inner(&member.value, unknown));
    }
    Tree { place: node.place, shape: TreeShape::Object(members) }
}

/// An object inside a part, such as `failureRate`. Its reader compares names without regard to case.
fn of_inner(node: &Node, unknown: &mut Vec<UnknownMember>) -> Tree {
    let Some(found) = node.members() else { return leaf(node, unknown) };
    let mut members = Vec::new();
    for member in found {
        add(&mut members, &member.name, of_inner(&member.value, unknown));
    }
    Tree { place: node.place, shape: TreeShape::Object(members) }
}

fn leaf(node: &Node, unknown: &mut Vec<UnknownMember>) -> Tree {
    let value = node.to_value();
    if value.is_null() && matches!(node.shape, Shape::Number(_)) {
        // As null, it would remove what is inherited.
        let message = "the number is too large".to_owned();
        unknown.push(UnknownMember { place: node.place, message, hint: None });
    }
    Tree { place: node.place, shape: TreeShape::Leaf(value) }
}
