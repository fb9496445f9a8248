//! The settings as command-line flags.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, Error, FromArgMatches, ValueHint, value_parser};

use super::{Kind, Setting, table::TABLE};

/// The groups of settings that `--help` lists and the summary of `-h` leaves out.
const DETAILS: [&str; 3] = ["Limits", "Outgoing requests", "Traces"];

/// The settings of a command as flags: all of them for `loom serve`, the shared ones for `loom run`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags<const SERVE: bool> {
    given: Vec<(&'static str, Vec<String>)>,
    /// `--config`.
    pub(super) config: Option<PathBuf>,
}

impl<const SERVE: bool> Flags<SERVE> {
    /// The values given for a setting.
    pub(super) fn get(&self, setting: &Setting) -> Option<&[String]> {
        let found = self.given.iter().find(|(field, _)| *field == setting.field);
        found.map(|(_, texts)| texts.as_slice())
    }

    fn rows() -> impl Iterator<Item = &'static Setting> {
        TABLE.iter().filter(|setting| SERVE || setting.shared)
    }
}

impl<const SERVE: bool> clap::Args for Flags<SERVE> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_hint(ValueHint::FilePath)
            .value_parser(value_parser!(PathBuf))
            .help("Read settings from this file instead of the project's `loom.toml`");
        Self::rows().fold(command.arg(config), |command, setting| command.arg(argument::<SERVE>(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const SERVE: bool> FromArgMatches for Flags<SERVE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Flags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let texts = |setting: &Setting| {
            Some(matches.get_many::<String>(setting.field)?.cloned().collect::<Vec<String>>())
        };
        self.given = Self::rows().filter_map(|setting| Some((setting.field, texts(setting)?))).collect();
        self.config = matches.get_one::<PathBuf>("config").cloned();
        Ok(())
    }
}

fn argument<const SERVE: bool>(setting: &'static Setting) -> Arg {
    let check = move |text: &str| match (setting.check)(&setting.kind, &[text.to_owned()]) {
        Ok(()) => Ok(text.to_owned()),
        // clap quotes the value before the reason.
        Err(why) => Err(why.rsplit_once(" (got ").map_or(why.as_str(), |(reason, _)| reason).to_owned()),
    };
    let help = setting.help.trim();
    let help = help.strip_suffix('.').unwrap_or(help);
    let help = match setting.default {
        Some(default) if !matches!(setting.kind, Kind::Switch) => format!("{help} [default: {default}]"),
        _ => help.to_owned(),
    };
    let others = setting
        .excludes
        .iter()
        .filter(|field| SERVE || TABLE.iter().any(|other| other.shared && other.field == **field));
    let argument = Arg::new(setting.field)
        .long(setting.key())
        .help(help)
        .help_heading(setting.group)
        .hide_short_help(DETAILS.contains(&setting.group))
        .value_name(setting.value_name.unwrap_or(setting.kind.value_name()))
        .value_hint(setting.kind.hint())
        .value_parser(check)
        .conflicts_with_all(others.copied().collect::<Vec<_>>());
    match setting.kind {
        // `--memory=false` overrides a file that turns it on.
        Kind::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::List => argument.action(ArgAction::Append),
        _ => argument,
    }
}
