//! Data transformations of workflow actions: Liquid templates, XSLT, XML schemas, flat files, text chunks.
//!
//! Every function is pure: it takes the template or schema and the content as text or as a [`Value`], and returns the
//! result. Only included XML schemas are read from files. Nothing here knows actions or runs; the caller loads the
//! artifact and builds the action's outputs.

pub mod chunk;
pub mod flat_file;
pub mod liquid;
mod tree;
pub mod xml_data;
pub mod xml_schema;
pub mod xslt;

/// The examples of README.md, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

use std::borrow::Cow;

pub use loom_expression::Value;

/// Why a transformation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// A stable error code that workflows can match on, such as `InvalidXml`.
    pub code: &'static str,
    /// What went wrong, as a sentence with a full stop. It may quote the artifact and the content.
    pub message: Cow<'static, str>,
}

impl Error {
    pub(crate) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Error {
        Error { code, message: message.into() }
    }
}
