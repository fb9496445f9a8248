//! `Agent` actions: a language model that calls tools until it has an answer, or hands over to another agent. And `GroupChat`
//! actions: conversations of several agents, people and workflows.
//!
//! Each call of the handler is one turn. It folds the conversation from the turns before, adds the results of blocks, and asks a
//! model at most once. Everything else that the conversation needs (tools, people, workflows, expressions, shared memory) is a
//! block of actions, which the engine executes; see `docs/decisions/0019` and `0022`.

mod ask;
mod chat;
mod offers;
mod outputs;
mod results;
mod setup;
mod talk;

use std::sync::Arc;

use loom_engine::{
    event::{EffectResult, RetryHint},
    ports::{ActionHandler, Call, CallFuture},
};
use loom_expression::Value;
use loom_models::{
    Answer, Request,
    conversation::{Command, Effect, Purpose, effects},
};

use self::{offers::Offers, setup::Setup, talk::Talk};
use crate::{
    Failure,
    handlers::failed,
    mcp::Sessions,
    models::{ModelSaid, Models, failed_answer, failure_of},
    requests::Requests,
};

/// Executes `Agent` actions in the form of Logic Apps, and `GroupChat` actions.
///
/// The outputs of an agent are `lastAssistantMessage` (the text), `body` (the text, or the JSON that `responseFormat` asks for),
/// `text` (what the model said in its last call), `stopReason`, `usage`, `iterations` (calls of the model) and `messages` (the
/// history). An agent that has handed over ends as `HandedOff`, with `handoff`.
///
/// The outputs of a group chat are `conversationId`, `rounds`, `status` (`complete`, `max-rounds`, `limit`, `handed-off` or `error`),
/// `stopReason`, `history`, `summary` (the last message), `body` (the answer of the response schema, or the last message), `usage`,
/// `calls` and `warnings`.
pub struct AgentHandler {
    models: Arc<Models>,
    sessions: Arc<Sessions>,
}

impl AgentHandler {
    /// A handler that makes its requests with `requests`.
    pub fn new(requests: &Arc<Requests>) -> AgentHandler {
        AgentHandler::asking(&Arc::new(Models::new(requests)), &Arc::new(Sessions::new(requests)))
    }

    pub(crate) fn asking(models: &Arc<Models>, sessions: &Arc<Sessions>) -> AgentHandler {
        AgentHandler { models: Arc::clone(models), sessions: Arc::clone(sessions) }
    }

    async fn run(&self, call: &Call) -> EffectResult {
        match self.turn(call).await {
            Ok(result) => result,
            Err(failure) => failed(failure),
        }
    }

    /// Makes one turn.
    async fn turn(&self, call: &Call) -> Result<EffectResult, Failure> {
        let offers = Offers::of(call, &self.sessions).await?;
        let setup = Setup::read(call, self.models.connections(), &offers)?;
        let at_ms = self.models.now_ms();
        let mut talk = Talk::of_earlier_turns(&setup, call, at_ms)?;
        talk.take_results()?;
        talk.refuse_tools()?;
        let mut said: Option<(Answer, RetryHint)> = None;
        loop {
            // What has happened is recorded before the next call of a model, and before the end.
            let due = effects(&setup.spec, &talk.state);
            let asked = due.into_iter().find_map(|effect| match effect {
                Effect::CallModel { call, purpose, request } => Some((call, purpose, request)),
                _ => None,
            });
            if talk.state.end().is_some() && !talk.has_unrecorded() {
                return Ok(talk.result(said));
            }
            let (Some((number, purpose, request)), None) = (asked, &said) else {
                return talk.recorded(said.as_ref().map(|(answer, _)| answer));
            };
            if talk.must_record() {
                return talk.recorded(None);
            }
            talk.asked.clone_from(&request.model);
            talk.speaks = matches!(purpose, Purpose::Turn { .. } | Purpose::Aggregate);
            let (answer, hint) = match self.ask(&setup, call, talk.speaks, *request).await? {
                Asked::Answered(answer, secret, hint) => {
                    talk.secret |= secret;
                    (answer, hint)
                }
                Asked::Failed(result) => return Ok(result),
                Asked::FailedForGood(error) => {
                    talk.decide(&Command::ModelFailed { call: number, error, at_ms: self.models.now_ms() })?;
                    if talk.state.end().is_some() || talk.has_unrecorded() {
                        return talk.recorded(None);
                    }
                    continue;
                }
            };
            let problem = setup.problem_of(&purpose, &answer);
            let at_ms = self.models.now_ms();
            talk.decide(&Command::ModelAnswered { call: number, answer: answer.clone(), problem, at_ms })?;
            talk.refuse_tools()?;
            said = Some((answer, hint));
        }
    }

    /// Asks a model once.
    async fn ask(
        &self,
        setup: &Setup,
        call: &Call,
        speaks: bool,
        mut request: Request,
    ) -> Result<Asked, Failure> {
        let model = setup.model(&request.model)?;
        request.model.clone_from(&model.named_by_provider);
        let answered = self.models.say(model, &request, call, speaks).await?;
        let secret = call.inputs.contains_secret() || answered.quotes_secrets();
        let ModelSaid { read, response, hint } = answered;
        match read {
            Ok(answer) => Ok(Asked::Answered(answer, secret, hint)),
            // A chat continues without its coordinator, and keeps what was said when a speaker fails.
            Err(error) if setup.chat.is_some() && !error.is_retryable() => Ok(Asked::FailedForGood(error)),
            Err(error) => {
                let failure = failure_of(&error, secret);
                Ok(Asked::Failed(failed_answer(&model.name, failure, hint, response)))
            }
        }
    }
}

/// What came of asking a model.
enum Asked {
    /// An answer, and whether it is secret.
    Answered(Answer, bool, RetryHint),
    /// The attempt has failed; the policies of the action decide what follows.
    Failed(EffectResult),
    /// No other attempt would help; the conversation decides what follows.
    FailedForGood(loom_models::ModelError),
}

impl ActionHandler for AgentHandler {
    fn call<'a>(&'a self, call: &'a Call) -> CallFuture<'a> {
        Box::pin(self.run(call))
    }

    /// The base URL of the model, whose limits all of its models usually share.
    fn service(&self, inputs: &Value) -> Option<Arc<str>> {
        let connections = self.models.connections();
        let model = match inputs.get("participants") {
            Some(_) => chat::first_model(inputs, connections)?,
            None => setup::model_of(inputs, connections).ok()?,
        };
        Some(model.service())
    }

    /// A repeated request changes nothing, though it costs again.
    fn is_idempotent(&self, _: &Value) -> bool {
        true
    }
}
