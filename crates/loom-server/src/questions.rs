//! The questions that runs ask people, and their answers.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
};
use loom_engine::{Answer as PersonsAnswer, AnswerError, Question, questions};
use loom_expression::{Object, Value};

use crate::{
    access::Grant,
    fire::FireError,
    lookup::{run_id, unknown_run},
    path::Path,
    redact::Redaction,
    refusal::refusal,
    request::{self, read_body},
    response::{Answer, Problem, json, sentence},
    shared::Shared,
};

/// The maximum size of an answer in bytes.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The maximum length of the name of a person, in characters.
const NAME_MAX: usize = 200;

/// `GET /api/v1/runs/{id}/questions`: what the run asks people now.
pub(crate) async fn list(State(shared): State<Shared>, Path(id): Path<String>) -> Answer {
    let run = run_id(&id)?;
    let (_, state) = shared.host.engine.state_of(run).await?.ok_or_else(|| unknown_run(&id))?;
    let trigger = state.start().and_then(|start| start.trigger.get("name")?.as_str().map(str::to_owned));
    let redaction = Redaction::of(state.workflow(), trigger.as_deref());
    let open = questions(&state).into_iter().map(|question| shown(&question, &redaction));
    let mut object = Object::new();
    object.insert("questions", open.collect::<Vec<Value>>());
    Ok(json(StatusCode::OK, &object.into()))
}

fn shown(question: &Question, redaction: &Redaction) -> Value {
    // What is asked about untrusted inputs contains nothing of them.
    let inputs = match question.subject {
        Some(_) => question.inputs.clone(),
        None => redaction.inputs(question.place.action, &question.inputs),
    };
    let mut shown = Object::new();
    shown.insert("id", Arc::clone(&question.id));
    shown.insert("ask", question.ask.as_str());
    for property in ["to", "message", "tool", "arguments", "responseSchema", "default"] {
        if let Some(value) = inputs.get(property).filter(|value| !value.is_null()) {
            shown.insert(property, value.clone());
        }
    }
    if let Some(subject) = &question.subject {
        shown.insert("arguments", redaction.inputs(question.place.action, subject));
    }
    shown.insert("since", question.since.to_string());
    if let Some(due) = question.due {
        shown.insert("due", due.to_string());
    }
    shown.into()
}

/// `POST /api/v1/runs/{id}/answers`: answers a question, `{question?, approved | message, reason?, by?}`.
pub(crate) async fn answer(
    State(shared): State<Shared>,
    Extension(grant): Extension<Grant>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &[])?;
    let run = run_id(&id)?;
    let received = read_body(request.into_body(), &shared).await?;
    if received.bytes().len() > BODY_BYTES_MAX {
        let message = format!("An answer exceeds the limit of {BODY_BYTES_MAX} bytes.");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "AnswerTooLarge", message));
    }
    let body = request::json(received.bytes(), &shared)?;
    let body = body
        .as_ref()
        .and_then(Value::as_object)
        .ok_or_else(|| Problem::bad("The body must be a JSON object with 'approved' or 'message'."))?;
    let (question, given, person) = read(body)?;
    if !shared.host.store_runs() {
        return Err(refusal(FireError::StorePaused));
    }
    let by = by(&grant, person.as_deref());
    let number = shared.host.engine.answer(run, question.as_deref(), given, &by).await;
    let number = number.map_err(not_answered)?;
    let mut object = Object::new();
    object.insert("id", number.0.to_string());
    object.insert("run", id);
    object.insert("by", by);
    Ok(json(StatusCode::ACCEPTED, &object.into()))
}

/// Who answers: the person that the client names, and how the client was let in.
fn by(grant: &Grant, person: Option<&str>) -> String {
    person.map_or_else(|| grant.by.to_string(), |person| format!("{person} via {}", grant.by))
}

type Given = (Option<String>, PersonsAnswer, Option<String>);

fn read(body: &Object) -> Result<Given, Problem> {
    const PROPERTIES: [&str; 5] = ["question", "approved", "message", "reason", "by"];
    if let Some(name) = body.keys().find(|name| !PROPERTIES.contains(&&***name)) {
        let known = PROPERTIES.join("', '");
        return Err(Problem::bad(format!("Unknown property '{name}'; expected one of '{known}'.")));
    }
    let text = |name: &str| match body.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(Problem::bad(format!("'{name}' must be a string, found {}.", value.kind()))),
        },
    };
    let reason = text("reason")?;
    let given = match (body.get("approved"), body.get("message")) {
        (Some(approved), None) => {
            let approved = approved.as_bool().ok_or_else(|| {
                Problem::bad(format!("'approved' must be a boolean, found {}.", approved.kind()))
            })?;
            PersonsAnswer::Decision { approved, reason: reason.map(Arc::from) }
        }
        (None, Some(message)) if reason.is_none() => PersonsAnswer::Reply { message: message.clone() },
        (None, Some(_)) => return Err(Problem::bad("'reason' belongs to 'approved', not to 'message'.")),
        _ => return Err(Problem::bad("The body must have either 'approved' or 'message'.")),
    };
    let person = text("by")?;
    if let Some(name) = &person
        && (name.trim().is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control))
    {
        let message = format!("'by' must have 1 to {NAME_MAX} characters and no control characters.");
        return Err(Problem::bad(message));
    }
    Ok((text("question")?, given, person))
}

fn not_answered(error: AnswerError) -> Problem {
    let message = sentence(&error);
    match error {
        AnswerError::Unknown { .. } => Problem::not_found("RunNotFound", message),
        AnswerError::NotAsked { .. } => Problem::not_found("QuestionNotFound", message),
        AnswerError::Ended { .. } => Problem::new(StatusCode::CONFLICT, "RunEnded", message),
        AnswerError::Answered { .. } => Problem::new(StatusCode::CONFLICT, "QuestionAnswered", message),
        AnswerError::WrongKind { .. } | AnswerError::Mismatch { .. } => {
            Problem::new(StatusCode::BAD_REQUEST, "AnswerInvalid", message)
        }
        AnswerError::Store(error) if error.is_retryable() || matches!(error, loom_store::Error::Closed) => {
            refusal(FireError::StorePaused)
        }
        AnswerError::Store(error) => error.into(),
        AnswerError::Unreadable(error) => error.into(),
        _ => Problem::bad(message),
    }
}
