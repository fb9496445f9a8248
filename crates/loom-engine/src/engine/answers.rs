//! Answering the questions that runs ask people.

use std::sync::Arc;

use bytes::Bytes;
use loom_expression::{Object, Value};
use loom_store::{Commit, Committed, Error as StoreError, InboxId, Post, Shard};

use super::Engine;
use crate::{
    Budgets,
    audit::{AuditEntry, Operation},
    event::RunId,
    questions::{Answer, AnswerError, Ask, OpenQuestions, Question, questions, signal_of},
    schema, signals, time,
};

impl Engine {
    /// Answers a question of a run, in the name of `by`. Without `question`, the run must ask exactly one.
    ///
    /// Returns once the answer and its entry in the audit are durable; the action that waits receives it soon after. The first
    /// answer counts, also when others arrive at the same time.
    ///
    /// # Errors
    /// [`AnswerError`]; the question is as it was.
    ///
    /// # Cancel safety
    /// If the future is dropped, the question may or may not have been answered.
    pub async fn answer(
        &self,
        run: RunId,
        question: Option<&str>,
        answer: Answer,
        by: &str,
    ) -> Result<InboxId, AnswerError> {
        let Some(durable) = &self.shared().durable else { return Err(AnswerError::Unknown { run }) };
        // Two answers to one question must not both find it without one.
        let _alone = self.shared().answering.lock().await;
        let Some((row, state)) = self.state_of(run).await? else { return Err(AnswerError::Unknown { run }) };
        let known = question.map(answer_key);
        let store = &durable.store;
        if let (Some(id), Some(key)) = (question, &known)
            && store.posted(Some(run), key).await.map_err(AnswerError::Store)?.is_some()
        {
            return Err(AnswerError::Answered { question: id.into() });
        }
        if row.ended.is_some() {
            return Err(AnswerError::Ended { run });
        }
        let mut open = Vec::new();
        for asked in questions(&state) {
            // One that was answered a moment ago still waits in the journal.
            if store.posted(Some(run), &answer_key(&asked.id)).await.map_err(AnswerError::Store)?.is_none() {
                open.push(asked);
            }
        }
        let ids = || OpenQuestions(open.iter().map(|asked| Arc::clone(&asked.id)).collect());
        let asked = match question {
            Some(id) => open.iter().find(|asked| asked.id.eq_ignore_ascii_case(id)),
            None if open.len() == 1 => open.first(),
            None => None,
        };
        let Some(asked) = asked else {
            let question = question.unwrap_or("anything in particular").into();
            return Err(AnswerError::NotAsked { run, question, open: ids() });
        };
        fits(asked, &answer)?;
        let at = self.shared().clock.now();
        let operation = match &answer {
            Answer::Reply { .. } => Operation::Reply,
            Answer::Decision { approved: true, .. } => Operation::Approve,
            Answer::Decision { approved: false, .. } => Operation::Reject,
        };
        let entry = AuditEntry {
            workflow: Some(Arc::clone(&row.workflow)),
            run: Some(run),
            action: Some(Arc::clone(&asked.id)),
            ..AuditEntry::new(at, operation, by)
        };
        let mut kept = Object::new();
        kept.insert("name", signal_of(&asked.id));
        kept.insert("sentTime", at.to_string());
        kept.insert("body", body_of(&answer, by));
        let mut commit = Commit::new();
        commit.inbox_posted.push(Post {
            run: Some(run),
            kind: signals::KIND,
            at: time::millis(at),
            idempotency_key: Some(answer_key(&asked.id)),
            payload: Bytes::from(Value::from(kept).to_json_text()),
            shard: Shard::default(),
        });
        let unique = format!("{run}-{}", blake3::hash(asked.id.as_bytes()).to_hex());
        commit.keys = entry.writes(&unique, self.shared().environment.audit_days);
        let (engine, store) = (self.clone(), Arc::clone(store));
        // A task of its own, so that a person who goes away does not keep the run from receiving the answer.
        let posting = self.shared().tasks.spawn(async move {
            let posted = store.commit(commit).await;
            engine.wake(run);
            posted
        });
        let posted = posting.await.map_err(|_| AnswerError::Store(StoreError::Closed))?;
        match posted.map_err(AnswerError::Store)? {
            Committed::Written(written) if !written.inbox.is_empty() => Ok(written.inbox[0]),
            _ => Err(AnswerError::Store(StoreError::Closed)),
        }
    }
}

fn answer_key(question: &str) -> Arc<str> {
    format!("answer:{}", question.to_lowercase()).into()
}

fn body_of(answer: &Answer, by: &str) -> Value {
    let mut body = Object::new();
    match answer {
        Answer::Reply { message } => {
            body.insert("message", message.clone());
        }
        Answer::Decision { approved, reason } => {
            body.insert("approved", *approved);
            if let Some(reason) = reason {
                body.insert("reason", Arc::clone(reason));
            }
        }
    }
    body.insert("by", by);
    body.into()
}

/// Whether an answer is what the question asks for.
fn fits(asked: &Question, answer: &Answer) -> Result<(), AnswerError> {
    if asked.ask != answer.to() {
        return Err(AnswerError::WrongKind { question: Arc::clone(&asked.id), ask: asked.ask });
    }
    let (Ask::Reply, Answer::Reply { message }) = (asked.ask, answer) else { return Ok(()) };
    let mismatch = |why: String| Err(AnswerError::Mismatch { question: Arc::clone(&asked.id), why });
    match asked.inputs.get("responseSchema").filter(|schema| !schema.is_null()) {
        None if message.as_str().is_some_and(|text| !text.trim().is_empty()) => Ok(()),
        None => mismatch("it must be a string that is not empty".to_owned()),
        Some(schema) => match schema::validate(schema, message, Budgets::default().schema_nodes_max) {
            Ok(mismatches) => match mismatches.first() {
                None => Ok(()),
                Some(first) => mismatch(first.message.clone()),
            },
            Err(
                schema::Problem::Invalid(why)
                | schema::Problem::Unsupported(why)
                | schema::Problem::TooCostly(why),
            ) => mismatch(format!("the schema cannot be used: {why}")),
        },
    }
}
