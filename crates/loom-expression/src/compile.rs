//! Compiles syntax trees: looks up functions, resolves names, folds constants, and reports all errors.

use std::{ops::Range, sync::Arc};

use crate::{
    Budget, Code, Context, Names, Options, Reference, ReferenceKind, Template, TemplateError, Value,
    evaluate::Evaluation,
    functions::{self, Function},
    suggest,
    syntax::{self, Key, Node, Segment, Segments},
};

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Constant(Value),
    Call(Box<CallExpr>),
    Access(Box<AccessExpr>),
    /// An operand of a condition, with its JSON pointer in the condition.
    Operand(Box<(Template, String)>),
    /// A call with the wrong number of arguments. It fails when it is evaluated.
    Misfit(Box<TemplateError>),
}

/// A call with its function resolved.
#[derive(Clone, Debug)]
pub(crate) struct CallExpr {
    pub(crate) function: &'static Function,
    pub(crate) arguments: Box<[Expr]>,
    /// The index that the first argument was resolved to, if it is a literal name.
    pub(crate) slot: Option<u32>,
    pub(crate) span: Range<u32>,
}

/// Property and index accesses on the result of a call.
#[derive(Clone, Debug)]
pub(crate) struct AccessExpr {
    pub(crate) target: Expr,
    pub(crate) steps: Box<[Step]>,
    /// Where the call starts, in bytes of the string.
    pub(crate) start: u32,
}

/// One property or index access.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) optional: bool,
    pub(crate) key: Expr,
    /// Where the access is. If it fails, the failed expression is everything up to its end.
    pub(crate) span: Range<u32>,
}

/// A compiled string.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Constant(Value),
    Expression(Expr),
    Interpolation(Box<[Part]>),
}

/// A part of an interpolated string.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(Arc<str>),
    Expression(Expr),
}

