//! A call of a tool: a run, and what comes of it.

use std::sync::{Arc, PoisonError};

use loom_definition::RunStatus;
use loom_engine::RunId;
use loom_expression::{Object, Value};
use loom_store::RunRow;
use rmcp::{
    RoleServer,
    model::{
        CallToolRequestParams, CallToolResult, ContentBlock, ErrorData, MetaObject,
        ProgressNotificationParam, ProgressToken,
    },
    service::{Peer, RequestContext},
};

use super::{Tools, tools::Offered};
use crate::{
    completions::LOOK,
    event_json::shown_outputs,
    fire::{Fire, FireError},
    idempotency::Keyed,
    refusal::refusal,
    request,
    response::Problem,
    stream::{self, Feed},
};

/// The property of `_meta` with the key of a call, which a repetition has, too.
const IDEMPOTENCY_KEY: &str = "loom/idempotencyKey";

/// The property of `_meta` that says what happens to the run when its call is cancelled: `detach`, or `cancel`.
const ON_CANCEL: &str = "loom/onCancel";

/// The property of a result's `_meta` with the id of the run.
const RUN_ID: &str = "loom/runId";

/// The most bytes of an error in a result.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// What a client asks for beside the arguments.
struct Wishes {
    key: Option<String>,
    cancels: bool,
}

/// Why a call of a tool is over.
enum Ended {
    /// The run has responded, or has ended; the last message of the run.
    Run { last: String },
    /// The client waits no longer.
    Left,
    /// The server is stopping.
    Stopping,
}

