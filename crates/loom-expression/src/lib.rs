//! The expressions of the Workflow Definition Language: parsing, compilation and evaluation.
//!
//! A [`Template`] is compiled once from a JSON value of a definition and evaluated many times with a [`Context`], which
//! provides everything from outside: parameters, variables, results of actions, the time, random numbers. The crate is
//! synchronous and has no clock and no I/O, so the same inputs always give the same value.
//!
//! ```
//! use loom_expression::{NoNames, Options, RecordedContext, Template, Value};
//!
//! let template = Template::compile_str("Hello, @{parameters('who')}!", &NoNames, &Options::default())
//!     .expect("the template is well formed");
//! let context = RecordedContext::from_json(&Value::from_json_str(r#"{"parameters": {"who": "world"}}"#)?)?;
//! assert_eq!(template.evaluate(&context)?.as_str(), Some("Hello, world!"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![expect(
    clippy::unnecessary_box_returns,
    reason = "failures are boxed where they are created, so that results stay small"
)]

mod budget;
mod compile;
mod condition;
pub mod conformance;
pub mod context;
mod culture;
pub mod envelope;
mod error;
mod evaluate;
pub mod form;
mod functions;
pub mod json_escape;
mod limits;
mod mask;
mod number;
pub mod percent;
mod recorded;
mod reference;
mod suggest;
pub mod syntax;
mod template;
mod time;
mod utf16;
mod value;
mod visible;
mod xml;
pub mod xpath;

/// The examples of README.md, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

pub use self::visible::{Visible, is_unseen, push_visible, stand_in, visible};

pub use self::{
    budget::Budget,
    condition::Condition,
    context::{
        Context, InvalidTimestamp, Lookup, LookupError, MemoryForm, Name, NameKind, Names, NoNames, Timestamp,
    },
    error::{Code, Error, TemplateError, caret},
    functions::{Arity, Category, Example, FunctionInfo, function, functions, reference_page},
    limits::{Limits, Options},
    mask::{MASK, MaskedStream, Masker, is_connection_string, names_secret, without_quotes},
    recorded::{RecordedContext, RecordedContextError},
    reference::{Reference, ReferenceKind},
    suggest::nearest,
    template::Template,
    time::{iana_time_zone, is_time_zone},
    value::{
        Array, Decimal, JSON_DEPTH_MAX, JSON_VALUES_MAX, JsonError, Kind, Labels, Object, Value, ValueRef,
    },
};
