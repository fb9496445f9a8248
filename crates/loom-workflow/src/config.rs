//! Settings: one declaration each, from which everything else follows.
//!
//! `table` declares every setting with its name, help, type, range and default. From a row come the flag, the key in
//! `loom.toml`, the `LOOM_*` variable, the member of the `Loom` section in `local.settings.json`, the line of `loom config show`,
//! the row of `docs/configuration.md`, and a typed field of [`Values`].
//!
//! # To add a setting
//!
//! 1. Add a row to `table.rs`, in the group where a reader of the page would look for it:
//!
//!    ```text
//!    /// How long a response may wait for its caller to take any of it, before the connection is closed.
//!    write_timeout: Duration = duration(1, 86_400).default("30s");
//!    ```
//!
//!    The type is `u64`, `Duration`, `bool`, `String`, `PathBuf`, `SocketAddr` or `RetryPolicy`; `Option<…>` for a setting without
//!    a default, `Vec<String>` for a list. Ranges of durations are in seconds. `.shared()` also gives it to `loom run`, `.live()`
//!    says that SIGHUP applies it (see `serve/reload.rs`), `.secret()` keeps it out of `config show`, `.excludes(…)` names
//!    settings that it takes the place of.
//! 2. Use `config.values.write_timeout`, in `serve.rs` for a server and in `run/settings.rs` for what a run sees.
//! 3. Write the page anew: `cargo run -q -p loom-workflow -- config reference > docs/configuration.md`. A test holds it to the table.
//!
//! A value that is not in the range, or not of the type, is refused with the name of the place where it was written. Settings of the
//! command line alone, such as the files to serve, are arguments and have no row.

mod flags;
mod kind;
mod layers;
mod page;
mod show;
mod table;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) use flags::Flags;
pub(crate) use layers::Origin;
pub(crate) use show::{ConfigArgs, command};
pub(crate) use table::Values;

use kind::Kind;

/// One setting, as it was declared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The field of [`Values`]; every other spelling is made from it.
    field: &'static str,
    /// The heading it stands under, in the help and on the page.
    group: &'static str,
    help: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    /// What the help calls its value; the kind's own name without it.
    value_name: Option<&'static str>,
    /// Whether `loom run` has it, too.
    shared: bool,
    live: bool,
    secret: bool,
    /// Fields of settings that it takes the place of.
    excludes: &'static [&'static str],
    check: fn(&Kind, &[String]) -> Result<(), String>,
}

impl Setting {
    /// `runs-max`: in `loom.toml`, and the flag without its dashes.
    pub(crate) fn key(&self) -> String {
        self.field.replace('_', "-")
    }

    /// `LOOM_RUNS_MAX`.
    fn variable(&self) -> String {
        format!("LOOM_{}", self.field.to_uppercase())
    }

    /// `runsMax`: in the `Loom` section of `local.settings.json`.
    fn member(&self) -> String {
        let mut out = String::new();
        for (place, word) in self.field.split('_').enumerate() {
            if place == 0 {
                out.push_str(word);
            } else {
                out.push_str(&word[..1].to_uppercase());
                out.push_str(&word[1..]);
            }
        }
        out
    }

    /// Whether SIGHUP applies a change of it.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }
}

/// A setting's value as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The values of a list; one text otherwise; none when it is not set.
    texts: Vec<String>,
    pub(crate) origin: Origin,
}

/// Every setting of one command, with where each came from.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) values: Values,
    /// In the order of the table.
    effective: Vec<Effective>,
    /// The folder of the project, with its `local.settings.json`, `connections.json` and `parameters.json`.
    pub(crate) project: Option<PathBuf>,
}

impl Config {
    /// The settings of a command on `files` with these flags, from every layer.
    ///
    /// # Errors
    /// A file cannot be read, holds something unknown, or a value is not one that its setting takes.
    pub(crate) fn resolve<const SERVE: bool>(flags: &Flags<SERVE>, files: &[PathBuf]) -> Result<Config> {
        layers::resolve(flags, files, &|name| std::env::var_os(name))
    }

    /// The defaults alone, whatever files and variables say.
    pub(crate) fn defaults() -> Config {
        layers::defaults()
    }

    /// The same, with the file of secrets in the folder of runs unless another one is set.
    pub(crate) fn with_secrets_beside(mut self, data: &Path) -> Config {
        self.values.secrets.get_or_insert_with(|| data.join(crate::secrets::FILE));
        self
    }

    /// The settings that differ from those of `before`.
    pub(crate) fn changed_since(&self, before: &Config) -> Vec<&'static Setting> {
        let pairs = self.effective.iter().zip(&before.effective);
        let changed = table::TABLE.iter().zip(pairs).filter(|(_, (now, then))| now.texts != then.texts);
        changed.map(|(setting, _)| setting).collect()
    }
}

/// Reports variables of the environment that were probably meant for a setting, and are not.
pub(crate) fn warn_of_misspelt_variables() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, meant) in layers::misspelt(names) {
        eprintln!("loom: warning: no setting is called {name}; did you mean {meant}?");
    }
}
