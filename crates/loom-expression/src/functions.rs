//! The catalogue of functions. Each entry has a name, signature, description, examples and body.
//!
//! The examples run as tests, and the reference page `docs/functions.md` is generated from the catalogue.

pub(crate) mod arguments;
mod collection;
mod conversion;
mod datetime;
mod forms;
mod logic;
mod manipulation;
mod math;
mod reference_page;
mod string;
mod structured;
mod uri;
mod workflow;

use std::{collections::HashMap, fmt, sync::LazyLock};

pub use self::reference_page::reference_page;
pub(crate) use self::{arguments::Arguments, workflow::secret_name};
use crate::{Context, Lookup, Name, NameKind, ReferenceKind, Value, error::Failure};

/// The category of a function, which is a section of the reference page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// String functions.
    String,
    /// Functions on arrays, objects, and strings as sequences of characters.
    Collection,
    /// Comparison, choice and boolean operators.
    Logical,
    /// Conversion between types and encodings.
    Conversion,
    /// Arithmetic.
    Math,
    /// Dates, times and time zones.
    DateTime,
    /// Values of the workflow and the run.
    Workflow,
    /// The parts of URIs.
    Uri,
    /// Changes to objects, and XPath.
    Manipulation,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "String",
            Self::Collection => "Collection",
            Self::Logical => "Logical",
            Self::Conversion => "Conversion",
            Self::Math => "Math",
            Self::DateTime => "Date and time",
            Self::Workflow => "Workflow",
            Self::Uri => "URI",
            Self::Manipulation => "JSON and XML",
        })
    }
}

/// The number of arguments that a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// The minimum number of arguments.
    pub min: usize,
    /// The maximum number of arguments; `None` if there is no maximum.
    pub max: Option<usize>,
}

impl Arity {
    /// Whether the function can be called with `count` arguments.
    pub fn allows(self, count: usize) -> bool {
        count >= self.min && self.max.is_none_or(|max| count <= max)
    }
}

impl fmt::Display for Arity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (0, Some(0)) => f.write_str("no arguments"),
            (1, Some(1)) => f.write_str("1 argument"),
            (min, Some(max)) if min == max => write!(f, "{min} arguments"),
            (min, Some(max)) => write!(f, "{min} to {max} arguments"),
            (1, None) => f.write_str("at least 1 argument"),
            (min, None) => write!(f, "at least {min} arguments"),
        }
    }
}

/// An example of a function. It runs as a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The template to evaluate.
    pub expression: &'static str,
    /// The context as JSON text, or an empty string if none is needed.
    pub context: &'static str,
    /// The result as JSON text, or `error` if the evaluation fails.
    pub result: &'static str,
}

/// The documentation of a function.
#[derive(Clone, Copy, Debug)]
pub struct FunctionInfo {
    /// The name in its usual spelling. Calls ignore case.
    pub name: &'static str,
    /// Other names for the same function.
    pub aliases: &'static [&'static str],
    /// The category.
    pub category: Category,
    /// The signature, such as `add(a: number, b: number) → number`.
    pub signature: &'static str,
    /// The number of arguments.
    pub arity: Arity,
    /// A description of a few sentences.
    pub docs: &'static str,
    /// Examples that run as tests.
    pub examples: &'static [Example],
}

/// All functions, sorted by category and name.
pub fn functions() -> &'static [FunctionInfo] {
    static INFOS: LazyLock<Vec<FunctionInfo>> = LazyLock::new(|| {
        let mut infos: Vec<FunctionInfo> = all().map(|function| function.info).collect();
        infos.sort_by_key(|info| (info.category, info.name.to_ascii_lowercase()));
        infos
    });
    &INFOS
}

/// The function with this name or alias, ignoring case.
pub fn function(name: &str) -> Option<&'static FunctionInfo> {
    find(name).map(|function| &function.info)
}

/// A function with its body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) info: FunctionInfo,
    pub(crate) body: Body,
    pub(crate) secrecy: Secrecy,
    pub(crate) cost: Cost,
    /// The kind of reference that a call makes; see [`crate::Reference`].
    pub(crate) mentions: Option<ReferenceKind>,
    /// The kind of name that its first argument is, which is resolved at compile time.
    pub(crate) names: Option<NameKind>,
    /// Whether the result depends only on the arguments, so that calls with constants are evaluated at compile time.
    pub(crate) pure: bool,
}

