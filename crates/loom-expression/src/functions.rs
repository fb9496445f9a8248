//! The catalogue of functions. One home for each: its name, signature, prose, examples and body stand together.
//!
//! The examples run as tests, and the reference page `docs/functions.md` is printed from this catalogue.

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

pub(crate) use self::arguments::Arguments;
pub use self::reference_page::reference_page;
use crate::{Context, Lookup, Name, NameKind, ReferenceKind, Value, error::Failure};

/// How a function's group is headed in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// Text.
    String,
    /// Arrays, objects, and text as a collection.
    Collection,
    /// Comparison and choice.
    Logical,
    /// From one kind to another.
    Conversion,
    /// Arithmetic.
    Math,
    /// Dates, times, time zones.
    DateTime,
    /// What belongs to the run.
    Workflow,
    /// Parts of URIs.
    Uri,
    /// Objects and XML.
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

/// How many arguments a function takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least this many.
    pub min: usize,
    /// At most this many; `None` for any number.
    pub max: Option<usize>,
}

impl Arity {
    /// Whether a call with this many arguments is right.
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

/// An example of a function, which runs as a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The template.
    pub expression: &'static str,
    /// The context as JSON, or empty where none is needed.
    pub context: &'static str,
    /// The value as JSON, or `error` where the example shows a failure.
    pub result: &'static str,
}

/// What there is to know about a function.
#[derive(Clone, Copy, Debug)]
pub struct FunctionInfo {
    /// The name in its usual spelling; calls ignore case.
    pub name: &'static str,
    /// Other names for the same function.
    pub aliases: &'static [&'static str],
    /// The group it belongs to.
    pub category: Category,
    /// How it is called, and what it gives.
    pub signature: &'static str,
    /// How many arguments it takes.
    pub arity: Arity,
    /// What it does, in a few sentences.
    pub docs: &'static str,
    /// Examples that run as tests.
    pub examples: &'static [Example],
}

/// All functions, by category and name.
pub fn functions() -> &'static [FunctionInfo] {
    static INFOS: LazyLock<Vec<FunctionInfo>> = LazyLock::new(|| {
        let mut infos: Vec<FunctionInfo> = all().map(|function| function.info).collect();
        infos.sort_by_key(|info| (info.category, info.name.to_ascii_lowercase()));
        infos
    });
    &INFOS
}

/// The function of this name or alias, ignoring case.
pub fn function(name: &str) -> Option<&'static FunctionInfo> {
    find(name).map(|function| &function.info)
}

/// A function with its body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) info: FunctionInfo,
    pub(crate) body: Body,
    pub(crate) secrecy: Secrecy,
    pub(crate) effort: Effort,
    /// What kind of thing a call mentions; see [`crate::Reference`].
    pub(crate) mentions: Option<ReferenceKind>,
    /// What its first argument names, to be resolved while compiling.
    pub(crate) names: Option<NameKind>,
    /// Whether the result depends on the arguments alone, so that constant calls can be computed at once.
    pub(crate) pure: bool,
}

/// How a function is run.
#[derive(Debug)]
pub(crate) enum Body {
    /// Gets its arguments evaluated.
    Plain(fn(&mut Arguments<'_>) -> Outcome),
    /// Of two arguments, looks at both where they are and gives a value that holds no others; where it gives none, or
    /// there are more arguments, the second function takes over and says what is wrong.
    Pair(fn(&Value, &Value) -> Option<Value>, fn(&mut Arguments<'_>) -> Outcome),
    /// Takes no argument and asks the context.
    Ask(fn(&dyn Context) -> Lookup),
    /// Takes one name and asks the context.
    AskByName(fn(&dyn Context, Name<'_>) -> Lookup),
    /// Evaluates only the arguments it needs.
    Lazy(Lazy),
}

/// The functions that do not evaluate all their arguments, or need none of them any more when they go to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lazy {
    If,
    And,
    Or,
    Coalesce,
    Concat,
}

/// How labels travel from arguments to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// The result mixes its arguments: it has all the labels that they and their parts have.
    Mix,
    /// The result is made of arguments or parts of them, and the body keeps their labels.
    Carry,
}

/// How much of its arguments a function goes through, which is what it pays for before it does. What it makes beyond
/// that, the body pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Nothing of them: the cost does not depend on them.
    Flat,
    /// Texts, and the items and members of containers without what is in them.
    Items,
    /// Everything.
    Whole,
}

pub(crate) type Outcome = Result<Value, Failure>;

impl Function {
    /// A pure function that mixes its arguments. The builders below say what is different.
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
            effort: Effort::Whole,
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

    const fn effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
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

/// As the upper end of an arity: any number of arguments.
const ANY: usize = usize::MAX;

/// An example without a context.
const fn ex(expression: &'static str, result: &'static str) -> Example {
    Example { expression, context: "", result }
}

/// An example with a context.
const fn ex_in(context: &'static str, expression: &'static str, result: &'static str) -> Example {
    Example { expression, context, result }
}

/// Every function, once.
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

/// The function of this name or alias, ignoring case.
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
