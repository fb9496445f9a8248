//! The driver's part in secrets: reads them before the machine decides, refuses calls that need one which is gone, and labels
//! those that a service sends back.

use std::sync::Arc;

use loom_expression::Value;

use super::Driver;
use crate::{
    clock::Now,
    event::{EffectId, EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::Call,
    reads,
};

impl Driver {
    /// Reads the secrets that the next decision needs. Their versions are recorded with its events.
    pub(super) async fn read_secrets(&mut self) {
        self.rest();
        let names = self.run.missing_secrets();
        let environment = Arc::clone(self.run.environment());
        for (name, read) in reads::read_all(environment.secrets.as_deref(), names).await {
            let value = self.run.provide(name, &read);
            if let (Ok(secret), Some(value), Some(journal)) = (read, value, &mut self.journal) {
                journal.read_secret(&secret, &value);
            }
        }
    }

    /// Reads what the commands passed so far need, so that all of them are decided.
    pub(super) async fn complete_commands(&mut self, at: Now) {
        while self.run.lacks_reads() {
            self.read_secrets().await;
            self.evaluate();
            self.run.advance(at, 0);
        }
    }

    /// The result of a call that cannot be made, because it needs a secret that can no longer be read.
    pub(super) fn refused_secret(&self, call: &Call) -> Option<EffectResult> {
        let why = self.run.unavailable(call)?;
        let message = format!("The call of action '{}' cannot be made: {why}.", call.definition().name);
        let outcome = Outcome::failed("SecretNotAvailable", ErrorInfo::new("SecretNotAvailable", message));
        Some(EffectResult::Done { outcome, hint: RetryHint::default() })
    }

    /// Labels what a service sent back of the secrets that it was sent.
    pub(super) fn with_echoes_labelled(&self, effect: EffectId, mut result: EffectResult) -> EffectResult {
        let state = self.run.state();
        let inputs = state.call(effect).and_then(|asked| state.slot_at(asked.place)?.inputs.as_ref());
        if let EffectResult::Done { outcome, .. } | EffectResult::Pending { outcome, .. } = &mut result
            && inputs.is_some_and(Value::contains_secret)
        {
            let masker = &self.run.environment().masker;
            outcome.outputs = outcome.outputs.take().map(|outputs| masker.label_value(outputs));
        }
        result
    }
}
