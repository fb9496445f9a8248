//! Runs a compiled stylesheet on a document.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use loom_expression::xpath::{Document, Evaluator, Expression, Focus, XNode, XValue, boolean};

use super::{
    STEPS_MAX, Transformed,
    compile::{Avt, Binding, Instruction, Name, Part, Prefixes, Sort, Stylesheet, Template, qualified},
    failed, format,
    names::{Bound, Names},
    of_xpath,
    output::{Out, text_of, write},
    sink::{Sink, children, name_of, namespaces_of, push_element},
};
use crate::Error;

/// How deeply templates may call each other. Each level takes stack, so the processor runs on a thread of its own whose
/// stack is large enough for all of them.
const DEPTH_MAX: usize = 1_000;

/// The stack size of that thread in bytes: 64 MiB. The system allocates pages as they are used.
const STACK_BYTES: usize = 64 << 20;

type Executed<T> = Result<T, Error>;

/// A sort key.
enum Key {
    Number(f64),
    /// A string, and whether upper case sorts first.
    Text(String, bool),
}

struct Machine<'m, 's, 'd> {
    sheet: &'s Stylesheet,
    names: &'m Names<'s, 'd>,
    evaluator: &'m Evaluator<'m, 'd>,
    depth: usize,
    named: HashMap<&'s str, &'s Template>,
}

/// Runs a stylesheet on a thread of its own and waits for it.
pub(super) fn run(
    sheet: &Stylesheet,
    document: &Document<'_>,
    parameters: &[(String, String)],
) -> Executed<Transformed> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let running = thread.spawn_scoped(scope, || run_here(sheet, document, parameters));
        let running = running.map_err(|error| failed(format!("cannot start a thread: {error}")))?;
        running.join().unwrap_or_else(|_| Err(failed("the processor ended unexpectedly")))
    })
}

fn run_here(
    sheet: &Stylesheet,
    document: &Document<'_>,
    parameters: &[(String, String)],
) -> Executed<Transformed> {
    let root = XNode::Node(document.root());
    let names = Names {
        sheet,
        document,
        globals: RefCell::default(),
        locals: RefCell::default(),
        current: RefCell::new(root),
        keys: RefCell::default(),
    };
    let evaluator = Evaluator::for_host(&names, STEPS_MAX);
    let mut named: HashMap<&str, &Template> = HashMap::new();
    for template in &sheet.templates {
        if let Some(name) = &template.name {
            named.insert(name, template);
        }
    }
    let mut machine = Machine { sheet, names: &names, evaluator: &evaluator, depth: 0, named };
    machine.globals(root, parameters)?;
    let mut sink = Sink::new();
    machine.apply(&[root], None, &[], &mut sink)?;
    let (text, is_text) = write(&sink.nodes, &sheet.output)?;
    Ok(Transformed { text, is_text })
}

