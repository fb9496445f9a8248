//! `loom chat`: a conversation with a workflow, or with a group of agents, in the terminal.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum, ValueHint};
use loom_expression::{Object, Value};

use crate::{
    config::Flags,
    console::Console,
    exit::Exit,
    remote,
    serve::{self, Front, ServeArgs},
};

/// The name of the workflow of a group that is described on the command line.
pub(crate) const GROUP: &str = "chat";

/// Options of `loom chat`.
#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    /// A definition, which runs in this process; or the name of a workflow of the server.
    #[arg(value_hint = ValueHint::FilePath, conflicts_with = "participants")]
    workflow: Option<PathBuf>,
    /// Chat with a group instead: the name of an agent and, after a colon, its instructions. May be repeated.
    #[arg(long, visible_alias = "participant", value_name = "NAME[: TEXT]", num_args = 1.., requires = "model")]
    participants: Vec<String>,
    /// The model of the group, as the connections file names it.
    #[arg(long, value_name = "NAME", requires = "participants")]
    model: Option<String>,
    /// Who of the group speaks next.
    #[arg(long, value_enum, default_value_t = Mode::RoundRobin, requires = "participants")]
    mode: Mode,
    /// How often somebody of the group speaks before it is your turn [default: each once].
    #[arg(long, value_name = "COUNT", value_parser = crate::args::whole_number(1_u32, 100), requires = "participants")]
    rounds: Option<u32>,
    /// The URL of the server of the workflow [default: the address in the settings].
    #[arg(long, value_name = "URL", conflicts_with = "participants")]
    server: Option<String>,
    /// Set a parameter of the workflow in this process: JSON, or otherwise a string. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", conflicts_with = "server")]
    parameters: Vec<String>,
    #[command(flatten)]
    flags: Flags<true>,
}

/// Who of a group speaks next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Each in turn.
    RoundRobin,
    /// Whom the model selects.
    Selector,
    /// All, without hearing each other.
    Broadcast,
}

pub(crate) const HELP: &str = "\
Each line that you type starts a run, whose trigger gets `message`, the line, and `messages`, the conversation so far. What agents say is
shown while it arrives; what the workflow asks people, you are asked. Ctrl-C stops the turn, Ctrl-C at the prompt twice, or Ctrl-D, leaves.
Lines from a pipe are turns, too; the answers are plain text.

Examples:
  loom chat support/workflow.json                       A definition, in this process
  loom chat support --server https://loom.example       A workflow of a server
  loom chat --model fast --participants 'Writer: You write one sentence.' --participants 'Critic: You find what is missing.'

In this process, runs are kept in memory unless --data is given.

Exit codes:
  0  you have left
  1  the last turn failed
  2  invalid arguments, or a file that cannot be read
  3  the definition is invalid, or the server has no such workflow
  4  the token is missing or wrong
  7  the server cannot be reached
  130  left by a second Ctrl-C";

/// A chat in this process.
pub(crate) struct LocalChat {
    /// The definition of a group, unless the workflow is in a file.
    pub(crate) group: Option<Vec<u8>>,
}

/// Runs the command.
pub(crate) fn command(args: &ChatArgs, console: Console) -> Result<Exit> {
    if args.workflow.is_none() && args.participants.is_empty() {
        bail!(
            "expected somebody to chat with, found nothing: give a definition, the name of a workflow of the server, or \
             --participants with --model (see `loom chat --help`)"
        );
    }
    let Some(workflow) = &args.workflow else {
        let local = LocalChat { group: Some(group(args)?.into_bytes()) };
        let serve = ServeArgs::of(Vec::new(), Vec::new(), args.flags.clone());
        return serve::command(&serve, console, Front::Chat(&local));
    };
    let is_path = workflow.is_file() || workflow.extension().is_some() || workflow.components().count() > 1;
    if args.server.is_none() && is_path {
        let serve = ServeArgs::of(vec![workflow.clone()], args.parameters.clone(), args.flags.clone());
        return serve::command(&serve, console, Front::Chat(&LocalChat { group: None }));
    }
    if args.server.is_some() && workflow.is_file() {
        bail!(
            "--server chats with a workflow of the server by its name; without it, {} runs in this process",
            workflow.display()
        );
    }
    remote::chat_with(args.server.clone(), &args.flags, &workflow.to_string_lossy(), console)
}

/// The definition of a group.
fn group(args: &ChatArgs) -> Result<String> {
    let model = args.model.as_deref().unwrap_or_default();
    let mut participants = Object::new();
    for typed in &args.participants {
        let (name, told) = typed.split_once(':').unwrap_or((typed, ""));
        let (name, told) = (name.trim(), told.trim());
        if name.is_empty() {
            bail!("--participants must be NAME or NAME: TEXT (got `{typed}`)");
        }
        let mut agent = Object::new();
        agent.insert("modelId", literal(model));
        let mut message = Object::new();
        message.insert("role", "System");
        message.insert("content", literal(told));
        agent.insert("messages", if told.is_empty() { Vec::new() } else { vec![Value::from(message)] });
        let mut participant = Object::new();
        participant.insert("description", literal(told));
        participant.insert("agent", agent);
        if participants.insert(name, participant).is_some() {
            bail!("--participants names `{name}` twice");
        }
    }
    let count = u32::try_from(participants.len()).unwrap_or(u32::MAX);
    let mut inputs = Object::new();
    inputs.insert("initialMessage", "@triggerBody()?['message']");
    inputs.insert("participants", participants);
    inputs.insert("memory", Object::single("key".into(), "chat:terminal".into()));
    let rounds = match args.mode {
        Mode::Broadcast => 1,
        Mode::RoundRobin | Mode::Selector => count,
    };
    match args.mode {
        Mode::RoundRobin => {}
        Mode::Broadcast => drop(inputs.insert("mode", "broadcast")),
        Mode::Selector => {
            inputs.insert("mode", "selector");
            inputs.insert("coordinator", Object::single("modelId".into(), literal(model)));
        }
    }
    let mut chat = Object::new();
    chat.insert("type", "GroupChat");
    chat.insert("limit", Object::single("rounds".into(), i64::from(args.rounds.unwrap_or(rounds)).into()));
    chat.insert("inputs", inputs);
    let trigger: Object =
        [("type", Value::from("Request")), ("kind", Value::from("Agent"))].into_iter().collect();
    let mut definition = Object::new();
    definition.insert("memory", Object::single("write".into(), vec![Value::from("chat:*")].into()));
    definition.insert("triggers", Object::single("chat".into(), trigger.into()));
    definition.insert("actions", Object::single("Group".into(), chat.into()));
    Ok(Value::from(Object::single("definition".into(), definition.into())).to_json_text())
}

/// A string that is not an expression.
fn literal(text: &str) -> Value {
    let text = text.replace("@{", "@@{");
    Value::from(if text.starts_with('@') && !text.starts_with("@@") { format!("@{text}") } else { text })
}