impl Tools {
    /// Runs the workflow of a tool, and waits for its response or its end.
    pub(super) async fn call(
        &self,
        offered: &Offered,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let wishes = wishes(&request, context)?;
        let arguments = serde_json::Value::Object(request.arguments.unwrap_or_default()).to_string();
        let budgets = &self.host().engine.environment().budgets;
        let arguments = match Value::from_json_str_within(&arguments, budgets.json_values_max) {
            Ok(arguments) => arguments,
            Err(error) => return Ok(failed(None, format!("The arguments cannot be read: {error}."))),
        };
        if let Err(why) = offered.check(&arguments, budgets.schema_nodes_max) {
            return Ok(failed(None, why));
        }
        let row = match self.begin(offered, &arguments, &wishes, context).await {
            Ok(row) => row,
            Err(problem) => return Ok(failed(None, self.masked(&problem.message))),
        };
        let run = row.id;
        if wishes.cancels {
            self.cancels.lock().unwrap_or_else(PoisonError::into_inner).insert(context.id.clone(), run);
        }
        let mut progress = Progress::of(context);
        let ended = self.watch(&row, &mut progress, context).await;
        // A cancelled call has no response; its notification finds the run here.
        if wishes.cancels && !matches!(ended, Ok(Ended::Left)) {
            self.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&context.id);
        }
        let continues = |why: &str| {
            format!("{why}; its run continues. Repeat the call with the same key for its result.")
        };
        match ended {
            Ok(Ended::Run { last }) => match self.result(run, &last).await {
                Ok(result) => Ok(result),
                Err(problem) => Ok(failed(Some(run), self.masked(&problem.message))),
            },
            Ok(Ended::Left) => Ok(failed(Some(run), continues("The call was cancelled"))),
            Ok(Ended::Stopping) => Ok(failed(Some(run), continues("The server is stopping"))),
            Err(problem) => Ok(failed(Some(run), self.masked(&problem.message))),
        }
    }

    fn masked(&self, text: &str) -> String {
        self.host().engine.masker().mask(text).into_owned()
    }

    /// Starts the run, unless the key has started one.
    async fn begin(
        &self,
        offered: &Offered,
        arguments: &Value,
        wishes: &Wishes,
        context: &RequestContext<RoleServer>,
    ) -> Result<RunRow, Problem> {
        let (shared, deployment) = (&self.shared, &offered.deployment);
        let trigger = offered
            .trigger()
            .ok_or_else(|| Problem::bad("The workflow has changed; list its tool again."))?;
        let workflow = &deployment.workflow.name;
        let keyed = wishes.key.as_deref().map(|key| {
            let arguments = arguments.to_json_text();
            Keyed::new(&shared.host.signer, &trigger.name, key, &["tool", &arguments])
        });
        if let Some(keyed) = &keyed
            && let Some(row) = keyed.known(shared, workflow).await?
        {
            return Ok(row);
        }
        let outputs = offered.outputs(arguments);
        shared.host.engine.check_body(trigger, outputs.get("body"))?;
        let headers = context.extensions.get::<axum::http::request::Parts>().map(|parts| &parts.headers);
        let fire = Fire {
            deployment,
            trigger,
            outputs: outputs.into(),
            tracking_id: None,
            wants_response: deployment.has_response && trigger.split_on.is_none(),
            trace: headers.and_then(request::trace),
        };
        let along = keyed.as_ref().map(Keyed::along).unwrap_or_default();
        let fired = match shared.host.fire_along(fire, along).await {
            Err(FireError::NotMet { condition }) => {
                let message = format!("Condition {condition} of the trigger is not met; no run was started.");
                return Err(Problem::bad(message));
            }
            fired => fired.map_err(refusal),
        };
        // A concurrent call with the same key may have started the run.
        if fired.as_ref().map_or(true, |begun| begun.runs.is_empty())
            && let Some(keyed) = &keyed
            && let Some(row) = keyed.known(shared, workflow).await?
        {
            return Ok(row);
        }
        let first = fired?.first.ok_or_else(|| Problem::bad("The trigger started no run."))?;
        let row = shared.host.store.run(first.run).await?;
        row.ok_or_else(|| Problem::not_found("RunNotFound", "The run does not exist any more."))
    }

    /// Follows a run until it responds or ends.
    async fn watch(
        &self,
        row: &RunRow,
        progress: &mut Option<Progress>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Ended, Problem> {
        let shared = &self.shared;
        let mut news = shared.host.hub.watch(row.id);
        let mut feed = Feed::new(shared, row, 0).await?;
        let mut last = String::new();
        loop {
            news.borrow_and_update();
            while let Some((_, event)) = feed.next(shared).await? {
                if let Some(text) = stream::message_of(&event) {
                    last = text;
                }
                if let Some(progress) = progress {
                    progress.show(&event).await;
                }
                if event.get("type").and_then(Value::as_str) == Some("run.responded") {
                    return Ok(Ended::Run { last });
                }
            }
            if feed.has_ended() {
                return Ok(Ended::Run { last });
            }
            tokio::select! {
                changed = news.changed() => drop(changed),
                () = tokio::time::sleep(LOOK) => {}
                () = context.ct.cancelled() => return Ok(Ended::Left),
                () = shared.host.stopping.cancelled() => return Ok(Ended::Stopping),
            }
        }
    }

    /// The result of a run that has responded or ended.
    async fn result(&self, run: RunId, last: &str) -> Result<CallToolResult, Problem> {
        let gone =
            || Problem::not_found("RunNotFound", "The run was removed before its result could be read.");
        let (_, state) = self.host().engine.state_of(run).await?.ok_or_else(gone)?;
        if let Some(response) = state.response() {
            let status = response.get("statusCode").and_then(Value::as_i64).unwrap_or(200);
            let body = response.get("body").cloned().unwrap_or_default();
            let mut result = of_value(run, &body);
            if status >= 400 {
                let text = format!("The workflow responded with the status {status}: {}", plain(&body));
                result.content = vec![ContentBlock::text(cut(text))];
                result.is_error = Some(true);
            }
            return Ok(result);
        }
        if state.status() != RunStatus::Succeeded {
            let why = state.error().map(|error| self.masked(&error.message));
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            return Ok(failed(Some(run), format!("The run ended as {}{why}", state.status().as_str())));
        }
        let outputs = state.outputs().map(|outputs| shown_outputs(state.workflow(), outputs));
        let values: Object = outputs
            .as_ref()
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Object::iter)
            .map(|(name, output)| (Arc::clone(name), output.get("value").unwrap_or(output).clone()))
            .collect();
        if !values.is_empty() {
            return Ok(of_value(run, &values.into()));
        }
        let text = if last.is_empty() { "The run has succeeded." } else { last };
        Ok(with_run(CallToolResult::success(vec![ContentBlock::text(text)]), Some(run)))
    }
}

