//! `Condition`: the condition of If, Until and Query, which is an expression or an object of operators.

use std::sync::Arc;

use crate::{
    Budget, Code, Context, Error, Labels, Limits, Names, Options, Reference, Template, TemplateError, Value,
    ValueRef,
    compile::{CallExpr, Compiler, Expr},
    error::Failure,
    evaluate::{Evaluation, not_boolean},
    functions, suggest,
    template::{check_depth, within},
};

/// A compiled condition.
///
/// Either a template (`"@greater(variables('n'), 3)"`) or an object with one operator: `and` or `or` with an array of
/// conditions, `not` with one condition, or any function with an array of operands, as in
/// `{"equals": ["@variables('n')", 3]}`. An operand can be such an object too, as in
/// `{"equals": [{"length": ["@variables('list')"]}, 1]}`. Operator names ignore case.
#[derive(Clone, Debug)]
pub struct Condition(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    node: Node,
    references: Vec<Reference>,
    warnings: Vec<TemplateError>,
    calls: Vec<Template>,
    source: Value,
    limits: Limits,
}

#[derive(Debug)]
enum Node {
    Template(Template),
    /// Each condition with its JSON pointer, for messages.
    And(Vec<(Node, String)>),
    Or(Vec<(Node, String)>),
    Not(Box<Node>),
    /// A function call on operands, with the JSON pointer of the operator.
    Operator(Expr, String),
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// All errors in the condition.
    pub fn compile(value: &Value, names: &dyn Names, options: &Options) -> Result<Self, Vec<TemplateError>> {
        if let Err(error) = check_depth(value, options) {
            return Err(vec![error]);
        }
        let mut compiler = Compiler::new(names, options);
        let mut templates = Vec::new();
        let node = compile_node(&mut compiler, value, &mut templates);
        match node {
            Some(node) if compiler.errors.is_empty() => Ok(Self(Arc::new(Compiled {
                node,
                references: compiler.references,
                warnings: compiler.warnings,
                calls: templates,
                source: value.clone(),
                limits: options.limits,
            }))),
            _ => Err(compiler.errors),
        }
    }

    /// Evaluates the condition. `and` and `or` stop as soon as the result is known.
    ///
    /// # Errors
    /// The failure of an operand, or [`Code::NotBoolean`] if a condition does not evaluate to a boolean.
    pub fn evaluate(&self, context: &dyn Context) -> Result<bool, Error> {
        match self.evaluate_node(context) {
            Ok(value) => Ok(value.as_bool() == Some(true)),
            Err(failure) => Err(*failure),
        }
    }

    /// Evaluates the condition to a boolean value, which has the labels of the values that decided it.
    ///
    /// # Errors
    /// As [`Condition::evaluate`].
    pub fn evaluate_value(&self, context: &dyn Context) -> Result<Value, Error> {
        self.evaluate_node(context).map_err(|failure| *failure)
    }

    #[inline]
    fn evaluate_node(&self, context: &dyn Context) -> Result<Value, Failure> {
        let limits = &self.0.limits;
        let own;
        let budget = if let Some(budget) = context.budget() {
            budget
        } else {
            own = Budget::of(limits);
            &own
        };
        evaluate_node(&self.0.node, &Evaluation { context, limits, budget, source: "" })
    }

    /// The value of a condition that is one template and has the same value in every context. It may not be a boolean.
    pub fn as_constant(&self) -> Option<&Value> {
        match &self.0.node {
            Node::Template(template) => template.as_constant(),
            Node::And(_) | Node::Or(_) | Node::Not(_) | Node::Operator(..) => None,
        }
    }

    /// The names that the condition refers to, in source order.
    pub fn references(&self) -> Vec<Reference> {
        self.0.references.clone()
    }

    /// Calls that fail if they are evaluated; see [`Template::warnings`].
    pub fn warnings(&self) -> &[TemplateError] {
        &self.0.warnings
    }

    /// Whether a template in the condition calls the function with this name, ignoring case.
    pub fn calls(&self, function: &str) -> bool {
        self.0.calls.iter().any(|template| template.calls(function))
    }

    /// The source of the condition: the string itself, or the JSON text of any other value.
    pub fn source(&self) -> String {
        match self.0.source.as_str() {
            Some(text) => text.to_owned(),
            None => self.0.source.to_json_text(),
        }
    }
}

