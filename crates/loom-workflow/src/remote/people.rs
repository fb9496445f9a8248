//! `loom runs questions`, `approve` and `reply`: what runs ask people.

use clap::{Args, Subcommand};
use hyper::{HeaderMap, Method};
use loom_expression::{Object, Value, percent};

use super::{Connection, Refusal, full_id, members, text};
use crate::{console, exit::Exit};

/// The commands of people who answer runs.
#[derive(Subcommand, Debug)]
pub(super) enum PeopleCommand {
    /// List what a run asks people.
    Questions {
        /// The run id, or an unambiguous prefix.
        run: String,
    },
    /// Approve, or reject, what a run asks.
    Approve {
        /// The run id, or an unambiguous prefix.
        run: String,
        /// The question; may be omitted if the run asks one.
        question: Option<String>,
        /// Reject it.
        #[arg(long)]
        reject: bool,
        /// Why; an agent reads the reason.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        by: By,
    },
    /// Reply to what a run asks.
    Reply {
        /// The run id, or an unambiguous prefix.
        run: String,
        /// The message: text, or the JSON that the question's schema describes.
        message: String,
        /// The question; may be omitted if the run asks one.
        #[arg(long, value_name = "ID")]
        question: Option<String>,
        #[command(flatten)]
        by: By,
    },
}

/// Who answers.
#[derive(Args, Debug)]
pub(super) struct By {
    /// Your name, for the audit trail [default: the name of the user on this machine].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl By {
    fn name(&self) -> Option<String> {
        self.by.clone().or_else(user).filter(|name| !name.trim().is_empty())
    }
}

/// The name of the user on this machine.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment for all")]
pub(super) fn user() -> Option<String> {
    let name = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.trim().is_empty())
}

/// Runs a command.
pub(super) async fn people(
    connection: &Connection,
    command: &PeopleCommand,
    json: bool,
) -> Result<Exit, Refusal> {
    match command {
        PeopleCommand::Questions { run } => {
            let run = full_id(connection, run).await?;
            let asked = questions(connection, &run).await?;
            if json {
                console::json(&asked.to_json_text());
            } else {
                list(&run, &asked);
            }
            Ok(Exit::Success)
        }
        PeopleCommand::Approve { run, question, reject, reason, by } => {
            let run = full_id(connection, run).await?;
            let mut body = Object::new();
            body.insert("approved", !reject);
            if let Some(reason) = reason {
                body.insert("reason", reason.as_str());
            }
            let done = if *reject { "rejected" } else { "approved" };
            answer(connection, (&run, question.as_deref()), (body, by), done, json).await
        }
        PeopleCommand::Reply { run, message, question, by } => {
            let run = full_id(connection, run).await?;
            let asked = questions(connection, &run).await?;
            let mut open = members(&asked, "questions");
            let wanted = match question {
                Some(id) => open.find(|asked| text(asked, "id").eq_ignore_ascii_case(id)),
                None => open.next(),
            };
            // A question with a schema wants JSON.
            let has_schema = wanted.is_some_and(|asked| asked.get("responseSchema").is_some());
            let given = if has_schema { Value::from_json_str(message).ok() } else { None };
            let mut body = Object::new();
            body.insert("message", given.unwrap_or_else(|| Value::from(message.as_str())));
            answer(connection, (&run, question.as_deref()), (body, by), "replied", json).await
        }
    }
}

async fn questions(connection: &Connection, run: &str) -> Result<Value, Refusal> {
    let path = format!("/api/v1/runs/{}/questions", percent::encode(run));
    connection.ask(Method::GET, &path, "questions").await
}

fn list(run: &str, asked: &Value) {
    let mut nothing = true;
    for question in members(asked, "questions") {
        nothing = false;
        let (id, ask) = (text(question, "id"), text(question, "ask"));
        let due =
            question.get("due").and_then(Value::as_str).map(|due| format!(", until {}", super::second(due)));
        println!("{id}  {ask}{}", due.unwrap_or_default());
        let plain = |name: &str| {
            let value = question.get(name)?;
            Some(value.as_str().map_or_else(|| value.to_json_text(), str::to_owned))
        };
        for (label, name) in [
            ("to", "to"),
            ("tool", "tool"),
            ("arguments", "arguments"),
            ("message", "message"),
            ("default", "default"),
        ] {
            if let Some(value) = plain(name).filter(|value| !value.is_empty()) {
                println!("  {label}: {}", value);
            }
        }
        let answer = if ask == "approval" { "approve" } else { "reply" };
        let more =
            if ask == "approval" { format!("{id} [--reject]") } else { format!("\"TEXT\" --question {id}") };
        println!("  answer with: loom runs {answer} {run} {more}");
    }
    if nothing {
        eprintln!("loom: the run asks nothing");
    }
}

async fn answer(
    connection: &Connection,
    (run, question): (&str, Option<&str>),
    (mut body, by): (Object, &By),
    done: &str,
    json: bool,
) -> Result<Exit, Refusal> {
    if let Some(question) = question {
        body.insert("question", question);
    }
    if let Some(name) = by.name() {
        body.insert("by", name);
    }
    let path = format!("/api/v1/runs/{}/answers", percent::encode(run));
    let body = Value::from(body).to_json_text().into_bytes();
    let answered = connection.send(Method::POST, &path, HeaderMap::new(), body).await?;
    if json {
        console::json(&answered.to_json_text());
    } else {
        println!("{run}  {done} by {}", text(&answered, "by"));
    }
    Ok(Exit::Success)
}
