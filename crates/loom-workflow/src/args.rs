//! What can be typed: the commands and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::config::Flags;

/// Runs, tests and serves workflow definitions, anywhere.
#[derive(Debug, Parser)]
#[command(name = "loom", version = VERSION, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The version, and the commit it was built from where that is known.
const VERSION: &str = env!("LOOM_VERSION");

const FIRST_STEPS: &str = "\
First steps:
  loom example flaky                  a workflow whose service fails on purpose
  loom run FILE --input '{\"id\": 7}'   one run, shown as it goes
  loom serve --workflows DIR          runs that survive the process, over HTTP";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workflow in this process and show what happens.
    #[command(after_help = RUN_EXIT_CODES)]
    Run(RunArgs),
    /// Check definitions, and point at what is wrong in them.
    #[command(after_help = VALIDATE_EXIT_CODES)]
    Validate(ValidateArgs),
    /// Evaluate one expression.
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Play the cases of test files, in virtual time and without calls.
    #[command(after_help = TEST_EXIT_CODES)]
    Test(TestArgs),
    /// Explain a code such as L0204, or the connections file (`connections`); without an argument, list the codes.
    Explain(ExplainArgs),
    /// Run one of the built-in examples; without a name, list them.
    Example(ExampleArgs),
    /// Serve workflows over HTTP; their runs survive the process.
    Serve(crate::serve::ServeArgs),
    /// Look at runs, and change them.
    Runs(crate::remote::RunsArgs),
    /// Give the triggers of workflows new addresses.
    Workflows(crate::remote::WorkflowsArgs),
    /// Look at circuit breakers and limiters, and change them.
    Resilience(crate::remote::ResilienceArgs),
    /// Keep secrets for `secret('name')`, with versions, in an encrypted file.
    Secrets(crate::secrets::SecretsArgs),
    /// Show the settings of `loom serve`, and where each comes from.
    Config(crate::config::ConfigArgs),
    /// Measure how fast this machine runs workflows, end to end over HTTP.
    Bench(crate::bench::BenchArgs),
    /// Print the completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

const RUN_EXIT_CODES: &str = "\
Exit codes:
  0  the run Succeeded, or a trigger condition held it back
  1  the run Failed
  2  the arguments are wrong, or a file cannot be read
  3  the definition or its parameters are refused
  4  the run was Cancelled
  5  the run TimedOut
  6  the engine Aborted it
  130  it was interrupted; a run that is kept (--durable) can go on";

const EVAL_HELP: &str = "\
Examples:
  loom eval '@add(1, 2)'
  loom eval 'Hello, @{toUpper(parameters(\'name\'))}!' --param name=ada
  loom eval \"@triggerBody()?['lines'][0]\" --body '{\"lines\": [7]}'
  loom eval \"@outputs('Ask')?['body']\" --outputs Ask='{\"statusCode\": 200, \"body\": 1}'
  loom eval \"@item()\" --context '{\"item\": 3}'

The context is an object with any of these members:
  parameters, variables, appSettings   names to values
  trigger                              what trigger() gives: {\"name\": …, \"outputs\": {\"body\": …}}
  actions                              names to records: {\"Ask\": {\"status\": \"Succeeded\", \"outputs\": …}}
  item; loops                          what item() gives; names to {\"item\": …} or {\"index\": 0}
  results                              names of scopes to what result() gives
  workflow, action                     what workflow() and action() give
  now, seed                            the clock, and where random values begin

Exit codes:
  0  it has a value
  1  it has none: evaluating it failed
  2  the arguments are wrong, or a file cannot be read
  3  it is no expression";

const TEST_EXIT_CODES: &str = "\
Exit codes:
  0  every case passed
  1  a case failed, or there was no case to play
  2  the arguments are wrong, a file cannot be read or holds no list of cases, or no case fits the filter";

const VALIDATE_EXIT_CODES: &str = "\
Exit codes:
  0  no file has an error; warnings may have been told
  2  the arguments are wrong, or a file cannot be read
  3  a file has an error";

/// Options of `loom run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The definition. A run that is resumed needs none: it goes on with the one that is kept with it.
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "resume")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) with: RunWith,
    #[command(flatten)]
    pub(crate) keep: Keep,
}

