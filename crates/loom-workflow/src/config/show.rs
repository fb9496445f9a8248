//! `loom config`: shows the settings and their origins.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueHint};
use loom_expression::{Object, Value, Visible};
use loom_server::HIDDEN;

use super::{Config, Effective, Flags, Kind, Setting, layers::Origin, page, table::TABLE};
use crate::{console, exit::Exit};

/// Options of `loom config`.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the settings that `loom serve` would use with the same arguments; secrets are redacted.
    Show(ShowArgs),
    /// Print the reference page of all settings as Markdown.
    Reference,
}

#[derive(Args, Debug)]
struct ShowArgs {
    /// Definitions whose project settings are included.
    #[arg(value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Also print where each value was set.
    #[arg(long)]
    origin: bool,
    /// Print one JSON object with the value and origin of each setting.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags<true>,
}

/// Runs the command.
pub(crate) fn command(args: &ConfigArgs) -> Result<Exit> {
    match &args.command {
        ConfigCommand::Reference => print!("{}", page::page()),
        ConfigCommand::Show(args) => {
            let config = Config::resolve(&args.flags, &args.files)?;
            if args.json {
                console::json(&config.to_json().to_json_text_pretty());
            } else {
                print!("{}", config.text(args.origin));
            }
        }
    }
    Ok(Exit::Success)
}

impl Config {
    /// The settings in the format of `loom.toml`; settings without a value are comments.
    pub(super) fn text(&self, origin: bool) -> String {
        let mut lines = Vec::new();
        for (setting, given) in TABLE.iter().zip(&self.effective) {
            let value = shown(setting, given);
            let line = if given.texts.is_empty() && !matches!(setting.kind, Kind::List) {
                format!("# {} is not set", setting.key())
            } else if setting.secret {
                format!("# {} is set", setting.key())
            } else {
                format!("{} = {}", setting.key(), Visible(value.to_json_text()))
            };
            lines.push((line, given.origin.to_string()));
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default();
        let mut out = String::new();
        for (line, from) in lines {
            let line = if origin { format!("{line:width$}  # {}", Visible(from)) } else { line };
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// All settings as the API of a server shows them: `name`, `value` and `origin`.
    pub(crate) fn published(&self) -> Vec<Value> {
        let row = |(setting, given): (&Setting, &Effective)| {
            let mut object = Object::new();
            object.insert("name", setting.key());
            object.insert("value", shown(setting, given));
            object.insert("origin", given.origin.to_string());
            object.into()
        };
        TABLE.iter().zip(&self.effective).map(row).collect()
    }

    fn to_json(&self) -> Value {
        let row = |(setting, given): (&Setting, &Effective)| {
            let kind = match given.origin {
                Origin::Flag(_) => "flag",
                Origin::Variable(_) => "variable",
                Origin::File { .. } => "file",
                Origin::AppSettings { .. } => "localSettings",
                Origin::Host { .. } => "host",
                Origin::Default => "default",
            };
            let mut object = Object::new();
            object.insert("value", shown(setting, given));
            object.insert("origin", kind);
            if given.origin != Origin::Default {
                object.insert("place", given.origin.to_string());
            }
            (setting.key(), Value::from(object))
        };
        let mut all = Object::new();
        for (key, value) in TABLE.iter().zip(&self.effective).map(row) {
            all.insert(key.as_str(), value);
        }
        all.into()
    }
}

/// The value as it may be shown. URLs cannot contain credentials: those are rejected.
fn shown(setting: &Setting, given: &Effective) -> Value {
    if setting.secret && !given.texts.is_empty() {
        return Value::from(HIDDEN);
    }
    setting.kind.to_json(&given.texts)
}
