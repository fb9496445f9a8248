//! The commands of `loom` and their arguments, as clap parses them.

use std::{fmt::Display, path::PathBuf, str::FromStr};

use clap::{
    Args, Parser, Subcommand, ValueHint,
    error::{ContextKind, ContextValue},
};
use clap_complete::Shell;

use crate::config::Flags;

/// Run, test and serve workflow definitions (Azure Logic Apps) on any machine.
#[derive(Debug, Parser)]
#[command(name = "loom", version = VERSION, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of other servers, and ours of the same meaning.
const RELATED: [(&str, &str); 7] = [
    ("--port", "--addr PORT"),
    ("--listen", "--addr ADDRESS"),
    ("--bind", "--addr ADDRESS"),
    ("--host", "--addr ADDRESS"),
    ("--dir", "--workflows DIR"),
    ("--data-dir", "--data DIR"),
    ("--parameter", "--param NAME=VALUE"),
];

/// Replaces clap's advice to pass an unknown option as a value, which is never what was meant here, with the related option.
pub(crate) fn with_suggestion(mut error: clap::Error) -> clap::Error {
    if error.kind() != clap::error::ErrorKind::UnknownArgument {
        return error;
    }
    error.remove(ContextKind::Suggested);
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return error };
    let given = given.split('=').next().unwrap_or_default();
    if let Some((_, ours)) = RELATED.iter().find(|(other, _)| *other == given) {
        error.remove(ContextKind::SuggestedArg);
        let advice = format!("use `{ours}`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![advice.into()]));
    }
    error
}

/// Parses a whole number between `least` and `most`.
pub(crate) fn whole_number<T>(
    least: T,
    most: T,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: Copy + PartialOrd + FromStr + Display + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be a whole number between {least} and {most}"))
    }
}

/// The version, with the commit it was built from if that is known.
pub(crate) const VERSION: &str = env!("LOOM_VERSION");

const FIRST_STEPS: &str = "\
First steps:
  loom example flaky                  Watch a workflow survive a failing service
  loom run FILE --input '{\"id\": 7}'   Run a workflow once and show its progress
  loom serve --workflows DIR          Serve workflows over HTTP, with durable runs";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workflow once in this process and show its progress.
    #[command(after_help = RUN_EXIT_CODES)]
    Run(RunArgs),
    /// Check definitions and report errors with their position.
    #[command(after_help = VALIDATE_EXIT_CODES)]
    Validate(ValidateArgs),
    /// Evaluate an expression.
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Run test cases in virtual time, without network calls.
    #[command(after_help = TEST_EXIT_CODES)]
    Test(TestArgs),
    /// Draw a workflow, or a run of it, as SVG or Mermaid.
    #[command(after_help = GRAPH_HELP)]
    Graph(crate::graph::GraphArgs),
    /// Explain an error code such as L0204, or the connections file; without an argument, list all codes.
    Explain(ExplainArgs),
    /// Run a built-in example; without a name, list the examples.
    Example(ExampleArgs),
    /// Serve workflows over HTTP, with runs that survive a restart.
    #[command(after_help = crate::serve::EXIT_CODES)]
    Serve(crate::serve::ServeArgs),
    /// Chat with a workflow, or with a group of agents, in the terminal.
    #[command(after_help = crate::chat::HELP)]
    Chat(crate::chat::ChatArgs),
    /// Offer workflows as tools over the Model Context Protocol, on standard input and output.
    #[command(after_help = crate::mcp::HELP)]
    Mcp(crate::mcp::McpArgs),
    /// Inspect and manage runs.
    Runs(crate::remote::RunsArgs),
    /// Manage the workflows of a server.
    Workflows(crate::remote::WorkflowsArgs),
    /// Deploy definitions to a running server.
    Deploy(crate::remote::DeployArgs),
    /// Check, migrate and copy stores.
    Store(crate::store::StoreArgs),
    /// List and drain the nodes of a cluster.
    Nodes(crate::remote::NodesArgs),
    /// Create, list and revoke named tokens of a server, and show what their callers have changed.
    Tokens(crate::remote::TokensArgs),
    /// Inspect and control circuit breakers and rate limiters.
    Resilience(crate::remote::ResilienceArgs),
    /// Show and check the connectors of a project: connections with a description of their API.
    #[command(after_help = CONNECTORS_HELP)]
    Connectors(crate::connectors::ConnectorsArgs),
    /// Read and change shared memory.
    Memory(crate::remote::MemoryArgs),
    /// Manage the encrypted secrets that workflows read with `secret('NAME')`.
    Secrets(crate::secrets::SecretsArgs),
    /// Show the settings of `loom serve` and their sources.
    Config(crate::config::ConfigArgs),
    /// Measure the throughput and latency of workflows over HTTP on this machine.
    Bench(crate::bench::BenchArgs),
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

