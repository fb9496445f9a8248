//! The ends of runs that a trigger waits for. Each is recorded in the commit that ends the run, so a crash loses none.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use loom_definition::RunStatus;
use loom_expression::{Object, Timestamp, Value};
use loom_store::{KeyWrite, RunRow};

use crate::event::ErrorInfo;

/// Named values: ends that have not been handled yet, by the id of the run. Each is an object with `run`, `workflow`, `status`,
/// `startTime`, `endTime` and `error`, and the cause of the run: `parent`, `origin` and `key`.
pub const ENDED_RUNS: &str = "engine/ended";

/// Workflows whose ends are recorded, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Watched(RwLock<BTreeSet<String>>);

impl Watched {
    pub(crate) fn set(&self, workflows: BTreeSet<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = workflows;
    }

    /// The write that records the end of a run, if a trigger waits for it.
    pub(crate) fn ended(
        &self,
        row: &RunRow,
        status: RunStatus,
        error: Option<&ErrorInfo>,
        at: Timestamp,
    ) -> Option<KeyWrite> {
        {
            let watched = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if watched.is_empty() || !watched.contains(&row.workflow.to_lowercase()) {
                return None;
            }
        }
        let text = |run: loom_store::RunId| run.to_string();
        let mut end = Object::new();
        end.insert("run", text(row.id));
        end.insert("workflow", Arc::clone(&row.workflow));
        end.insert("status", status.as_str());
        end.insert("startTime", row.started.map(|at| Timestamp::from_unix_millis(at.0).to_string()));
        end.insert("endTime", at.to_string());
        let error = error.map(|error| {
            let members = [
                ("code", Value::from(error.code.as_ref())),
                ("message", Value::from(error.message.as_str())),
            ];
            Value::from(members.into_iter().collect::<Object>())
        });
        end.insert("error", error);
        end.insert("parent", row.parent.map(text));
        end.insert("origin", row.origin.map(text));
        end.insert("key", row.idempotency_key.clone());
        Some(KeyWrite {
            namespace: ENDED_RUNS.into(),
            key: row.id.to_string().into(),
            value: Some(Bytes::from(Value::from(end).to_json_text())),
            ..KeyWrite::default()
        })
    }
}
