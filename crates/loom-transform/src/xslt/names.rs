//! The names in scope of a stylesheet's expressions: variables, keys, the current node, and the functions of XSLT.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use loom_expression::xpath::{Document, Evaluator, Focus, Host, XNode, XPathError, XValue};

use super::{
    compile::Stylesheet,
    format,
    output::{Out, text_of},
};

/// The value of a variable.
#[derive(Clone)]
pub(super) enum Bound<'d> {
    Value(XValue<'d>),
    /// A result tree fragment.
    Fragment(Rc<Vec<Out>>),
}

/// The nodes of a key by the value of its `use` expression.
type Index<'d> = HashMap<String, Vec<XNode<'d>>>;

/// The names in scope of expressions: variables, keys, the current node.
pub(super) struct Names<'s, 'd> {
    pub(super) sheet: &'s Stylesheet,
    pub(super) document: &'d Document<'d>,
    pub(super) globals: RefCell<BTreeMap<String, Bound<'d>>>,
    /// The variables of the running template, innermost last.
    pub(super) locals: RefCell<Vec<(String, Bound<'d>)>>,
    pub(super) current: RefCell<XNode<'d>>,
    pub(super) keys: RefCell<BTreeMap<String, Rc<Index<'d>>>>,
}

impl<'d> Names<'_, 'd> {
    pub(super) fn bound(&self, name: &str) -> Option<Bound<'d>> {
        let locals = self.locals.borrow();
        if let Some((_, value)) = locals.iter().rev().find(|(known, _)| known == name) {
            return Some(value.clone());
        }
        self.globals.borrow().get(name).cloned()
    }

    fn index(&self, evaluator: &Evaluator<'_, 'd>, name: &str) -> Result<Rc<Index<'d>>, XPathError> {
        if let Some(index) = self.keys.borrow().get(name) {
            return Ok(Rc::clone(index));
        }
        let keys: Vec<_> = self.sheet.keys.iter().filter(|key| key.name == name).collect();
        if keys.is_empty() {
            return Err(XPathError::Invalid(format!("unknown key '{name}'")));
        }
        let mut index = Index::new();
        for node in self.document.root().descendants() {
            let attributes = (0..node.attributes().len()).map(|at| XNode::Attribute(node, at));
            for node in std::iter::once(XNode::Node(node)).chain(attributes) {
                for key in &keys {
                    let mut fits = false;
                    for pattern in &key.patterns {
                        fits = fits || pattern.matches(evaluator, node)?;
                    }
                    if !fits {
                        continue;
                    }
                    let focus = Focus { node, position: 1, size: 1 };
                    match key.select.evaluate(evaluator, &focus)? {
                        XValue::Nodes(values) => {
                            for value in values {
                                let nodes = index.entry(evaluator.node_text(&value)?).or_default();
                                if nodes.last() != Some(&node) {
                                    nodes.push(node);
                                }
                            }
                        }
                        other => index.entry(evaluator.text(&other)?).or_default().push(node),
                    }
                }
            }
        }
        let index = Rc::new(index);
        self.keys.borrow_mut().insert(name.to_owned(), Rc::clone(&index));
        Ok(index)
    }
}

impl<'d> Host<'d> for Names<'_, 'd> {
    fn variable(&self, name: &str) -> Option<XValue<'d>> {
        Some(match self.bound(name)? {
            Bound::Value(value) => value,
            Bound::Fragment(nodes) => XValue::Text(text_of(&nodes)),
        })
    }

    fn call(
        &self,
        evaluator: &Evaluator<'_, 'd>,
        name: &str,
        arguments: Vec<XValue<'d>>,
        focus: &Focus<'d>,
    ) -> Option<Result<XValue<'d>, XPathError>> {
        let text = |at: usize| arguments.get(at).map_or(Ok(String::new()), |value| evaluator.text(value));
        let known = |name: &str| {
            let local = name.rsplit(':').next().unwrap_or(name);
            matches!(
                local,
                "current" | "key" | "generate-id" | "format-number" | "system-property" | "concat" | "count"
            )
        };
        let result = || -> Result<Option<XValue<'d>>, XPathError> {
            Ok(Some(match name {
                "current" => XValue::Nodes(vec![*self.current.borrow()]),
                "key" => {
                    let index = self.index(evaluator, &text(0)?)?;
                    let values = match arguments.get(1) {
                        Some(XValue::Nodes(nodes)) => nodes
                            .iter()
                            .map(|node| evaluator.node_text(node))
                            .collect::<Result<Vec<_>, _>>()?,
                        _ => vec![text(1)?],
                    };
                    let mut found: Vec<XNode<'d>> =
                        values.iter().filter_map(|value| index.get(value)).flatten().copied().collect();
                    found.sort_by_key(XNode::order);
                    found.dedup_by_key(|node| node.order());
                    XValue::Nodes(found)
                }
                "generate-id" => {
                    let node = match arguments.first() {
                        None => Some(focus.node),
                        Some(XValue::Nodes(nodes)) => nodes.first().copied(),
                        Some(_) => None,
                    };
                    XValue::Text(
                        node.map(|node| format!("id{}-{}", node.order().0, node.order().1))
                            .unwrap_or_default(),
                    )
                }
                "format-number" => {
                    let number = arguments.first().map_or(Ok(f64::NAN), |value| evaluator.number(value))?;
                    XValue::Text(format::format_number(number, &text(1)?))
                }
                "system-property" => XValue::Text(match text(0)?.as_str() {
                    "xsl:version" => "1.0".to_owned(),
                    "xsl:vendor" => "Loom".to_owned(),
                    _ => String::new(),
                }),
                "function-available" => XValue::Boolean(known(&text(0)?)),
                "element-available" => XValue::Boolean(text(0)?.starts_with("xsl:")),
                _ if name.ends_with(":node-set") => {
                    let Some(nodes @ XValue::Nodes(_)) = arguments.first() else {
                        let message = "node-set() of a result tree fragment is not supported";
                        return Err(XPathError::Invalid(message.to_owned()));
                    };
                    nodes.clone()
                }
                _ => return Ok(None),
            }))
        };
        result().transpose()
    }
}