const RUN_EXIT_CODES: &str = "\
Exit codes:
  0  the run Succeeded, or a trigger condition prevented it
  1  the run Failed
  2  invalid arguments, or a file cannot be read
  3  the definition or its parameters are invalid
  4  the run was Cancelled
  5  the run TimedOut
  6  the run was Aborted by the engine
  130  interrupted; a durable run can be resumed (--durable --resume RUN)";

const CONNECTORS_HELP: &str = "\
Examples:
  loom connectors list
  loom connectors show sharepoint
  loom connectors show sharepoint GetItems
  loom connectors check

Exit codes:
  0  success
  2  invalid arguments, or a file cannot be read
  3  no such connector or operation, or a check found problems";

const EVAL_HELP: &str = "\
Examples:
  loom eval '@add(1, 2)'
  loom eval 'Hello, @{toUpper(parameters(\'name\'))}!' --param name=ada
  loom eval \"@triggerBody()?['lines'][0]\" --body '{\"lines\": [7]}'
  loom eval \"@outputs('Ask')?['body']\" --outputs Ask='{\"statusCode\": 200, \"body\": 1}'
  loom eval \"@item()\" --context '{\"item\": 3}'

The context is a JSON object with any of these properties:
  parameters, variables, appSettings   values by name
  trigger                              the result of trigger(): {\"name\": …, \"outputs\": {\"body\": …}}
  actions                              actions by name: {\"Ask\": {\"status\": \"Succeeded\", \"outputs\": …}}
  item                                 the result of item()
  loops                                enclosing loops by name: {\"item\": …} or {\"index\": 0}
  results                              the results of result(), by scope name
  workflow, action                     the results of workflow() and action()
  now, seed                            the current time, and the seed of random values

Exit codes:
  0  the expression was evaluated
  1  evaluation failed
  2  invalid arguments, or a file cannot be read
  3  the expression is not valid";

const TEST_EXIT_CODES: &str = "\
Exit codes:
  0  every case passed
  1  a case failed, with or without --chaos, or there was no case to run
  2  invalid arguments, a file that cannot be read or is not a list of cases, or no case matches the filter";

const GRAPH_HELP: &str = "\
Examples:
  loom graph order.json -o order.svg       Draw a definition
  loom graph order.json --mermaid          Print a Mermaid flowchart, for Markdown
  loom graph --run 06fkzwz1 -o run.svg     Draw a run of the server, with the state of each action

Exit codes:
  0  success
  2  invalid arguments, or a file cannot be read or written
  3  the definition is invalid, or the run does not exist
  4  the token is missing or wrong
  7  the server cannot be reached";

const VALIDATE_EXIT_CODES: &str = "\
Exit codes:
  0  no file has an error (warnings are allowed, unless --strict is given)
  2  invalid arguments, or a file cannot be read
  3  a file has an error or, with --strict, a warning";

/// Options of `loom run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The definition. Not needed with --resume: a run continues with the definition that is stored with it.
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "resume")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) with: RunWith,
    #[command(flatten)]
    pub(crate) keep: DurableArgs,
}

