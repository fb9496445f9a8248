//! Nodes of XPath's data model: those of the document, and attributes.

use roxmltree::{Node, NodeType};

use super::super::qualified_name;

/// A node of the document, or an attribute of an element.
#[derive(Clone, Copy, PartialEq)]
pub enum XNode<'d> {
    /// A node of the tree.
    Node(Node<'d, 'd>),
    /// An attribute: its element and its index among the attributes.
    Attribute(Node<'d, 'd>, usize),
}

/// The axes of XPath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Child,
    Descendant,
    Parent,
    Ancestor,
    FollowingSibling,
    PrecedingSibling,
    Following,
    Preceding,
    Attribute,
    Own,
    DescendantOrSelf,
    AncestorOrSelf,
}

impl Axis {
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "child" => Self::Child,
            "descendant" => Self::Descendant,
            "parent" => Self::Parent,
            "ancestor" => Self::Ancestor,
            "following-sibling" => Self::FollowingSibling,
            "preceding-sibling" => Self::PrecedingSibling,
            "following" => Self::Following,
            "preceding" => Self::Preceding,
            "attribute" => Self::Attribute,
            "self" => Self::Own,
            "descendant-or-self" => Self::DescendantOrSelf,
            "ancestor-or-self" => Self::AncestorOrSelf,
            _ => return None,
        })
    }

    /// Whether positions on the axis are counted in reverse document order.
    pub(super) fn is_reverse(self) -> bool {
        matches!(
            self,
            Self::Parent | Self::Ancestor | Self::AncestorOrSelf | Self::Preceding | Self::PrecedingSibling
        )
    }
}

impl<'d> XNode<'d> {
    /// A key for document order, in which an element precedes its attributes, and these precede its children.
    pub fn order(&self) -> (u32, usize) {
        match self {
            Self::Node(node) => (node.id().get(), 0),
            Self::Attribute(node, at) => (node.id().get(), at + 1),
        }
    }

    /// The parent node, or the element of an attribute; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Node(node) => node.parent().map(Self::Node),
            Self::Attribute(node, _) => Some(Self::Node(*node)),
        }
    }

    /// The string-value.
    pub fn text(&self) -> String {
        match self {
            Self::Attribute(node, at) => {
                node.attributes().nth(*at).map(|attribute| attribute.value().to_owned()).unwrap_or_default()
            }
            Self::Node(node) => match node.node_type() {
                NodeType::Root | NodeType::Element => {
                    node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect()
                }
                NodeType::PI => node.pi().and_then(|pi| pi.value).unwrap_or_default().to_owned(),
                NodeType::Comment | NodeType::Text => node.text().unwrap_or_default().to_owned(),
            },
        }
    }

    /// The name without its prefix; empty for a node without a name.
    pub fn local_name(&self) -> &'d str {
        match self {
            Self::Attribute(node, at) => {
                node.attributes().nth(*at).map(|attribute| attribute.name()).unwrap_or_default()
            }
            Self::Node(node) => match node.pi() {
                Some(pi) => pi.target,
                None => node.tag_name().name(),
            },
        }
    }

    /// The namespace URI; empty if the name has none.
    pub fn namespace(&self) -> &'d str {
        match self {
            Self::Attribute(node, at) => {
                node.attributes().nth(*at).and_then(|attribute| attribute.namespace()).unwrap_or_default()
            }
            Self::Node(node) => node.tag_name().namespace().unwrap_or_default(),
        }
    }

    /// The name with its prefix, as written.
    pub fn name(&self) -> String {
        match self {
            Self::Attribute(node, at) => {
                let range = node.attributes().nth(*at).map(|attribute| attribute.range_qname());
                let source = node.document().input_text();
                range.and_then(|range| source.get(range)).unwrap_or_default().to_owned()
            }
            Self::Node(node) if node.is_element() => qualified_name(*node).to_owned(),
            Self::Node(_) => self.local_name().to_owned(),
        }
    }

    /// The nodes of an axis, nearest first.
    pub(super) fn axis(self, axis: Axis) -> Box<dyn Iterator<Item = XNode<'d>> + 'd> {
        let up = move |own: bool| {
            let first = if own { Some(self) } else { self.parent() };
            std::iter::successors(first, XNode::parent)
        };
        let Self::Node(node) = self else {
            // An attribute has a parent but no siblings or children. The nodes that follow or precede it are those of its
            // element.
            return match axis {
                Axis::Own | Axis::DescendantOrSelf => Box::new(std::iter::once(self)),
                Axis::Parent => Box::new(self.parent().into_iter()),
                Axis::Ancestor => Box::new(up(false)),
                Axis::AncestorOrSelf => Box::new(up(true)),
                Axis::Following => match self.parent() {
                    Some(Self::Node(element)) => Box::new(
                        element.descendants().skip(1).map(Self::Node).chain(Self::Node(element).axis(axis)),
                    ),
                    _ => Box::new(std::iter::empty()),
                },
                Axis::Preceding => match self.parent() {
                    Some(element) => element.axis(axis),
                    None => Box::new(std::iter::empty()),
                },
                Axis::Child
                | Axis::Descendant
                | Axis::Attribute
                | Axis::FollowingSibling
                | Axis::PrecedingSibling => Box::new(std::iter::empty()),
            };
        };
        match axis {
            Axis::Child => Box::new(node.children().map(Self::Node)),
            Axis::Descendant => Box::new(node.descendants().skip(1).map(Self::Node)),
            Axis::DescendantOrSelf => Box::new(node.descendants().map(Self::Node)),
            Axis::Parent => Box::new(self.parent().into_iter()),
            Axis::Ancestor => Box::new(up(false)),
            Axis::AncestorOrSelf => Box::new(up(true)),
            Axis::FollowingSibling => Box::new(node.next_siblings().skip(1).map(Self::Node)),
            Axis::PrecedingSibling => Box::new(node.prev_siblings().skip(1).map(Self::Node)),
            Axis::Attribute => {
                let count = node.attributes().len();
                Box::new((0..count).map(move |at| Self::Attribute(node, at)))
            }
            Axis::Own => Box::new(std::iter::once(self)),
            Axis::Following => Box::new(
                node.ancestors()
                    .flat_map(|own| own.next_siblings().skip(1))
                    .flat_map(|next| next.descendants())
                    .map(Self::Node),
            ),
            Axis::Preceding => {
                Box::new(node.ancestors().flat_map(|own| own.prev_siblings().skip(1)).flat_map(|previous| {
                    let inside: Vec<_> = previous.descendants().collect();
                    inside.into_iter().rev().map(Self::Node)
                }))
            }
        }
    }
}
