//! Evaluation of triggers that a server fires automatically: their inputs, recurrence and retries.

use std::{cell::Cell, sync::Arc, time::Duration};

use loom_definition::{
    Workflow,
    model::Setting,
    policy::{RetryPolicy, RetrySetting},
    trigger::{Recurrence, Trigger},
};
use loom_expression::{Error, Object, Value, without_quotes};

use crate::{
    engine::Engine,
    event::{ErrorInfo, Outcome, RetryHint},
    fire::TriggerScope,
    random::Source,
    reads::{self, Reads},
    retry, schema,
    schema::{Mismatch, Problem},
    scope,
    start::RunRequest,
};

/// A trigger, with the context of its expressions.
#[derive(Clone, Copy, Debug)]
pub struct TriggerView<'a> {
    /// Its workflow.
    pub workflow: &'a Arc<Workflow>,
    /// The trigger.
    pub trigger: &'a Trigger,
    /// Parameter values, in the order of `Workflow::parameters`.
    pub parameters: &'a [Value],
    /// What `trigger()` returns in its inputs: its last firing, or the response to its subscription.
    pub previous: Option<&'a Value>,
    /// What `listCallbackUrl()` returns.
    pub callback: Option<&'a str>,
}

/// Why a trigger does not accept a body: `EnableSchemaValidation` is set, and the body does not match the trigger's schema.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct BodyRefused {
    /// The error code, such as `TriggerInputSchemaMismatch`.
    pub code: &'static str,
    /// What is wrong, for the caller.
    pub message: String,
    /// The violations; none when the schema itself cannot be used.
    pub mismatches: Vec<Mismatch>,
}

impl Engine {
    /// Checks the body in `request` against the schema of its trigger. [`Engine::start`] does not: not every caller that starts a
    /// run stands for a caller of the trigger.
    ///
    /// # Errors
    /// Those of [`Engine::check_body`].
    pub fn check_request(&self, request: &RunRequest) -> Result<(), BodyRefused> {
        let trigger = match &request.trigger {
            Some(name) => request.workflow.find_trigger(name),
            None => request.workflow.triggers.first(),
        };
        trigger.map_or(Ok(()), |trigger| self.check_body(trigger, request.outputs.get("body")))
    }

    /// Checks a body against the schema of a trigger with `EnableSchemaValidation`; a missing body counts as null.
    ///
    /// # Errors
    /// [`BodyRefused`] when the body does not match, or the schema cannot be used.
    pub fn check_body(&self, trigger: &Trigger, body: Option<&Value>) -> Result<(), BodyRefused> {
        let Some(schema) = trigger.kind.schema().filter(|_| trigger.options.validate_schema) else {
            return Ok(());
        };
        if schema.as_object().is_none_or(Object::is_empty) {
            return Ok(());
        }
        let refused = |code, message| BodyRefused { code, message, mismatches: Vec::new() };
        let nodes_max = self.environment().budgets.schema_nodes_max;
        let body = body.unwrap_or(&Value::NULL);
        let mismatches = schema::validate(&schema, body, nodes_max).map_err(|problem| match problem {
            Problem::TooCostly(why) => refused("SchemaNodesExceeded", why),
            Problem::Invalid(why) | Problem::Unsupported(why) => refused(
                "TriggerInputSchemaInvalid",
                format!("The schema of trigger '{}' cannot be used: {why}", trigger.name),
            ),
        })?;
        if mismatches.is_empty() {
            return Ok(());
        }
        let message = format!(
            "The input body for trigger '{}' did not match its schema: {}",
            trigger.name,
            mismatches.iter().map(|mismatch| mismatch.message.as_str()).collect::<Vec<_>>().join(" ")
        );
        Err(BodyRefused { code: "TriggerInputSchemaMismatch", message, mismatches })
    }