fn wishes(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Wishes, ErrorData> {
    let find = |name: &str| {
        let own = request.meta.as_ref().and_then(|meta| meta.0.0.get(name));
        own.or_else(|| context.meta.0.0.get(name))
    };
    let key = match find(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => {
            let key = key.as_str().filter(|key| (1..=255).contains(&key.len()));
            let message = format!("_meta[\"{IDEMPOTENCY_KEY}\"] must be a string of 1 to 255 bytes");
            Some(key.ok_or_else(|| ErrorData::invalid_params(message, None))?.to_owned())
        }
    };
    let cancels = match find(ON_CANCEL).map(serde_json::Value::as_str) {
        None | Some(Some("detach")) => false,
        Some(Some("cancel")) => true,
        Some(_) => {
            let message = format!("_meta[\"{ON_CANCEL}\"] must be \"detach\" or \"cancel\"");
            return Err(ErrorData::invalid_params(message, None));
        }
    };
    Ok(Wishes { key, cancels })
}

/// Reports the progress of a run to the client.
struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    /// What was reported last: it must not decrease.
    reached: f64,
}

impl Progress {
    fn of(context: &RequestContext<RoleServer>) -> Option<Progress> {
        let token = context.meta.get_progress_token()?;
        Some(Progress { peer: context.peer.clone(), token, reached: 0.0 })
    }

    async fn show(&mut self, event: &Value) {
        for progress in stream::progress_of(event) {
            let number = |name: &str| progress.get(name).and_then(Value::as_f64);
            // Without a number, or with one that was exceeded before, only the message is new.
            let current = number("current").filter(|current| *current > self.reached);
            self.reached = current.unwrap_or(self.reached + f64::EPSILON.max(self.reached * f64::EPSILON));
            let mut shown = ProgressNotificationParam::new(self.token.clone(), self.reached);
            shown.total = number("total");
            shown.message = progress.get("message").and_then(Value::as_str).map(str::to_owned);
            self.peer.notify_progress(shown).await.ok();
        }
    }
}

fn with_run(mut result: CallToolResult, run: Option<RunId>) -> CallToolResult {
    if let Some(run) = run {
        let mut meta = MetaObject::default();
        meta.0.insert(RUN_ID.to_owned(), run.to_string().into());
        result.meta = Some(meta);
    }
    result
}

/// A result that the model reads as an error. It names the run, if there is one.
fn failed(run: Option<RunId>, why: String) -> CallToolResult {
    let text = match run {
        Some(run) => format!("{} (run {run})", cut(why)),
        None => cut(why),
    };
    with_run(CallToolResult::error(vec![ContentBlock::text(text)]), run)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

/// A result with a value: as text, and as structured content unless it is text or an image.
fn of_value(run: RunId, value: &Value) -> CallToolResult {
    let result = match (value.as_object(), value.as_str()) {
        (_, Some(text)) => CallToolResult::success(vec![ContentBlock::text(text)]),
        (Some(members), _) if members.contains_key("$content") => binary(members),
        (None, None) if value.is_null() => CallToolResult::success(Vec::new()),
        (Some(_), _) => structured(value),
        (None, None) => structured(&Object::single(Arc::from("result"), value.clone()).into()),
    };
    with_run(result, Some(run))
}

fn structured(value: &Value) -> CallToolResult {
    let text = value.to_json_text();
    match serde_json::from_str(&text) {
        Ok(json) => CallToolResult::structured(json),
        Err(_) => CallToolResult::success(vec![ContentBlock::text(text)]),
    }
}

/// Binary content: an image as such, anything else as it is in the workflow.
fn binary(members: &Object) -> CallToolResult {
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = text("$content-type");
    if kind.starts_with("image/") {
        return CallToolResult::success(vec![ContentBlock::image(text("$content"), kind)]);
    }
    structured(&Value::from(members.clone()))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_json_text(), str::to_owned)
}
