//! The secrets that a run reads: as references in its journal, and as entries of the audit in the same commits.

use std::sync::Arc;

use loom_expression::{Timestamp, Value};

use super::RunJournal;
use crate::{audit::AuditEntry, environment::Environment, journal::SecretRef, ports::Secret, reads::Use};

impl RunJournal {
    /// Records that a secret was read, and writes its value from now on as a reference to the version.
    pub(crate) fn read_secret(&mut self, secret: &Secret, value: &Value) {
        let read = Arc::new(SecretRef { name: Arc::clone(&secret.name), version: secret.version.clone() });
        self.values.refer(value, Arc::clone(&read));
        self.gathered.record_read(read);
    }

    /// Records the secrets that the run used with the next commit.
    pub(crate) fn audit(&mut self, uses: Vec<Use>, at: Timestamp, environment: &Environment) {
        for (number, used) in uses.into_iter().enumerate() {
            let entry = AuditEntry {
                workflow: Some(Arc::clone(&self.row.workflow)),
                run: Some(self.row.id),
                ..used.entry(at, "run", &environment.masker)
            };
            let unique = format!("{}-{}-{number}", self.row.id, self.next.0);
            self.keys.extend(entry.writes(&unique, environment.audit_days));
        }
    }
}
