//! Data transformations that workflow actions name: Liquid templates, XSLT, XML schemas, flat files, text chunks.
//!
//! Every function is pure: the template or schema and the content go in as text or as a [`Value`], the result comes out.
//! Nothing here reads files, knows actions or runs; the caller finds the artifact and shapes the action's outputs.

pub mod chunk;
pub mod flat_file;
pub mod liquid;
mod tree;
pub mod xml_data;
pub mod xml_schema;
pub mod xslt;

use std::borrow::Cow;

pub use loom_expression::Value;

/// Why a transformation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// A code that workflows can match on.
    pub code: &'static str,
    /// What went wrong, as a sentence. It may quote the artifact and the content.
    pub message: Cow<'static, str>,
}

impl Error {
    pub(crate) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Error {
        Error { code, message: message.into() }
    }
}
