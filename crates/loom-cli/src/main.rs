//! The `loom` binary: arguments, wiring, exit codes. The only place that prints, and that reads the environment.

/// As the standard one, but whoever stops reading ends the program without a word.
macro_rules! print {
    ($($text:tt)*) => { $crate::console::print(format_args!($($text)*)) };
}

/// As the standard one, but whoever stops reading ends the program without a word.
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($text)*))) };
}

mod args;
mod bench;
mod console;
mod data;
mod eval;
mod example;
mod exit;
mod explain;
mod files;
mod live;
mod remote;
mod run;
mod secrets;
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
        Command::Run(args) => run::command(args, console),
        Command::Validate(args) => validate::command(&args, console),
        Command::Eval(args) => eval::command(&args, console),
        Command::Test(args) => test_cases::command(&args),
        Command::Explain(args) => explain::command(&args),
        Command::Example(args) => example::command(&args, console),
        Command::Serve(args) => serve::command(&args, console),
        Command::Runs(args) => remote::runs(&args, console),
        Command::Resilience(args) => remote::resilience(&args),
        Command::Secrets(args) => secrets::command(&args),
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
            eprintln!("loom: {error:#}");
            Exit::Usage.into()
        }
    }
}
