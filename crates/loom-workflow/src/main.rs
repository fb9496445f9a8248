//! The `loom` binary: arguments, wiring, exit codes. Only this crate prints and reads the environment.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the only module that writes, and reads the environment for it"
)]
mod console;

mod args;
mod bench;
mod chaos;
mod chat;
mod config;
mod connectors;
mod data;
mod database;
mod eval;
mod example;
mod exit;
mod explain;
mod files;
mod graph;
mod live;
mod logs;
mod mcp;
mod process;
mod remote;
mod run;
mod secrets;
mod serve;
mod signals;
mod store;
mod test_cases;
mod validate;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use console::Console;
use exit::Exit;
use serve::Front;

fn main() -> ExitCode {
    #[cfg(debug_assertions)]
    console::switch_labels_off_for_controls();
    let console = Console::from_environment();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // The message quotes the arguments; if they are escaped, no quotation can start a line of its own.
            let arguments = std::env::args().map(|argument| loom_expression::visible(&argument).into_owned());
            let error = Cli::try_parse_from(arguments).err().unwrap_or(error);
            let error = args::with_suggestion(error);
            console::usage(&error);
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    let outcome = match cli.command {
        Command::Run(args) => run::command(&args, console),
        Command::Validate(args) => validate::command(&args, console),
        Command::Eval(args) => eval::command(&args, console),
        Command::Test(args) => test_cases::command(&args),
        Command::Explain(args) => explain::command(&args),
        Command::Graph(args) => graph::command(&args, console),
        Command::Example(args) => example::command(&args, console),
        Command::Serve(args) => serve::command(&args, console, Front::Address),
        Command::Chat(args) => chat::command(&args, console),
        Command::Mcp(args) => mcp::command(&args, console),
        Command::Runs(args) => remote::runs(&args, console),
        Command::Workflows(args) => remote::workflows(&args),
        Command::Deploy(args) => remote::deploy(&args),
        Command::Store(args) => store::command(&args),
        Command::Nodes(args) => remote::nodes(&args),
        Command::Tokens(args) => remote::tokens(&args),
        Command::Resilience(args) => remote::resilience(&args),
        Command::Connectors(args) => connectors::command(&args),
        Command::Memory(args) => remote::memory(&args),
        Command::Secrets(args) => secrets::command(&args),
        Command::Config(args) => config::command(&args),
        Command::Bench(args) => bench::command(&args, console),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "loom", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(Exit::Success)
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            console::error(format_args!("{error:#}"));
            Exit::Usage.into()
        }
    }
}