/// Options of durable runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct DurableArgs {
    /// Store the run on disk, so that it can be resumed after an interrupt, a crash or a power failure.
    #[arg(long)]
    pub(crate) durable: bool,
    /// The directory in which the run is stored [default: the data directory in the settings, `.loom` if there is none].
    #[arg(long, value_name = "DIR", requires = "durable", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// The key of that directory, if it is encrypted [default: the one in the settings].
    #[arg(long, value_name = "FILE", requires = "durable", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Option<PathBuf>,
    /// Resume this run instead of starting one. It continues with the definition it was started with.
    #[arg(long, value_name = "RUN", requires = "durable", conflicts_with_all = ["input", "trigger"])]
    pub(crate) resume: Option<String>,
}

/// The inputs of a run, and how it is shown.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RunWith {
    /// The body of the trigger: JSON, `@file`, or `-` for standard input.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,
    /// Set a parameter: a string unchanged, JSON for any other type, or `@file` for the contents of a file. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// The trigger that fires [default: the first one].
    #[arg(long, value_name = "NAME")]
    pub(crate) trigger: Option<String>,
    /// The workflow to run, if the file is a template that contains several workflows.
    #[arg(long, value_name = "NAME")]
    pub(crate) workflow: Option<String>,
    #[command(flatten)]
    pub(crate) flags: Flags<false>,
    /// Make another workflow callable as a child, under its own name, in addition to those of the project. May be repeated.
    #[arg(long = "child", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) children: Vec<PathBuf>,
    /// Inject the faults in this file into calls, to see how the workflow copes. The same file affects the same calls.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) chaos: Option<PathBuf>,
    /// Print the whole run (status, response, outputs, actions) as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only errors while the run is in progress.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Options of `loom validate`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ValidateArgs {
    /// Definitions, or directories that are searched recursively; `-` reads standard input.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    /// Set a parameter of every definition that declares it, as in `loom run`. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    #[command(flatten)]
    pub(crate) flags: Flags<false>,
    /// Also print the effective policy of each action that uses a named one, with the origin of each value.
    #[arg(long, conflicts_with_all = ["json", "sarif"])]
    pub(crate) explain: bool,
    /// Treat warnings as errors, such as an unknown action type.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print one JSON object per file.
    #[arg(long, conflicts_with = "sarif")]
    pub(crate) json: bool,
    /// Print one SARIF 2.1.0 log for all files.
    #[arg(long)]
    pub(crate) sarif: bool,
}

/// Options of `loom eval`.
#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    /// The expression as written in a definition, such as `@add(1, 2)`; `-` reads standard input.
    #[arg(allow_hyphen_values = true)]
    pub(crate) expression: String,
    /// The context the expression can refer to, as JSON (see below).
    #[arg(long, short, value_name = "JSON|@FILE|FILE", value_hint = ValueHint::FilePath)]
    pub(crate) context: Option<String>,
    /// The value of `parameters('NAME')`: JSON, or otherwise a string. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// The value of `variables('NAME')`: JSON, or otherwise a string. May be repeated.
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<String>,
    /// The value of `triggerBody()`.
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) body: Option<String>,
    /// The value of `outputs('NAME')`. May be repeated.
    #[arg(long = "outputs", value_name = "NAME=JSON")]
    pub(crate) outputs: Vec<String>,
    /// Print the value, or the error, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `loom test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Files of test cases, or directories that are searched recursively.
    #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    /// Print one JSON object per case.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a JUnit report to this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    /// Also run each case that passes with the faults in this file injected, under ten seeds, and name those that fail under any of them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) chaos: Option<PathBuf>,
    /// Named policies, instead of `resilience.json` of the project of each case.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) resilience: Option<PathBuf>,
    /// Run only cases whose id contains this string.
    #[arg(long, value_name = "STRING")]
    pub(crate) filter: Option<String>,
}

/// Options of `loom explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The code in brackets after `error` or `warning`, or a topic: connections, models, agent, groupchat, emit or memory.
    pub(crate) code: Option<String>,
}

/// Options of `loom example`.
#[derive(Args, Debug)]
pub(crate) struct ExampleArgs {
    /// The name of the example.
    pub(crate) name: Option<String>,
    /// Print the definition instead of running it.
    #[arg(long, requires = "name")]
    pub(crate) show: bool,
    /// Use this connections file instead of the example's own, for example to ask a real model.
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with = "show", value_hint = ValueHint::FilePath)]
    pub(crate) connections: Option<PathBuf>,
}