/// Where a run is kept that must survive the program.
#[derive(Args, Clone, Debug)]
pub(crate) struct Keep {
    /// Keep the run on the disk, so that it can go on after an interrupt, a crash or a loss of power.
    #[arg(long)]
    pub(crate) durable: bool,
    /// The folder in which it is kept.
    #[arg(long, value_name = "DIR", default_value = ".loom", requires = "durable", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// The key of that folder, if it is encrypted.
    #[arg(long, value_name = "FILE", requires = "durable", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Option<PathBuf>,
    /// Go on with this run, from the folder, instead of starting one. It goes on with the definition that it began with.
    #[arg(long, value_name = "RUN", requires = "durable", conflicts_with_all = ["input", "trigger"])]
    pub(crate) resume: Option<String>,
}

/// What a run is given, and how it is shown.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RunWith {
    /// The trigger's body: JSON, `@file` or `-` for standard input.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,
    /// A parameter's value: the text itself for a string, JSON for everything else, `@file` for what a file holds. May be
    /// given many times.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Which trigger fires; the first one without it.
    #[arg(long, value_name = "NAME")]
    pub(crate) trigger: Option<String>,
    /// Which workflow of a template that holds several.
    #[arg(long, value_name = "NAME")]
    pub(crate) workflow: Option<String>,
    #[command(flatten)]
    pub(crate) flags: Flags<false>,
    /// Make another workflow callable as a child, under its own name. May be given many times.
    #[arg(long = "child", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) children: Vec<PathBuf>,
    /// Print everything about the run on standard output, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show nothing but errors while it runs.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Options of `loom validate`.
#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// The definitions; in a folder, all at any depth. `-` reads standard input.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    /// A parameter's value, for every definition that declares it, as `loom run` takes it. May be repeated.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    #[command(flatten)]
    pub(crate) flags: Flags<false>,
    /// One JSON object a file.
    #[arg(long, conflicts_with = "sarif")]
    pub(crate) json: bool,
    /// One SARIF 2.1.0 log of all files.
    #[arg(long)]
    pub(crate) sarif: bool,
}

/// Options of `loom eval`.
#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    /// The expression as it stands in a definition, such as `@add(1, 2)`; `-` reads standard input.
    #[arg(allow_hyphen_values = true)]
    pub(crate) expression: String,
    /// What it may refer to, as JSON; see below.
    #[arg(long, short, value_name = "JSON|@FILE|FILE", value_hint = ValueHint::FilePath)]
    pub(crate) context: Option<String>,
    /// What `parameters('NAME')` gives: JSON, or else text. May be given many times.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// What `variables('NAME')` gives: JSON, or else text. May be given many times.
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<String>,
    /// What `triggerBody()` gives.
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) body: Option<String>,
    /// What `outputs('NAME')` gives. May be given many times.
    #[arg(long = "outputs", value_name = "NAME=JSON")]
    pub(crate) outputs: Vec<String>,
    /// The value, or the error, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `loom test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Files with cases; in a folder, all at any depth.
    #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    /// One JSON object a case.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a JUnit report.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    /// Only cases whose id contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
}

/// Options of `loom explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The code, as it stands in brackets behind `error` or `warning`; or `connections`.
    pub(crate) code: Option<String>,
}

/// Options of `loom example`.
#[derive(Args, Debug)]
pub(crate) struct ExampleArgs {
    /// Which one.
    pub(crate) name: Option<String>,
    /// Print its definition instead of running it.
    #[arg(long, requires = "name")]
    pub(crate) show: bool,
}