/// Compiles strings and collects errors, warnings and references.
pub(crate) struct Compiler<'a> {
    pub(crate) names: &'a dyn Names,
    pub(crate) options: &'a Options,
    pub(crate) errors: Vec<TemplateError>,
    /// Calls that fail if they are evaluated.
    pub(crate) warnings: Vec<TemplateError>,
    pub(crate) references: Vec<Reference>,
    pub(crate) calls: Vec<&'static Function>,
    /// The JSON pointer of the current string.
    pub(crate) pointer: String,
    /// Whether the current string is the name of the property at the pointer rather than its value.
    pub(crate) in_name: bool,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(names: &'a dyn Names, options: &'a Options) -> Self {
        Self {
            names,
            options,
            errors: Vec::new(),
            warnings: Vec::new(),
            references: Vec::new(),
            calls: Vec::new(),
            pointer: String::new(),
            in_name: false,
        }
    }

    /// Compiles one string. On errors, records them and returns an arbitrary constant.
    pub(crate) fn text(&mut self, source: &Value) -> Text {
        let text = source.as_str().expect("only strings are compiled as text");
        match syntax::segments(text) {
            Err(error) => {
                self.error(error);
                Text::Constant(Value::NULL)
            }
            Ok(Segments::Text(plain)) if plain.len() == text.len() => Text::Constant(source.clone()),
            Ok(Segments::Text(plain)) => Text::Constant(Value::from(plain.as_ref())),
            Ok(Segments::Expression(range)) => match self.expression(text, range) {
                Expr::Constant(value) => Text::Constant(value),
                expr => Text::Expression(expr),
            },
            Ok(Segments::Interpolation(segments)) => self.interpolation(text, segments),
        }
    }

    fn interpolation(&mut self, text: &str, segments: Vec<Segment<'_>>) -> Text {
        let mut parts: Vec<Part> = Vec::with_capacity(segments.len());
        // Adjacent constant parts are joined, so that a template without calls is a constant.
        let mut constant = String::new();
        for segment in segments {
            match segment {
                Segment::Text(plain) => constant.push_str(&plain),
                Segment::Expression(range) => match self.expression(text, range) {
                    Expr::Constant(value) if value.halves().is_empty() => {
                        constant.push_str(&crate::envelope::text(&value));
                    }
                    expr => {
                        if !constant.is_empty() {
                            parts.push(Part::Text(Arc::from(std::mem::take(&mut constant))));
                        }
                        parts.push(Part::Expression(expr));
                    }
                },
            }
        }
        if parts.is_empty() {
            return Text::Constant(Value::from(constant));
        }
        if !constant.is_empty() {
            parts.push(Part::Text(Arc::from(constant)));
        }
        Text::Interpolation(parts.into_boxed_slice())
    }

    fn expression(&mut self, text: &str, range: Range<usize>) -> Expr {
        match syntax::parse_expression(text, range, self.options) {
            Ok(expression) => self.lower(&expression),
            Err(error) => {
                self.error(*error);
                Expr::Constant(Value::NULL)
            }
        }
    }

    fn error(&mut self, mut error: TemplateError) {
        error.pointer.clone_from(&self.pointer);
        error.in_name = self.in_name;
        self.errors.push(error);
    }

    fn lower(&mut self, expression: &syntax::Expression) -> Expr {
        match &expression.node {
            Node::Null => Expr::Constant(Value::NULL),
            Node::Bool(value) => Expr::Constant(Value::from(*value)),
            Node::Int(value) => Expr::Constant(Value::from(*value)),
            Node::Float(value) => Expr::Constant(Value::from(*value)),
            Node::String(text) => Expr::Constant(Value::from(Arc::clone(text))),
            Node::Call(call) => {
                let target = self.call(call);
                if call.accessors.is_empty() {
                    return target;
                }
                let mut steps: Box<[Step]> = call
                    .accessors
                    .iter()
                    .map(|accessor| Step {
                        optional: accessor.optional,
                        key: match &accessor.key {
                            Key::Name(name) => Expr::Constant(Value::from(Arc::clone(name))),
                            Key::Index(key) => self.lower(key),
                        },
                        span: small(&accessor.span),
                    })
                    .collect();
                if self.options.loom_spelling && call.name.eq_ignore_ascii_case("actions") {
                    plural_outputs(&mut steps[0].key);
                }
                let constant = is_constant(&target) && steps.iter().all(|step| is_constant(&step.key));
                let access =
                    Expr::Access(Box::new(AccessExpr { target, steps, start: expression.span.start as u32 }));
                if constant { self.fold(access) } else { access }
            }
        }
    }

    fn call(&mut self, call: &syntax::Call) -> Expr {
        let arguments: Box<[Expr]> = call.arguments.iter().map(|argument| self.lower(argument)).collect();
        let Some(function) = functions::find(&call.name) else {
            self.unknown_function(call);
            return Expr::Constant(Value::NULL);
        };
        if !function.info.arity.allows(arguments.len()) {
            let misfit = TemplateError {
                code: Code::ArgumentCount,
                message: format!(
                    "The template language function '{}' expects {}, but was invoked with {}.",
                    call.name,
                    function.info.arity,
                    arguments.len()
                ),
                hint: Some(format!("its signature is {}", function.info.signature)),
                pointer: self.pointer.clone(),
                in_name: self.in_name,
                span: call.name_span.start..call.call_end,
            };
            self.warnings.push(misfit.clone());
            return Expr::Misfit(Box::new(misfit));
        }
        self.calls.push(function);
        let name = arguments.first().and_then(|first| match first {
            Expr::Constant(value) => value.as_arc_str().cloned(),
            _ => None,
        });
        let name = match (function.mentions, arguments.get(1)) {
            (Some(ReferenceKind::Secret), Some(version)) => match version {
                Expr::Constant(version) => {
                    name.and_then(|name| functions::secret_name(&name, version)).map(Arc::from)
                }
                _ => None,
            },
            _ => name,
        };
        let slot = match (function.names, &name) {
            (Some(kind), Some(name)) => self.names.slot(kind, name),
            _ => None,
        };
        if let Some(kind) = function.mentions {
            self.mention(kind, function, call, name);
        }
        let constant = function.pure && arguments.iter().all(is_constant);
        let span = call.name_span.start as u32..call.call_end as u32;
        let expr = Expr::Call(Box::new(CallExpr { function, arguments, slot, span }));
        if constant { self.fold(expr) } else { expr }
    }

    fn mention(
        &mut self,
        kind: ReferenceKind,
        function: &'static Function,
        call: &syntax::Call,
        name: Option<Arc<str>>,
    ) {
        let named = function.names.is_some()
            || matches!(
                kind,
                ReferenceKind::Secret
                    | ReferenceKind::AppSetting
                    | ReferenceKind::AgentParameter
                    | ReferenceKind::Memory
            );
        let span = match call.arguments.first() {
            Some(first) if named => first.span.clone(),
            _ => call.name_span.start..call.call_end,
        };
        let name = name.filter(|_| named);
        let computed = named && name.is_none();
        let (pointer, in_name) = (self.pointer.clone(), self.in_name);
        self.references.push(Reference { kind, name, computed, pointer, in_name, span });
    }

    fn unknown_function(&mut self, call: &syntax::Call) {
        let names = functions::all().map(|function| function.info.name);
        let hint = suggest::nearest(&call.name, names).map(|name| format!("did you mean '{name}'?"));
        self.error(TemplateError {
            code: Code::UnknownFunction,
            message: format!("The template function '{}' is not defined or not valid.", call.name),
            hint,
            pointer: String::new(),
            in_name: false,
            span: call.name_span.clone(),
        });
    }

    /// Evaluates a call of constants now. A call that fails is kept to fail at run time, and one with a large result is
    /// kept to be evaluated when it is needed.
    fn fold(&mut self, expr: Expr) -> Expr {
        const FOLDED_ITEMS_MAX: usize = 1_000;
        const FOLDED_STEPS_MAX: u64 = 10_000;
        if !self.errors.is_empty() {
            return expr;
        }
        let limits = crate::Limits {
            text_bytes_max: self.options.limits.text_bytes_max.min(16_384),
            items_max: self.options.limits.items_max.min(FOLDED_ITEMS_MAX),
            xpath_steps_max: self.options.limits.xpath_steps_max.min(10_000),
            ..self.options.limits
        };
        let budget = Budget::new(
            limits.evaluation_steps_max.min(FOLDED_STEPS_MAX),
            limits.json_values_max.min(FOLDED_ITEMS_MAX),
        );
        match (Evaluation { context: &NoContext, limits: &limits, budget: &budget, source: "" }).expr(&expr) {
            Ok(value) => Expr::Constant(value),
            Err(_) => expr,
        }
    }
}

struct NoContext;

impl Context for NoContext {}

fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Constant(_))
}

/// In the Loom spelling, `output` also reads the outputs of an action's record.
fn plural_outputs(key: &mut Expr) {
    if let Expr::Constant(name) = key
        && name.as_str() == Some("output")
    {
        *name = Value::from("outputs");
    }
}

/// A span in 32 bits, which is enough for the limited length of expressions.
fn small(span: &Range<usize>) -> Range<u32> {
    span.start as u32..span.end as u32
}
