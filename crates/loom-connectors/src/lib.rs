//! Connectors by their own description: reads Swagger 2.0 and OpenAPI 3 with Microsoft's extensions, and turns an
//! operation with its `parameters` into a request.
//!
//! A [`Connector`] is read from a document, and optionally from the `apiProperties.json` beside it. Reading makes an index
//! of the operations; an [`Operation`] is built when it is used for the first time. [`Connector::call`] checks the
//! arguments of a call and returns a [`Call`], which contains a [`Request`] as plain data, or [`Problem`]s that say where
//! in the arguments something is wrong. Nothing here sends anything, and only files that a document refers to are read,
//! through the port [`Files`].

mod arguments;
mod bounds;
mod call;
mod connection;
mod connector;
mod context;
mod document;
mod encoding;
mod error;
mod example;
mod field;
mod index;
mod operation;
mod paging;
mod parameter;
mod policy;
mod properties;
mod response;
mod schema;
mod template;
mod trigger;

/// The examples of README.md, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

pub use loom_expression::{Array, Object, Value};

pub use self::{
    bounds::{DOCUMENT_BYTES_MAX, FILES_MAX, OPERATIONS_MAX, REFERENCES_MAX, VISITS_MAX},
    call::{Call, Lookup, Parts, Request},
    connection::{Connection, Credentials, TokenSource},
    connector::Connector,
    document::{Files, NoFiles},
    error::{Error, Problem, Step},
    field::{Field, Location},
    index::{Entry, Matched},
    operation::Operation,
    paging::Paging,
    parameter::ConnectionParameter,
    trigger::{Poll, Polled, Trigger, TriggerKind, Unsubscribe},
};
