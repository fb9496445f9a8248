//! How a run ended, for those who wait for it.

use std::sync::Arc;

use loom_definition::RunStatus;
use loom_expression::Value;

use crate::event::{ErrorInfo, RunId};

/// How a run ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// Its id.
    pub id: RunId,
    /// The final status.
    pub status: RunStatus,
    /// The error, if the run ended with one.
    pub error: Option<Arc<ErrorInfo>>,
    /// The workflow's outputs.
    pub outputs: Option<Value>,
    /// The Response sent to the caller: `{statusCode, headers, body}`.
    pub response: Option<Value>,
}
