//! `Template`: a compiled JSON value of a definition, in which every string may contain expressions.

use std::{collections::HashSet, sync::Arc};

use crate::{
    Budget, Code, Context, Error, Labels, Limits, Names, Object, Options, Reference, TemplateError, Value,
    ValueRef,
    compile::{Compiler, Expr, Part, Text},
    context::same_name,
    error::Failure,
    evaluate::Evaluation,
    functions::Function,
    value::RECURSION_MAX,
};

/// A compiled JSON value. It is compiled once and evaluated many times, from any number of threads.
///
/// Every string in the value is a template, and so is every property name: `@@type` stands for `@type`, and a name that
/// contains an expression is computed. Cloning is cheap: it increments a reference count.
#[derive(Clone, Debug)]
pub struct Template(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    node: Node,
    source: Value,
    references: Vec<Reference>,
    warnings: Vec<TemplateError>,
    calls: Vec<&'static Function>,
    limits: Limits,
}

#[derive(Debug)]
enum Node {
    /// A subtree without expressions, which evaluations share.
    Constant(Value),
    Expression {
        expr: Expr,
        source: Arc<str>,
    },
    Interpolation {
        parts: Box<[Part]>,
        source: Arc<str>,
    },
    Array(Vec<Node>),
    /// An object whose names are all literal, which is the usual case.
    Object(Vec<(Arc<str>, Node)>),
    /// An object with at least one computed name.
    Named(Vec<NamedMember>),
}

#[derive(Debug)]
struct NamedMember {
    /// The name as written, for JSON pointers.
    written: Arc<str>,
    /// The template that computes the name.
    name: Node,
    value: Node,
}

impl Template {
    /// Compiles a JSON value.
    ///
    /// # Errors
    /// All errors in all strings.
    pub fn compile(value: &Value, names: &dyn Names, options: &Options) -> Result<Self, Vec<TemplateError>> {
        let mut compiler = Compiler::new(names, options);
        if let Err(error) = check_depth(value, options) {
            return Err(vec![error]);
        }
        let node = compile_node(&mut compiler, value);
        if !compiler.errors.is_empty() {
            return Err(compiler.errors);
        }
        compiler.calls.sort_by_key(|function| function.info.name);
        compiler.calls.dedup_by_key(|function| function.info.name);
        Ok(Self(Arc::new(Compiled {
            node,
            source: value.clone(),
            references: compiler.references,
            warnings: compiler.warnings,
            calls: compiler.calls,
            limits: options.limits,
        })))
    }

    /// Compiles one string.
    ///
    /// # Errors
    /// All errors in the string.
    pub fn compile_str(text: &str, names: &dyn Names, options: &Options) -> Result<Self, Vec<TemplateError>> {
        Self::compile(&Value::from(text), names, options)
    }

    /// A template that evaluates to exactly this value. Strings in it are not compiled.
    pub fn constant(value: Value) -> Self {
        Self(Arc::new(Compiled {
            node: Node::Constant(value.clone()),
            source: value,
            references: Vec::new(),
            warnings: Vec::new(),
            calls: Vec::new(),
            limits: Limits::default(),
        }))
    }

