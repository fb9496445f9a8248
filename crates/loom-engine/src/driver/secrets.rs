//! The driver's part in secrets: reads them before the machine decides, refuses calls that need one which is gone, and labels
//! those that a service sends back.

use std::sync::Arc;

use loom_expression::Value;

use super::Driver;
use crate::{
    event::{EffectId, EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::Call,
    reads,
};

impl Driver {
    /// Reads the secrets and the keys of shared memory that the next decision needs.
    ///
    /// # Errors
    /// The store's. The run has to be held.
    pub(super) async fn read_missing(&mut self) -> Result<(), loom_store::Error> {
        self.rest();
        self.read_secrets().await;
        self.read_memory().await
    }

    /// Reads secrets. Their versions are recorded with the events of the decision.
    async fn read_secrets(&mut self) {
        let names = self.run.missing_secrets();
        let environment = Arc::clone(self.run.environment());
        let workflow = Arc::clone(&self.run.state().workflow().name);
        let read = self.wait_for(reads::read_all(environment.secrets.as_deref(), &workflow, names)).await;
        for (name, read) in read {
            let value = self.run.provide(name, &read);
            if let (Ok(secret), Some(value), Some(journal)) = (read, value, &mut self.journal) {
                journal.read_secret(&secret, &value);
            }
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