impl<'s, 'd> Machine<'_, 's, 'd> {
    /// Binds the global variables, which may refer to each other in any order: each pass binds those whose references
    /// are bound already.
    fn globals(&mut self, root: XNode<'d>, parameters: &[(String, String)]) -> Executed<()> {
        let focus = Focus { node: root, position: 1, size: 1 };
        let mut open: Vec<&'s Binding> = self.sheet.globals.iter().collect();
        while !open.is_empty() {
            let before = open.len();
            let mut last = None;
            let mut left = Vec::new();
            for binding in open {
                let given = parameters.iter().find(|(name, _)| binding.is_parameter && *name == binding.name);
                let bound = match given {
                    Some((_, value)) => Ok(Bound::Value(XValue::Text(value.clone()))),
                    None => self.bind(binding, &focus),
                };
                match bound {
                    Ok(bound) => {
                        self.names.globals.borrow_mut().insert(binding.name.clone(), bound);
                    }
                    Err(error) => {
                        last = Some(error);
                        left.push(binding);
                    }
                }
            }
            open = left;
            if open.len() == before
                && let Some(error) = last
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn bind(&mut self, binding: &'s Binding, focus: &Focus<'d>) -> Executed<Bound<'d>> {
        if let Some(select) = &binding.select {
            if let Some(name) = select.as_variable()
                && let Some(bound) = self.names.bound(name)
            {
                return Ok(bound);
            }
            return self.value(select, focus).map(Bound::Value);
        }
        if binding.body.is_empty() {
            return Ok(Bound::Value(XValue::Text(String::new())));
        }
        let nodes = self.nested(&binding.body, focus)?.nodes;
        Ok(Bound::Fragment(Rc::new(nodes)))
    }

    fn value(&self, expression: &Expression, focus: &Focus<'d>) -> Executed<XValue<'d>> {
        expression.evaluate(self.evaluator, focus).map_err(|error| of_xpath(&error))
    }

    fn text(&self, expression: &Expression, focus: &Focus<'d>) -> Executed<String> {
        let value = self.value(expression, focus)?;
        self.evaluator.text(&value).map_err(|error| of_xpath(&error))
    }

    fn avt(&self, avt: &Avt, focus: &Focus<'d>) -> Executed<String> {
        let mut text = String::new();
        for part in avt {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Value(expression) => text.push_str(&self.text(expression, focus)?),
            }
        }
        Ok(text)
    }

    fn nodes(&self, expression: &Expression, focus: &Focus<'d>) -> Executed<Vec<XNode<'d>>> {
        match self.value(expression, focus)? {
            XValue::Nodes(nodes) => Ok(nodes),
            _ => Err(failed("the expression in 'select' must return a node-set")),
        }
    }

    /// Runs a body with a sink and a variable scope of its own.
    fn nested(&mut self, body: &'s [Instruction], focus: &Focus<'d>) -> Executed<Sink> {
        let mut sink = Sink::new();
        self.body(body, focus, &mut sink)?;
        Ok(sink)
    }

    fn body(&mut self, body: &'s [Instruction], focus: &Focus<'d>, sink: &mut Sink) -> Executed<()> {
        let before = self.names.locals.borrow().len();
        let result = body.iter().try_for_each(|instruction| self.instruction(instruction, focus, sink));
        self.names.locals.borrow_mut().truncate(before);
        result
    }

    fn instruction(
        &mut self,
        instruction: &'s Instruction,
        focus: &Focus<'d>,
        sink: &mut Sink,
    ) -> Executed<()> {
        self.evaluator.pay(1).map_err(|error| of_xpath(&error))?;
        match instruction {
            Instruction::Text { text, raw } => sink.text(text.clone(), *raw),
            Instruction::ValueOf { select, raw } => sink.text(self.text(select, focus)?, *raw),
            Instruction::Literal { name, namespaces, attributes, sets, body } => {
                let mut inner = Sink::new();
                self.attribute_sets(sets, focus, &mut inner)?;
                for (name, value) in attributes {
                    let value = self.avt(value, focus)?;
                    inner.attribute(name.clone(), value);
                }
                self.body(body, focus, &mut inner)?;
                push_element(sink, name.clone(), namespaces.clone(), inner);
            }
            Instruction::ApplyTemplates { select, mode, sorts, with } => {
                let nodes = match select {
                    Some(select) => self.nodes(select, focus)?,
                    None => children(focus.node),
                };
                let nodes = self.sorted(nodes, sorts)?;
                let with = self.bind_all(with, focus)?;
                self.apply(&nodes, mode.as_deref(), &with, sink)?;
            }
            Instruction::ApplyImports => {
                return Err(failed("xsl:apply-imports is not supported"));
            }
            Instruction::CallTemplate { name, with } => {
                let template = self.named.get(name.as_str()).copied();
                let template = template.ok_or_else(|| failed(format!("unknown template '{name}'")))?;
                let with = self.bind_all(with, focus)?;
                self.enter(template, focus, with, sink)?;
            }
            Instruction::ForEach { select, sorts, body } => {
                let nodes = self.nodes(select, focus)?;
                let nodes = self.sorted(nodes, sorts)?;
                let size = nodes.len();
                let around = *self.names.current.borrow();
                for (at, node) in nodes.into_iter().enumerate() {
                    *self.names.current.borrow_mut() = node;
                    self.body(body, &Focus { node, position: at + 1, size }, sink)?;
                }
                *self.names.current.borrow_mut() = around;
            }
            Instruction::If { test, body } => {
                if boolean(&self.value(test, focus)?) {
                    self.body(body, focus, sink)?;
                }
            }
            Instruction::Choose { branches } => {
                for (test, body) in branches {
                    let holds = match test {
                        Some(test) => boolean(&self.value(test, focus)?),
                        None => true,
                    };
                    if holds {
                        return self.body(body, focus, sink);
                    }
                }
            }
            Instruction::CopyOf { select } => self.copy_of(select, focus, sink)?,
            Instruction::Copy { sets, body } => self.copy(sets, body, focus, sink)?,
            Instruction::Element { name, namespace, prefixes, sets, body } => {
                let name = self.computed(name, namespace.as_ref(), prefixes, true, focus)?;
                let mut inner = Sink::new();
                self.attribute_sets(sets, focus, &mut inner)?;
                self.body(body, focus, &mut inner)?;
                push_element(sink, name, Vec::new(), inner);
            }
            Instruction::Attribute { name, namespace, prefixes, body } => {
                let name = self.computed(name, namespace.as_ref(), prefixes, false, focus)?;
                let value = text_of(&self.nested(body, focus)?.nodes);
                if !sink.nodes.is_empty() {
                    return Err(failed(format!(
                        "the attribute '{}' must be added before the children of its element",
                        name.qualified
                    )));
                }
                sink.attribute(name, value);
            }
            Instruction::Comment { body } => {
                let text = text_of(&self.nested(body, focus)?.nodes);
                sink.nodes.push(Out::Comment(text));
            }
            Instruction::Pi { name, body } => {
                let name = self.avt(name, focus)?;
                let text = text_of(&self.nested(body, focus)?.nodes);
                sink.nodes.push(Out::Instruction { name, text });
            }
            Instruction::Number { value, count, format } => {
                let format = self.avt(format, focus)?;
                let number = match value {
                    Some(value) => {
                        let value = self.value(value, focus)?;
                        self.evaluator.number(&value).map_err(|error| of_xpath(&error))?
                    }
                    None => self.place(count.as_deref(), focus.node)?,
                };
                sink.text(format::format_position(number, &format), false);
            }
            Instruction::Variable(binding) => {
                let bound = self.bind(binding, focus)?;
                self.names.locals.borrow_mut().push((binding.name.clone(), bound));
            }
            Instruction::Message { terminate, body } => {
                let text = text_of(&self.nested(body, focus)?.nodes);
                if *terminate {
                    return Err(failed(format!("xsl:message terminated the transformation: {text}")));
                }
            }
        }
        Ok(())
    }

    /// The position of a node among its siblings that match `count`, or that have the same name.
    fn place(&self, count: Option<&[Expression]>, node: XNode<'d>) -> Executed<f64> {
        let fits = |candidate: XNode<'d>| -> Executed<bool> {
            let Some(patterns) = count else {
                return Ok(
                    candidate.local_name() == node.local_name() && candidate.namespace() == node.namespace()
                );
            };
            for pattern in patterns {
                if pattern.matches(self.evaluator, candidate).map_err(|error| of_xpath(&error))? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let mut above = Some(node);
        while let Some(candidate) = above {
            if fits(candidate)? {
                let XNode::Node(tree) = candidate else { return Ok(1.0) };
                let mut place = 1.0;
                for sibling in tree.prev_siblings().skip(1) {
                    place += f64::from(u8::from(fits(XNode::Node(sibling))?));
                }
                return Ok(place);
            }
            above = candidate.parent();
        }
        Ok(0.0)
    }

    fn computed(
        &self,
        name: &Avt,
        namespace: Option<&Avt>,
        prefixes: &Prefixes,
        is_element: bool,
        focus: &Focus<'d>,
    ) -> Executed<Name> {
        let written = self.avt(name, focus)?;
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\u{b7}'))
        };
        let (prefix, local) = written.split_once(':').map_or((None, written.as_str()), |(p, l)| (Some(p), l));
        if !is_name(local) || prefix.is_some_and(|prefix| !is_name(prefix)) {
            return Err(failed(format!("'{written}' is not a valid name")));
        }
        if let Some(namespace) = namespace {
            let uri = self.avt(namespace, focus)?;
            if uri.is_empty() {
                return Ok(Name { qualified: local.to_owned(), namespace: None });
            }
            // An attribute in a namespace must have a prefix.
            let known = prefixes.iter().find(|(known, bound)| **bound == uri && !known.is_empty());
            let prefix = prefix.or(known.map(|(known, _)| known.as_str()).filter(|_| !is_element));
            let prefix = prefix.or((!is_element).then_some("ns_1"));
            return Ok(Name { qualified: qualified(prefix, local), namespace: Some(uri) });
        }
        let uri =
            match prefix {
                Some("xml") => Some("http://www.w3.org/XML/1998/namespace".to_owned()),
                Some(prefix) => Some(prefixes.get(prefix).cloned().ok_or_else(|| {
                    failed(format!("the prefix '{prefix}' of '{written}' is not declared"))
                })?),
                None if is_element => prefixes.get("").cloned(),
                None => None,
            };
        Ok(Name { qualified: written, namespace: uri })
    }

    fn attribute_sets(&mut self, sets: &'s [String], focus: &Focus<'d>, sink: &mut Sink) -> Executed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(failed("attribute sets use each other in a cycle"));
        }
        for set in sets {
            let found = self.sheet.attribute_sets.get(set);
            for (used, body) in found.ok_or_else(|| failed(format!("unknown attribute set '{set}'")))? {
                self.attribute_sets(used, focus, sink)?;
                self.body(body, focus, sink)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn bind_all(&mut self, bindings: &'s [Binding], focus: &Focus<'d>) -> Executed<Vec<(String, Bound<'d>)>> {
        bindings.iter().map(|binding| Ok((binding.name.clone(), self.bind(binding, focus)?))).collect()
    }

    fn sorted(&self, nodes: Vec<XNode<'d>>, sorts: &'s [Sort]) -> Executed<Vec<XNode<'d>>> {
        if sorts.is_empty() {
            return Ok(nodes);
        }
        let size = nodes.len();
        let mut keyed = Vec::with_capacity(size);
        let mut descending = Vec::new();
        for (at, node) in nodes.into_iter().enumerate() {
            let focus = Focus { node, position: at + 1, size };
            let mut keys = Vec::new();
            descending.clear();
            for sort in sorts {
                let text = self.text(&sort.select, &focus)?;
                let is_number = self.avt(&sort.number, &focus)? == "number";
                descending.push(self.avt(&sort.descending, &focus)? == "descending");
                keys.push(if is_number {
                    Key::Number(text.trim().parse().unwrap_or(f64::NAN))
                } else {
                    Key::Text(text, sort.upper_first)
                });
            }
            keyed.push((keys, node));
        }
        keyed.sort_by(|(left, _), (right, _)| {
            let pairs = left.iter().zip(right).zip(&descending);
            for ((left, right), descending) in pairs {
                let order = match (left, right) {
                    // NaN sorts first.
                    (Key::Number(left), Key::Number(right)) => {
                        left.partial_cmp(right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
                    }
                    (Key::Text(left, upper), Key::Text(right, _)) => {
                        let folded = left.to_lowercase().cmp(&right.to_lowercase());
                        folded.then_with(|| if *upper { left.cmp(right) } else { right.cmp(left) })
                    }
                    _ => std::cmp::Ordering::Equal,
                };
                let order = if *descending { order.reverse() } else { order };
                if order.is_ne() {
                    return order;
                }
            }
            std::cmp::Ordering::Equal
        });
        Ok(keyed.into_iter().map(|(_, node)| node).collect())
    }

    fn apply(
        &mut self,
        nodes: &[XNode<'d>],
        mode: Option<&str>,
        with: &[(String, Bound<'d>)],
        sink: &mut Sink,
    ) -> Executed<()> {
        let around = *self.names.current.borrow();
        let size = nodes.iter().filter(|node| !self.is_stripped(**node)).count();
        let mut position = 0;
        for node in nodes {
            if self.is_stripped(*node) {
                continue;
            }
            position += 1;
            *self.names.current.borrow_mut() = *node;
            let focus = Focus { node: *node, position, size };
            match self.template_for(*node, mode)? {
                Some(template) => self.enter(template, &focus, with.to_vec(), sink)?,
                None => self.built_in(*node, mode, sink)?,
            }
        }
        *self.names.current.borrow_mut() = around;
        Ok(())
    }

    /// Whether a node is a text node of white space that is stripped from the source.
    fn is_stripped(&self, node: XNode<'d>) -> bool {
        let XNode::Node(tree) = node else { return false };
        if self.sheet.strip.is_empty() || !tree.is_text() {
            return false;
        }
        let blank = tree.text().unwrap_or_default().trim_matches([' ', '\t', '\r', '\n']).is_empty();
        let Some(parent) = tree.parent().filter(|_| blank) else { return false };
        let name = parent.tag_name().name();
        let names = |set: &std::collections::BTreeSet<String>| {
            set.iter().any(|known| known.rsplit(':').next() == Some(name))
        };
        if names(&self.sheet.preserve) {
            return false;
        }
        names(&self.sheet.strip) || (self.sheet.strip.contains("*") && !self.sheet.preserve.contains("*"))
    }

    fn template_for(&self, node: XNode<'d>, mode: Option<&str>) -> Executed<Option<&'s Template>> {
        let mut best: Option<(usize, f64, &'s Template)> = None;
        for template in self.sheet.templates.iter().filter(|template| template.mode.as_deref() == mode) {
            for (pattern, priority) in &template.patterns {
                // Among templates of equal precedence and priority, the last one wins.
                let better = best.is_none_or(|(precedence, known, _)| {
                    template.precedence > precedence
                        || (template.precedence == precedence && *priority >= known)
                });
                if better && pattern.matches(self.evaluator, node).map_err(|error| of_xpath(&error))? {
                    best = Some((template.precedence, *priority, template));
                }
            }
        }
        Ok(best.map(|(_, _, template)| template))
    }

    fn enter(
        &mut self,
        template: &'s Template,
        focus: &Focus<'d>,
        with: Vec<(String, Bound<'d>)>,
        sink: &mut Sink,
    ) -> Executed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(failed(format!("templates call each other more than {DEPTH_MAX} levels deep")));
        }
        // A template can read its own and the global variables, but not those of its caller.
        let around = std::mem::take(&mut *self.names.locals.borrow_mut());
        let result = self.inside(template, focus, with, sink);
        *self.names.locals.borrow_mut() = around;
        self.depth -= 1;
        result
    }

    fn inside(
        &mut self,
        template: &'s Template,
        focus: &Focus<'d>,
        mut with: Vec<(String, Bound<'d>)>,
        sink: &mut Sink,
    ) -> Executed<()> {
        for parameter in &template.parameters {
            let given = with.iter().position(|(name, _)| *name == parameter.name);
            let bound = match given {
                Some(at) => with.swap_remove(at).1,
                None => self.bind(parameter, focus)?,
            };
            self.names.locals.borrow_mut().push((parameter.name.clone(), bound));
        }
        self.body(&template.body, focus, sink)
    }

    /// Applies the built-in rules: text is copied, elements and the root apply templates to their children.
    fn built_in(&mut self, node: XNode<'d>, mode: Option<&str>, sink: &mut Sink) -> Executed<()> {
        match node {
            XNode::Node(tree) if tree.is_root() || tree.is_element() => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(failed(format!(
                        "templates apply each other more than {DEPTH_MAX} levels deep"
                    )));
                }
                self.apply(&children(node), mode, &[], sink)?;
                self.depth -= 1;
            }
            XNode::Node(tree) if tree.is_text() => sink.text(node.text(), false),
            XNode::Attribute(..) => sink.text(node.text(), false),
            XNode::Node(_) => {}
        }
        Ok(())
    }

    fn copy_of(&mut self, select: &'s Expression, focus: &Focus<'d>, sink: &mut Sink) -> Executed<()> {
        if let Some(Bound::Fragment(nodes)) = select.as_variable().and_then(|name| self.names.bound(name)) {
            for node in nodes.iter() {
                match node {
                    Out::Text { text, raw } => sink.text(text.clone(), *raw),
                    other => sink.nodes.push(other.clone()),
                }
            }
            return Ok(());
        }
        match self.value(select, focus)? {
            XValue::Nodes(nodes) => {
                for node in nodes {
                    self.deep_copy(node, sink)?;
                }
            }
            other => {
                let text = self.evaluator.text(&other).map_err(|error| of_xpath(&error))?;
                sink.text(text, false);
            }
        }
        Ok(())
    }

    fn deep_copy(&self, node: XNode<'d>, sink: &mut Sink) -> Executed<()> {
        self.evaluator.pay(1).map_err(|error| of_xpath(&error))?;
        match node {
            XNode::Attribute(..) => sink.attribute(name_of(node), node.text()),
            XNode::Node(tree) if tree.is_element() => {
                let mut inner = Sink::new();
                for at in 0..tree.attributes().len() {
                    self.deep_copy(XNode::Attribute(tree, at), &mut inner)?;
                }
                for child in tree.children() {
                    self.deep_copy(XNode::Node(child), &mut inner)?;
                }
                push_element(sink, name_of(node), namespaces_of(node), inner);
            }
            XNode::Node(tree) if tree.is_root() => {
                for child in tree.children() {
                    self.deep_copy(XNode::Node(child), sink)?;
                }
            }
            XNode::Node(tree) if tree.is_text() => {
                if !self.is_stripped(node) {
                    sink.text(node.text(), false);
                }
            }
            XNode::Node(tree) if tree.is_comment() => sink.nodes.push(Out::Comment(node.text())),
            XNode::Node(_) => {
                sink.nodes.push(Out::Instruction { name: node.local_name().to_owned(), text: node.text() });
            }
        }
        Ok(())
    }

    fn copy(
        &mut self,
        sets: &'s [String],
        body: &'s [Instruction],
        focus: &Focus<'d>,
        sink: &mut Sink,
    ) -> Executed<()> {
        match focus.node {
            XNode::Node(tree) if tree.is_element() => {
                let mut inner = Sink::new();
                self.attribute_sets(sets, focus, &mut inner)?;
                self.body(body, focus, &mut inner)?;
                push_element(sink, name_of(focus.node), namespaces_of(focus.node), inner);
            }
            XNode::Node(tree) if tree.is_root() => self.body(body, focus, sink)?,
            node => self.deep_copy(node, sink)?,
        }
        Ok(())
    }
}
