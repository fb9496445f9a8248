//! Settings: each is declared once, and everything else is derived from the declaration.
//!
//! `table` declares every setting with its name, help, type, range and default. A row yields the flag, the key in
//! `loom.toml`, the `LOOM_*` variable, the property of the `Loom` section in `local.settings.json`, the line of
//! `loom config show`, the row of `docs/configuration.md`, and a typed field of [`Values`].
//!
//! # To add a setting
//!
//! 1. Add a row to `table.rs`, in the group where a reader of the page would look for it:
//!
//!    ```text
//!    /// The time after which a connection is closed if its caller does not read any part of the response.
//!    write_timeout: Duration = duration(1, 86_400).default("30s");
//!    ```
//!
//!    The type is `u64`, `Duration`, `bool`, `String`, `PathBuf`, `SocketAddr` or `RetryPolicy`; `Option<…>` for a setting without
//!    a default, `Vec<String>` for a list. Ranges of durations are in seconds. `.shared()` also gives it to `loom run`, `.live()`
//!    marks it as applied by SIGHUP (see `serve/reload.rs`), `.secret()` redacts it in `config show`, `.excludes(…)` names
//!    settings that cannot be combined with it.
//! 2. Use `config.values.write_timeout`, in `serve.rs` for a server and in `run/settings.rs` for what a run sees.
//! 3. Regenerate the page: `cargo run -q -p loom-workflow -- config reference > docs/configuration.md`. A test compares it with the table.
//!
//! A value of the wrong type or outside the range is rejected with the position where it was written. Options that exist only
//! on the command line, such as the files to serve, are arguments and have no row.

mod flags;
mod kind;
mod layers;
mod page;
mod show;
mod table;

#[cfg(test)]
mod tests;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};

pub(crate) use flags::Flags;
pub(crate) use layers::Origin;
pub(crate) use show::{ConfigArgs, command};
pub(crate) use table::Values;

use kind::Kind;

/// The declaration of a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The field of [`Values`]; all other spellings are derived from it.
    field: &'static str,
    /// The heading in the help and on the page.
    group: &'static str,
    help: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    /// The name of its value in the help; that of its kind by default.
    value_name: Option<&'static str>,
    /// Whether `loom run` has it as well.
    shared: bool,
    live: bool,
    secret: bool,
    /// Fields of settings that cannot be combined with it.
    excludes: &'static [&'static str],
    check: fn(&Kind, &[String]) -> Result<(), String>,
}

impl Setting {
    /// `runs-max`: the key in `loom.toml`, and the flag without its dashes.
    pub(crate) fn key(&self) -> String {
        self.field.replace('_', "-")
    }

    /// `LOOM_RUNS_MAX`.
    fn variable(&self) -> String {
        format!("LOOM_{}", self.field.to_uppercase())
    }

    /// `runsMax`: the property in the `Loom` section of `local.settings.json`.
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

    /// Whether SIGHUP applies a change of the setting.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }
}

/// The effective value of a setting as it was written, and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The items of a list; one string for any other kind; empty if the setting is not set.
    texts: Vec<String>,
    pub(crate) origin: Origin,
}

/// All settings of one command, with their origins.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) values: Values,
    /// In the order of the table.
    effective: Vec<Effective>,
    /// The project directory, which holds `local.settings.json`, `connections.json` and `parameters.json`.
    pub(crate) project: Option<PathBuf>,
}

impl Config {
    /// Resolves the settings of a command on `files` with these flags, from all layers.
    ///
    /// # Errors
    /// A file cannot be read or has an unknown setting, or a value is invalid.
    pub(crate) fn resolve<const SERVE: bool>(flags: &Flags<SERVE>, files: &[PathBuf]) -> Result<Config> {
        layers::resolve(flags, files, &|name| std::env::var_os(name))
    }

    /// Where a setting was given; none if it has its default.
    pub(crate) fn origin(&self, key: &str) -> Option<&Origin> {
        let place = table::TABLE.iter().position(|setting| setting.key() == key)?;
        Some(&self.effective[place].origin).filter(|origin| **origin != Origin::Default)
    }

    /// Checks that the files named by these settings exist, so that an error says which setting names it.
    ///
    /// # Errors
    /// A file does not exist or is a directory.
    pub(crate) fn check_files(&self, keys: &[&str]) -> Result<()> {
        for (setting, given) in table::TABLE.iter().zip(&self.effective) {
            let (origin, key) = (&given.origin, setting.key());
            if *origin == Origin::Default || !keys.contains(&&*key) {
                continue;
            }
            for path in given.texts.iter().map(Path::new) {
                let hint = if key == "secrets" { "; `loom secrets set NAME` creates it" } else { "" };
                let found = fs::metadata(path)
                    .map_err(|error| anyhow!("{origin}: cannot read {}: {error}{hint}", path.display()))?;
                if found.is_dir() {
                    bail!("{origin}: {} is a directory, expected a file", path.display());
                }
            }
        }
        Ok(())
    }

    /// Only the defaults, regardless of files and variables.
    pub(crate) fn defaults() -> Config {
        layers::defaults()
    }

    /// The same settings, with the secrets file in the data directory unless it is set.
    pub(crate) fn with_secrets_beside(mut self, data: &Path) -> Config {
        self.values.secrets.get_or_insert_with(|| data.join(crate::secrets::FILE));
        self
    }

    /// Where a setting was written; none if it has its default.
    pub(crate) fn written(&self, field: &str) -> Option<&Origin> {
        let place = table::TABLE.iter().position(|setting| setting.field == field)?;
        Some(&self.effective.get(place)?.origin).filter(|origin| **origin != Origin::Default)
    }

    /// The settings that differ from those of `before`.
    pub(crate) fn changed_since(&self, before: &Config) -> Vec<&'static Setting> {
        let pairs = self.effective.iter().zip(&before.effective);
        let changed = table::TABLE.iter().zip(pairs).filter(|(_, (now, then))| now.texts != then.texts);
        changed.map(|(setting, _)| setting).collect()
    }
}

impl Values {
    /// The URL at which this machine reaches a server with these settings.
    ///
    /// # Errors
    /// The server takes a free port.
    pub(crate) fn server(&self) -> Result<String> {
        if self.addr.port() == 0 {
            bail!("the setting `addr` takes a free port; name the server with --server URL");
        }
        Ok(format!("http://{}", reachable(self.addr)))
    }
}

/// The address at which this machine reaches a server that listens on `address`.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// Warns of environment variables that look like misspelt settings.
pub(crate) fn warn_of_misspelt_variables() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for (name, meant) in layers::misspelt(names) {
        eprintln!("loom: warning: unknown setting {name} in the environment; did you mean {meant}?");
    }
}