    /// Evaluates the inputs of a trigger; with `member`, only that property of them. None when there are none.
    ///
    /// # Errors
    /// When an expression fails.
    ///
    /// # Cancel safety
    /// Cancel safe; it waits only for secrets to be read.
    pub async fn trigger_inputs(
        &self,
        view: TriggerView<'_>,
        member: Option<&str>,
    ) -> Result<Option<Value>, ErrorInfo> {
        let Some(template) = view.trigger.kind.inputs() else { return Ok(None) };
        let evaluated = self
            .with_reads(view, |reads| {
                let scope = self.scope(view, reads);
                match member {
                    None => Some(template.evaluate(&scope)),
                    Some(member) => template.evaluate_member(member, &scope),
                }
            })
            .await;
        evaluated.transpose().map_err(|error| template_error(view, "inputs", &error))
    }

    /// The schedule of a trigger: when it fires, or how often it polls. None when it has no recurrence.
    ///
    /// # Errors
    /// When an expression fails, or its result is not a valid recurrence.
    ///
    /// # Cancel safety
    /// Cancel safe; it waits only for secrets to be read.
    pub async fn trigger_recurrence(&self, view: TriggerView<'_>) -> Result<Option<Recurrence>, ErrorInfo> {
        match &view.trigger.recurrence {
            None => Ok(None),
            Some(Setting::Fixed(recurrence)) => Ok(Some(recurrence.clone())),
            Some(Setting::Computed(template)) => {
                let value = self
                    .with_reads(view, |reads| template.evaluate(&self.scope(view, reads)))
                    .await
                    .map_err(|error| template_error(view, "recurrence", &error))?;
                Recurrence::from_value(&value).map(Some).map_err(|why| {
                    let why = without_quotes(&why.to_string(), [&value]).into_owned();
                    let message =
                        format!("The recurrence of trigger '{}' is invalid: {why}.", view.trigger.name);
                    ErrorInfo::new("InvalidRecurrence", message)
                })
            }
        }
    }

    /// The wait before a failed request of a trigger is retried; none when it is not retried.
    ///
    /// `attempt` is the number of the attempt that failed, from 1. The same arguments always yield the same wait.
    ///
    /// # Cancel safety
    /// Cancel safe; it waits only for secrets to be read.
    pub async fn trigger_retry(
        &self,
        view: TriggerView<'_>,
        attempt: u32,
        outcome: &Outcome,
        hint: RetryHint,
        seed: u64,
    ) -> Option<Duration> {
        let policy = match &view.trigger.retry {
            RetrySetting::Fixed(policy) => Arc::clone(policy),
            RetrySetting::Default => Arc::clone(&self.shared().environment.default_retry),
            RetrySetting::Computed(template, spelling) => {
                let value = self.with_reads(view, |reads| template.evaluate(&self.scope(view, reads)));
                let value = value.await.ok()?;
                Arc::new(RetryPolicy::read(&value, *spelling).ok()?)
            }
        };
        retry::wait_before_next(&policy, attempt, outcome, hint, seed ^ u64::from(attempt))
    }

    /// See [`reads::with_reads`].
    async fn with_reads<T>(&self, view: TriggerView<'_>, evaluate: impl FnMut(&Reads) -> T) -> T {
        let named = (&view.workflow.name, Some(&view.trigger.name));
        reads::with_reads(self.environment(), named, evaluate).await
    }

    fn scope<'a>(&'a self, view: TriggerView<'a>, reads: &'a Reads) -> TriggerScope<'a> {
        let (run, seed) = self.shared().next_run(None);
        TriggerScope {
            workflow: view.workflow,
            parameters: view.parameters,
            environment: &self.shared().environment,
            reads,
            record: view.previous.cloned().unwrap_or(Value::NULL),
            callback: view.callback,
            now: self.shared().clock.now(),
            source: Source::of(run, seed),
            draws: Cell::new(0),
            budget: scope::budget(&self.shared().environment),
        }
    }
}

fn template_error(view: TriggerView<'_>, part: &str, error: &Error) -> ErrorInfo {
    let message = format!("The {part} of trigger '{}' cannot be evaluated: {error}", view.trigger.name);
    ErrorInfo::new("InvalidTemplate", message)
}
