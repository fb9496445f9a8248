//! The `loom` binary: arguments, wiring, exit codes. The only place that prints, and that reads the environment.

mod args;
mod bench;
mod console;
mod data;
mod eval;
mod example;
mod exit;
mod files;
mod live;
mod remote;
mod run;
mod serve;
mod test_cases;
mod validate;
mod warnings;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use console::Console;
use exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::from_environment();
    let outcome = match cli.command {
        Command::Run(args) => run::command(&args, console),
        Command::Validate(args) => Ok(validate::command(&args, console)),
        Command::Eval(args) => eval::command(&args, console),
        Command::Test(args) => test_cases::command(&args),
        Command::Example(args) => example::command(&args, console),
        Command::Serve(args) => serve::command(&args, console),
        Command::Runs(args) => remote::runs(&args, console),
        Command::Resilience(args) => remote::resilience(&args),
        Command::Bench(args) => bench::command(&args, console),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "loom", &mut std::io::stdout());
            Ok(Exit::Success)
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("loom: {error:#}");
            Exit::Usage.into()
        }
    }
}