fn complain(compiler: &mut Compiler<'_>, message: String, hint: Option<String>) {
    let pointer = compiler.pointer.clone();
    let code = Code::BadCondition;
    compiler.errors.push(TemplateError { code, message, hint, pointer, in_name: false, span: 0..0 });
}

fn compile_node(compiler: &mut Compiler<'_>, value: &Value, templates: &mut Vec<Template>) -> Option<Node> {
    match value.as_ref() {
        ValueRef::Bool(_) => Some(Node::Template(Template::constant(value.clone()))),
        ValueRef::String(text) if compiler.options.loom_spelling && text.eq_ignore_ascii_case("true") => {
            Some(Node::Template(Template::constant(Value::from(true))))
        }
        ValueRef::String(text) if compiler.options.loom_spelling && text.eq_ignore_ascii_case("false") => {
            Some(Node::Template(Template::constant(Value::from(false))))
        }
        ValueRef::String(_) => compile_template(compiler, value, templates).map(Node::Template),
        ValueRef::Object(object) if object.len() == 1 => {
            let (operator, operands) = object.iter().next()?;
            within(compiler, operator, |compiler| compile_operator(compiler, operator, operands, templates))
        }
        ValueRef::Object(object) => {
            let message =
                format!("A condition object must have exactly one operator (got {}).", object.len());
            complain(compiler, message, Some("combine conditions with \"and\" or \"or\"".to_owned()));
            None
        }
        _ => {
            let message = format!(
                "A condition must be an expression or an object, found a value of type '{}'.",
                value.kind()
            );
            complain(compiler, message, None);
            None
        }
    }
}

fn compile_template(
    compiler: &mut Compiler<'_>,
    value: &Value,
    templates: &mut Vec<Template>,
) -> Option<Template> {
    let moved = |pointer: &str| format!("{}{pointer}", compiler.pointer);
    match Template::compile(value, compiler.names, compiler.options) {
        Ok(template) => {
            let references = template.references().into_iter();
            let references: Vec<Reference> = references
                .map(|reference| Reference { pointer: moved(&reference.pointer), ..reference })
                .collect();
            compiler.references.extend(references);
            let warnings: Vec<TemplateError> = template
                .warnings()
                .iter()
                .map(|warning| TemplateError { pointer: moved(&warning.pointer), ..warning.clone() })
                .collect();
            compiler.warnings.extend(warnings);
            templates.push(template.clone());
            Some(template)
        }
        Err(errors) => {
            let errors: Vec<TemplateError> = errors
                .into_iter()
                .map(|error| TemplateError { pointer: moved(&error.pointer), ..error })
                .collect();
            compiler.errors.extend(errors);
            None
        }
    }
}

fn compile_operator(
    compiler: &mut Compiler<'_>,
    operator: &str,
    operands: &Value,
    templates: &mut Vec<Template>,
) -> Option<Node> {
    let lower = operator.to_ascii_lowercase();
    match lower.as_str() {
        "and" | "or" => {
            let Some(members) = operands.as_array() else {
                let message = format!("'{operator}' must be an array of conditions.");
                complain(compiler, message, None);
                return None;
            };
            if members.is_empty() {
                complain(compiler, format!("'{operator}' must have at least one condition."), None);
                return None;
            }
            // Compilation continues after an error, so that all errors are reported.
            let nodes: Vec<Option<(Node, String)>> = members
                .iter()
                .enumerate()
                .map(|(at, member)| {
                    within(compiler, &at.to_string(), |compiler| {
                        let pointer = compiler.pointer.clone();
                        compile_node(compiler, member, templates).map(|node| (node, pointer))
                    })
                })
                .collect();
            let nodes = nodes.into_iter().collect::<Option<Vec<_>>>()?;
            Some(if lower == "and" { Node::And(nodes) } else { Node::Or(nodes) })
        }
        "not" => {
            // `{"not": [condition]}` also occurs; an array of one condition stands for that condition.
            let inner = match operands.as_array() {
                Some(list) if list.len() == 1 => {
                    within(compiler, "0", |compiler| compile_node(compiler, &list[0], templates))
                }
                _ => compile_node(compiler, operands, templates),
            };
            inner.map(|node| Node::Not(Box::new(node)))
        }
        _ => {
            let pointer = compiler.pointer.clone();
            compile_function(compiler, operator, operands, templates)
                .map(|call| Node::Operator(call, pointer))
        }
    }
}

