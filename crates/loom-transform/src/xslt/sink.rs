//! `Sink`: receives the result of instructions, including copies of source nodes.

use loom_expression::xpath::XNode;

use super::{
    compile::Name,
    output::{Out, OutElement},
};

/// Receives the result of the instructions of a body.
pub(super) struct Sink {
    pub(super) nodes: Vec<Out>,
    /// Attributes that instructions add to the enclosing element, before it has children.
    pub(super) attributes: Vec<(Name, String)>,
}

impl Sink {
    pub(super) fn new() -> Sink {
        Sink { nodes: Vec::new(), attributes: Vec::new() }
    }

    pub(super) fn text(&mut self, text: String, raw: bool) {
        if text.is_empty() {
            return;
        }
        match self.nodes.last_mut() {
            Some(Out::Text { text: before, raw: same }) if *same == raw => before.push_str(&text),
            _ => self.nodes.push(Out::Text { text, raw }),
        }
    }

    pub(super) fn attribute(&mut self, name: Name, value: String) {
        self.attributes.retain(|(known, _)| *known != name);
        self.attributes.push((name, value));
    }
}

pub(super) fn children(node: XNode<'_>) -> Vec<XNode<'_>> {
    match node {
        XNode::Node(tree) => tree.children().map(XNode::Node).collect(),
        XNode::Attribute(..) => Vec::new(),
    }
}

pub(super) fn name_of(node: XNode<'_>) -> Name {
    let namespace = Some(node.namespace()).filter(|uri| !uri.is_empty()).map(str::to_owned);
    Name { qualified: node.name(), namespace }
}

pub(super) fn namespaces_of(node: XNode<'_>) -> Vec<(String, String)> {
    let XNode::Node(tree) = node else { return Vec::new() };
    let all = tree.namespaces().filter(|namespace| namespace.name() != Some("xml"));
    all.map(|namespace| (namespace.name().unwrap_or_default().to_owned(), namespace.uri().to_owned()))
        .collect()
}

pub(super) fn push_element(sink: &mut Sink, name: Name, namespaces: Vec<(String, String)>, inner: Sink) {
    let Sink { nodes, attributes } = inner;
    sink.nodes.push(Out::Element(Box::new(OutElement { name, namespaces, attributes, children: nodes })));
}