    /// The value if it is the same in every context.
    pub fn as_constant(&self) -> Option<&Value> {
        match &self.0.node {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The value that every evaluation with the limits of the template returns, so that no context is needed.
    #[inline]
    pub fn settled(&self) -> Option<&Value> {
        let limits = &self.0.limits;
        self.as_constant().filter(|value| value.is_plain() || oversize(value, limits).is_none())
    }

    /// Evaluates the template with the limits that were given at compilation.
    ///
    /// # Errors
    /// The first failure in source order.
    pub fn evaluate(&self, context: &dyn Context) -> Result<Value, Error> {
        self.evaluate_with(context, &self.0.limits)
    }

    /// Evaluates the template with other limits.
    ///
    /// # Errors
    /// The first failure in source order.
    pub fn evaluate_with(&self, context: &dyn Context, limits: &Limits) -> Result<Value, Error> {
        let own;
        let budget = if let Some(budget) = context.budget() {
            budget
        } else {
            own = Budget::of(limits);
            &own
        };
        self.evaluate_within(context, limits, budget)
    }

    pub(crate) fn evaluate_within(
        &self,
        context: &dyn Context,
        limits: &Limits,
        budget: &Budget,
    ) -> Result<Value, Error> {
        match evaluate_node(&self.0.node, &Surroundings { context, limits, budget }) {
            Ok(value) if value.is_plain() => Ok(value),
            Ok(value) => match oversize(&value, limits) {
                None => Ok(value),
                Some(error) => Err(error),
            },
            Err(mut failure) => {
                failure.pointer.get_or_insert_default();
                Err(*failure)
            }
        }
    }

    /// Evaluates one property of an object, found by its name ignoring case, without evaluating the others. `None` if the
    /// template is not an object or has no such property.
    ///
    /// # Errors
    /// The first failure in source order.
    pub fn evaluate_member(&self, name: &str, context: &dyn Context) -> Option<Result<Value, Error>> {
        match &self.0.node {
            Node::Constant(value) => value.as_object()?.get_ignore_case(name).cloned().map(Ok),
            Node::Object(nodes) => {
                let (key, node) = nodes.iter().find(|(key, _)| same_name(key, name))?;
                let limits = &self.0.limits;
                Some(within_budget(context, limits, |budget| {
                    let value = evaluate_node(node, &Surroundings { context, limits, budget });
                    value.map_err(|failure| {
                        let mut failure = outside(failure, key);
                        failure.pointer.get_or_insert_default();
                        *failure
                    })
                }))
            }
            Node::Named(members) => within_budget(context, &self.0.limits, |budget| {
                let surroundings = Surroundings { context, limits: &self.0.limits, budget };
                members.iter().find_map(|member| {
                    let found = match member.name(&surroundings) {
                        Ok(found) if same_name(found.as_str()?, name) => {
                            evaluate_node(&member.value, &surroundings)
                        }
                        Ok(_) => return None,
                        Err(failure) => Err(failure),
                    };
                    Some(found.map_err(|failure| {
                        let mut failure = outside(failure, &member.written);
                        failure.pointer.get_or_insert_default();
                        *failure
                    }))
                })
            }),
            Node::Expression { .. } | Node::Interpolation { .. } | Node::Array(_) => None,
        }
    }

    /// The names that the template refers to, in source order.
    pub fn references(&self) -> Vec<Reference> {
        self.0.references.clone()
    }

    /// Calls with the wrong number of arguments. In this language, they are errors only when they are evaluated.
    pub fn warnings(&self) -> &[TemplateError] {
        &self.0.warnings
    }

    /// Whether the template calls the function with this name, ignoring case.
    pub fn calls(&self, function: &str) -> bool {
        self.0.calls.iter().any(|called| {
            same_name(called.info.name, function)
                || called.info.aliases.iter().any(|alias| same_name(alias, function))
        })
    }

    /// The JSON value that was compiled.
    pub fn source_value(&self) -> &Value {
        &self.0.source
    }

    /// The source of the template: the string itself, or the JSON text of any other value.
    pub fn source(&self) -> String {
        match self.0.source.as_str() {
            Some(text) => text.to_owned(),
            None => self.0.source.to_json_text(),
        }
    }
}

/// Checks that the value does not nest deeper than the limit.
pub(crate) fn check_depth(value: &Value, options: &Options) -> Result<(), TemplateError> {
    let limit = options.limits.depth_max.min(RECURSION_MAX);
    if value.depth() <= limit {
        return Ok(());
    }
    Err(TemplateError {
        code: Code::TooDeep,
        message: format!("The value nests deeper than {limit} levels."),
        hint: None,
        pointer: String::new(),
        in_name: false,
        span: 0..0,
    })
}

fn compile_node(compiler: &mut Compiler<'_>, value: &Value) -> Node {
    match value.as_ref() {
        ValueRef::String(_) => {
            let source = || Arc::clone(value.as_arc_str().expect("it is a string"));
            match compiler.text(value) {
                Text::Constant(constant) => Node::Constant(constant),
                Text::Expression(expr) => Node::Expression { expr, source: source() },
                Text::Interpolation(parts) => Node::Interpolation { parts, source: source() },
            }
        }
        ValueRef::Array(items) => {
            let nodes: Vec<Node> = items
                .iter()
                .enumerate()
                .map(|(at, item)| within(compiler, &at.to_string(), |compiler| compile_node(compiler, item)))
                .collect();
            if let Some(unchanged) = unchanged(value, nodes.iter().zip(items.iter())) {
                return unchanged;
            }
            if nodes.iter().all(is_constant) {
                return Node::Constant(nodes.into_iter().filter_map(into_constant).collect());
            }
            Node::Array(nodes)
        }
        ValueRef::Object(object) => compile_object(compiler, value, object),
        _ => Node::Constant(value.clone()),
    }
}

fn compile_object(compiler: &mut Compiler<'_>, value: &Value, object: &Object) -> Node {
    if object.keys().any(|key| is_template(key)) {
        return compile_named(compiler, object);
    }
    let nodes: Vec<(Arc<str>, Node)> = object
        .iter()
        .map(|(key, member)| {
            let node = within(compiler, key, |compiler| compile_node(compiler, member));
            (Arc::clone(key), node)
        })
        .collect();
    if let Some(unchanged) = unchanged(value, nodes.iter().map(|(_, node)| node).zip(object.values())) {
        return unchanged;
    }
    constant_object(nodes)
}

/// A constant if every property is constant, otherwise an object to evaluate.
fn constant_object(nodes: Vec<(Arc<str>, Node)>) -> Node {
    if nodes.iter().all(|(_, node)| is_constant(node)) {
        let members = nodes.into_iter().filter_map(|(key, node)| Some((key, into_constant(node)?)));
        return Node::Constant(Value::from(members.collect::<Object>()));
    }
    Node::Object(nodes)
}

/// Compiles an object with at least one name that is not literal. If all names are distinct constant strings, nothing is
/// left for evaluation; otherwise evaluation checks that the names are strings and distinct.
fn compile_named(compiler: &mut Compiler<'_>, object: &Object) -> Node {
    let members: Vec<NamedMember> = object
        .iter()
        .map(|(written, member)| {
            within(compiler, written, |compiler| {
                compiler.in_name = true;
                let name = compile_node(compiler, &Value::from(Arc::clone(written)));
                compiler.in_name = false;
                NamedMember { written: Arc::clone(written), name, value: compile_node(compiler, member) }
            })
        })
        .collect();
    let mut names: HashSet<&str> = HashSet::with_capacity(members.len());
    let settled = members.iter().all(|member| match &member.name {
        Node::Constant(name) => name.as_str().is_some_and(|name| names.insert(name)),
        _ => false,
    });
    if !settled {
        return Node::Named(members);
    }
    let plain = members.into_iter().filter_map(|member| {
        let name = into_constant(member.name)?;
        Some((Arc::clone(name.as_arc_str()?), member.value))
    });
    constant_object(plain.collect())
}

/// Whether a name is not literal text, by the same rules as for any string.
fn is_template(name: &str) -> bool {
    (name.len() > 1 && name.starts_with('@')) || name.contains("@{")
}

impl NamedMember {
    /// Evaluates the name, which must be a string. A failure is marked as a failure in the name.
    fn name(&self, surroundings: &Surroundings<'_>) -> Result<Value, Failure> {
        let name = evaluate_node(&self.name, surroundings);
        let wrong = match name {
            Ok(name) if name.as_str().is_some() => return Ok(name),
            Ok(name) => Error::new(
                Code::WrongType,
                format!(
                    "The name of a property must be a string, but '{}' evaluates to a value of type '{}'.",
                    self.written,
                    name.kind()
                ),
            ),
            Err(failure) => failure,
        };
        Err(Box::new(Error { in_name: true, ..*wrong }))
    }
}

/// The failure of an object with two properties of the same name.
#[cold]
fn taken(name: &Value) -> Failure {
    let shown = if name.contains_secret() { "<secret>".into() } else { name.text() };
    let message = format!("The object has more than one property named '{shown}'.");
    Box::new(Error { in_name: true, ..*Error::new(Code::BadArgument, message) })
}

fn is_constant(node: &Node) -> bool {
    matches!(node, Node::Constant(_))
}

fn into_constant(node: Node) -> Option<Value> {
    match node {
        Node::Constant(value) => Some(value),
        _ => None,
    }
}

/// The original container, if none of its parts changed.
fn unchanged<'a>(whole: &Value, parts: impl Iterator<Item = (&'a Node, &'a Value)>) -> Option<Node> {
    let mut parts = parts;
    parts
        .all(|(node, value)| matches!(node, Node::Constant(constant) if constant == value))
        .then(|| Node::Constant(whole.clone()))
}

/// Runs `work` with `step` appended to the pointer.
pub(crate) fn within<T>(
    compiler: &mut Compiler<'_>,
    step: &str,
    work: impl FnOnce(&mut Compiler<'_>) -> T,
) -> T {
    let before = compiler.pointer.len();
    push_pointer(&mut compiler.pointer, step);
    let done = work(compiler);
    compiler.pointer.truncate(before);
    done
}

/// Appends a step to a JSON pointer (RFC 6901).
pub(crate) fn push_pointer(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// What all strings of one template share while they are evaluated.
struct Surroundings<'a> {
    context: &'a dyn Context,
    limits: &'a Limits,
    budget: &'a Budget,
}

/// Runs `work` with the budget of the context, or with a new one.
fn within_budget<T>(context: &dyn Context, limits: &Limits, work: impl FnOnce(&Budget) -> T) -> T {
    match context.budget() {
        Some(budget) => work(budget),
        None => work(&Budget::of(limits)),
    }
}

/// What is wrong with the depth or the size of a result, if anything.
#[inline(never)]
fn oversize(value: &Value, limits: &Limits) -> Option<Error> {
    let message = if value.depth() > limits.depth_max {
        format!("The result nests deeper than {} levels.", limits.depth_max)
    } else if value.bytes() > limits.value_bytes_max {
        format!("The result would take more than {} bytes of memory.", limits.value_bytes_max)
    } else {
        return None;
    };
    Some(Error { code: Code::LimitExceeded, message, span: None, pointer: None, in_name: false })
}

/// Recurses as deeply as the template nests, which compilation has limited.
fn evaluate_node(node: &Node, surroundings: &Surroundings<'_>) -> Result<Value, Failure> {
    let Surroundings { context, limits, budget } = *surroundings;
    match node {
        Node::Constant(value) => Ok(value.clone()),
        Node::Expression { expr, source } => Evaluation { context, limits, budget, source }.expr(expr),
        Node::Interpolation { parts, source } => {
            Evaluation { context, limits, budget, source }.interpolation(parts)
        }
        Node::Array(nodes) => {
            budget.pay(nodes.len() as u64)?;
            let mut items = Vec::with_capacity(nodes.len());
            for (at, node) in nodes.iter().enumerate() {
                let item = evaluate_node(node, surroundings);
                items.push(item.map_err(|failure| outside(failure, &at.to_string()))?);
            }
            Ok(Value::from(items))
        }
        Node::Object(nodes) => {
            budget.pay(nodes.len() as u64)?;
            let mut object = Object::with_capacity(nodes.len());
            for (key, node) in nodes {
                let member = evaluate_node(node, surroundings);
                object.insert(Arc::clone(key), member.map_err(|failure| outside(failure, key))?);
            }
            Ok(Value::from(object))
        }
        Node::Named(members) => {
            budget.pay(members.len() as u64)?;
            let mut object = Object::with_capacity(members.len());
            let mut labels = Labels::NONE;
            for member in members {
                let here = |failure| outside(failure, &member.written);
                let name = member.name(surroundings).map_err(here)?;
                labels |= name.labels_within();
                let value = evaluate_node(&member.value, surroundings).map_err(here)?;
                if object.insert(Arc::clone(name.as_arc_str().expect("names are strings")), value).is_some() {
                    return Err(here(taken(&name)));
                }
            }
            // An object with a secret name is secret, because it would reveal the name.
            Ok(Value::from(object).labelled(labels))
        }
    }
}

/// Prepends a step to the JSON pointer of a failure.
#[cold]
fn outside(mut failure: Failure, step: &str) -> Failure {
    let inner = failure.pointer.take().unwrap_or_default();
    let mut pointer = String::new();
    push_pointer(&mut pointer, step);
    pointer.push_str(&inner);
    failure.pointer = Some(pointer);
    failure
}