fn compile_function(
    compiler: &mut Compiler<'_>,
    operator: &str,
    operands: &Value,
    templates: &mut Vec<Template>,
) -> Option<Expr> {
    let Some(function) = functions::find(operator) else {
        let names = functions::all().map(|function| function.info.name);
        let hint = suggest::nearest(operator, names.chain(["and", "or", "not"]))
            .map(|name| format!("did you mean '{name}'?"));
        complain(compiler, format!("'{operator}' is not a condition operator."), hint);
        return None;
    };
    let Some(list) = operands.as_array() else {
        complain(compiler, format!("'{operator}' must be an array of operands."), None);
        return None;
    };
    if !function.info.arity.allows(list.len()) {
        let message = format!("'{operator}' expects {}, but was given {}.", function.info.arity, list.len());
        complain(compiler, message, Some(format!("its signature is {}", function.info.signature)));
        return None;
    }
    let operands: Vec<Option<Expr>> = list
        .iter()
        .enumerate()
        .map(|(at, operand)| {
            within(compiler, &at.to_string(), |compiler| compile_operand(compiler, operand, templates))
        })
        .collect();
    let arguments = operands.into_iter().collect::<Option<Box<[Expr]>>>()?;
    Some(Expr::Call(Box::new(CallExpr { function, arguments, slot: None, span: 0..0 })))
}

/// Compiles an operand: a template or a nested operator. An object is an operator if its only property is named after
/// a function and holds an array; any other object is a literal.
fn compile_operand(
    compiler: &mut Compiler<'_>,
    operand: &Value,
    templates: &mut Vec<Template>,
) -> Option<Expr> {
    if let Some(object) = operand.as_object().filter(|object| object.len() == 1)
        && let Some((operator, operands)) = object.iter().next()
        && operands.as_array().is_some()
        && functions::find(operator).is_some()
    {
        return within(compiler, operator, |compiler| {
            compile_function(compiler, operator, operands, templates)
        });
    }
    let pointer = compiler.pointer.clone();
    let template = compile_template(compiler, operand, templates)?;
    Some(Expr::Operand(Box::new((template, pointer))))
}

/// Recurses as deeply as the condition nests, which compilation has limited.
fn evaluate_node(node: &Node, evaluation: &Evaluation<'_>) -> Result<Value, Failure> {
    evaluation.budget.pay(1)?;
    match node {
        Node::Template(template) => {
            let Evaluation { context, limits, budget, .. } = *evaluation;
            boolean(template.evaluate_within(context, limits, budget).map_err(Box::new)?)
        }
        Node::Not(inner) => {
            let value = evaluate_node(inner, evaluation)?;
            Ok(Value::from(value.as_bool() != Some(true)).labelled(value.labels()))
        }
        Node::And(members) => decide(members, false, evaluation),
        Node::Or(members) => decide(members, true, evaluation),
        Node::Operator(call, pointer) => {
            evaluation.expr(call).and_then(boolean).map_err(|mut failure| {
                if failure.pointer.is_none() {
                    // The operator itself failed, and it is not in a string that a span could refer to.
                    failure.span = None;
                    failure.pointer = Some(pointer.clone());
                }
                failure
            })
        }
    }
}

fn decide(members: &[(Node, String)], stop: bool, evaluation: &Evaluation<'_>) -> Result<Value, Failure> {
    let mut labels = Labels::NONE;
    for (member, pointer) in members {
        let value = evaluate_node(member, evaluation).map_err(|mut failure| {
            if failure.pointer.as_ref().is_none_or(String::is_empty) {
                failure.pointer = Some(pointer.clone());
            }
            failure
        })?;
        labels |= value.labels();
        if value.as_bool() == Some(stop) {
            return Ok(Value::from(stop).labelled(labels));
        }
    }
    Ok(Value::from(!stop).labelled(labels))
}

fn boolean(value: Value) -> Result<Value, Failure> {
    if value.as_bool().is_some() { Ok(value) } else { Err(not_boolean(value.kind())) }
}