/// The implementation of a function.
#[derive(Debug)]
pub(crate) enum Body {
    /// Receives its evaluated arguments.
    Plain(fn(&mut Arguments<'_>) -> Outcome),
    /// The first function handles calls with two arguments, which it only reads. If it returns `None`, or there are
    /// more arguments, the second function is called, which also reports errors.
    Pair(fn(&Value, &Value) -> Option<Value>, fn(&mut Arguments<'_>) -> Outcome),
    /// Takes no argument and reads from the context.
    Ask(fn(&dyn Context) -> Lookup),
    /// Takes one name and reads from the context.
    AskByName(fn(&dyn Context, Name<'_>) -> Lookup),
    /// Evaluates only the arguments it needs.
    Lazy(Lazy),
}

/// Functions that do not evaluate all their arguments, or that consume each one before they evaluate the next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lazy {
    If,
    And,
    Or,
    Coalesce,
    Concat,
}

/// How the result of a function receives labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// The result is computed from all arguments, so it receives all labels of the arguments and of everything in them.
    Mix,
    /// The result consists of arguments or parts of them, which keep their own labels.
    Carry,
}

/// How much of its arguments a function reads. The steps for it are spent before the call; the body spends steps for
/// anything more that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// The cost does not depend on the arguments.
    Flat,
    /// Strings, and the items and properties of containers, but not what is inside those.
    Items,
    /// The whole values.
    Whole,
}

pub(crate) type Outcome = Result<Value, Failure>;

impl Function {
    /// A pure function with [`Secrecy::Mix`] and [`Cost::Whole`]. The builder methods below change this.
    const fn new(category: Category, name: &'static str, arity: (usize, usize), body: Body) -> Self {
        let max = if arity.1 == ANY { None } else { Some(arity.1) };
        Self {
            info: FunctionInfo {
                name,
                aliases: &[],
                category,
                signature: "",
                arity: Arity { min: arity.0, max },
                docs: "",
                examples: &[],
            },
            body,
            secrecy: Secrecy::Mix,
            cost: Cost::Whole,
            mentions: None,
            names: None,
            pure: true,
        }
    }

    const fn docs(mut self, signature: &'static str, docs: &'static str) -> Self {
        self.info.signature = signature;
        self.info.docs = docs;
        self
    }

    const fn examples(mut self, examples: &'static [Example]) -> Self {
        self.info.examples = examples;
        self
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.info.aliases = aliases;
        self
    }

    const fn carries(mut self) -> Self {
        self.secrecy = Secrecy::Carry;
        self
    }

    const fn cost(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    const fn impure(mut self) -> Self {
        self.pure = false;
        self
    }

    const fn mentions(mut self, kind: ReferenceKind) -> Self {
        self.mentions = Some(kind);
        self.pure = false;
        self
    }

    const fn names(mut self, kind: NameKind) -> Self {
        self.names = Some(kind);
        self
    }
}

/// As the maximum of an arity: any number of arguments.
const ANY: usize = usize::MAX;

/// An example without a context.
const fn ex(expression: &'static str, result: &'static str) -> Example {
    Example { expression, context: "", result }
}

/// An example with a context.
const fn ex_in(context: &'static str, expression: &'static str, result: &'static str) -> Example {
    Example { expression, context, result }
}

/// All functions.
pub(crate) fn all() -> impl Iterator<Item = &'static Function> {
    static HOMES: &[&[Function]] = &[
        string::FUNCTIONS,
        collection::FUNCTIONS,
        logic::FUNCTIONS,
        conversion::FUNCTIONS,
        math::FUNCTIONS,
        datetime::FUNCTIONS,
        workflow::FUNCTIONS,
        forms::FUNCTIONS,
        uri::FUNCTIONS,
        manipulation::FUNCTIONS,
        structured::FUNCTIONS,
    ];
    HOMES.iter().copied().flatten()
}

/// The function with this name or alias, ignoring case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    static BY_NAME: LazyLock<HashMap<String, &'static Function>> = LazyLock::new(|| {
        all()
            .flat_map(|function| {
                let names = std::iter::once(function.info.name).chain(function.info.aliases.iter().copied());
                names.map(move |name| (name.to_ascii_lowercase(), function))
            })
            .collect()
    });
    BY_NAME.get(&name.to_ascii_lowercase()).copied()
}
