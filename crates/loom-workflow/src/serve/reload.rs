//! What can change while a server runs: its definitions, polled every second, and on SIGHUP its settings and token.

use std::{
    cell::Cell,
    fs,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use loom_actions::{RESILIENCE, secrets::Secrets};
use loom_expression::Visible;
use loom_server::{Host, ShownSettings, Token};
use tokio::sync::mpsc;

use super::{ServeArgs, definitions::Watched, likeness, live, token};
use crate::{
    config::Config,
    console::{self, Console},
    run::{Settings, read_policies},
};

/// What is known of a file that takes effect when it changes: the time and the length.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen(Option<(SystemTime, u64)>);

impl Seen {
    fn of(path: Option<&Path>) -> Seen {
        let found = path.and_then(|path| fs::metadata(path).ok());
        Seen(found.and_then(|found| Some((found.modified().ok()?, found.len()))))
    }

    /// The file of named policies as it is now.
    pub(super) fn policies(config: &Config) -> Seen {
        let named = config.values.resilience.clone();
        Seen::of(named.or_else(|| Some(config.project.as_ref()?.join(RESILIENCE))).as_deref())
    }

    /// The file of secret providers as it is now.
    pub(super) fn providers(config: &Config) -> Seen {
        Seen::of(config.values.secret_providers.as_deref())
    }

    /// Whether the file differs from what was known.
    fn has_changed(&mut self, now: Seen) -> bool {
        let changed = now != *self;
        *self = now;
        changed
    }
}

/// Reads the named policies again, and puts them in effect.
fn adopt_policies(config: &Config, host: &Host) -> Result<()> {
    let changed = host.replace_policies(read_policies(config)?)?;
    if !changed.is_empty() {
        eprintln!("loom: policies changed, state kept: {}", Visible(&changed.join(", ")));
    }
    warn_of_hidden(host);
    Ok(())
}

/// Says which policies of the file have no effect, because an operator has stored others.
pub(super) fn warn_of_hidden(host: &Host) {
    for service in host.hidden_policies() {
        let service = Visible(&service);
        eprintln!(
            "loom: the policy of {service} in resilience.json has no effect: another one is stored; remove that with `loom resilience unset {service}`"
        );
    }
}

/// The interval at which files are checked for changes.
const POLL: Duration = Duration::from_secs(1);

/// The parts of a running server that can change.
pub(super) struct Serving<'a> {
    pub(super) args: &'a ServeArgs,
    pub(super) config: Config,
    /// The time that calls in flight may take at shutdown.
    pub(super) drain: Rc<Cell<Duration>>,
    pub(super) token: Token,
    pub(super) shown: ShownSettings,
    pub(super) watched: Watched,
    pub(super) policies: Seen,
    pub(super) providers: Seen,
    /// The secrets of the server, whose providers can be replaced.
    pub(super) secrets: Secrets,
    pub(super) console: Console,
}

impl Serving<'_> {
    /// Polls files and handles reloads; never returns.
    pub(super) async fn keep_up(&mut self, host: &Arc<Host>, reloads: &mut mpsc::Receiver<()>) {
        let mut polls = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                _ = polls.tick() => {
                    if self.providers.has_changed(Seen::providers(&self.config)) {
                        match Settings::read(&self.config) {
                            Ok(settings) => {
                                self.secrets.replace(settings.secrets());
                                host.describe_settings(likeness::of(&settings, &self.config.values));
                                eprintln!("loom: secret providers changed");
                            }
                            Err(error) => {
                                console::error(format_args!("the secret providers have not changed: {error:#}"));
                            }
                        }
                    }
                    if self.policies.has_changed(Seen::policies(&self.config)) {
                        match adopt_policies(&self.config, host) {
                            // A definition may have waited for a policy. One that is deployed already does not change.
                            Ok(()) => {
                                if let Ok(settings) = Settings::read(&self.config) {
                                    host.describe_settings(likeness::of(&settings, &self.config.values));
                                }
                                drop(self.watched.deploy_all(host, self.console, true).await);
                            }
                            Err(error) => {
                                console::error(format_args!("the policies have not changed: {error:#}"));
                            }
                        }
                    }
                    self.watched.deploy_changes(host, self.console).await;
                }
                Some(()) = reloads.recv() => {
                    match self.reload(host).await {
                        Ok(()) => eprintln!("loom: reloaded"),
                        Err(error) => console::error(format_args!("reload failed, nothing has changed: {error:#}")),
                    }
                }
            }
        }
    }

    /// Reads settings, token and definitions again. Everything is read before anything changes.
    async fn reload(&mut self, host: &Arc<Host>) -> Result<()> {
        let config = Config::resolve(&self.args.flags, &self.args.files)?;
        let config = config.clone().with_secrets_beside(&config.values.data);
        let token = token(&config)?;
        let settings = Settings::read(&config)?;
        settings.warn_of_others();
        adopt_policies(&config, host)?;
        self.policies = Seen::policies(&config);
        self.secrets.replace(settings.secrets());
        host.describe_settings(likeness::of(&settings, &config.values));
        self.providers = Seen::providers(&config);
        host.set_disabled(settings.project().disabled());
        self.watched.deploy_all(host, self.console, true).await?;
        let asked = token.is_some();
        let same = match token {
            Some(token) => self.token.replace(token),
            None => !self.token.is_required(),
        };
        if !same {
            let what = if asked { "the token is required" } else { "the token is no longer required" };
            eprintln!("loom: {what} after the next restart");
        }
        host.adopt(live(&config.values));
        self.drain.set(config.values.drain);
        for setting in config.changed_since(&self.config) {
            if !setting.is_live() {
                eprintln!("loom: the change of `{}` takes effect after a restart", setting.key());
            }
        }
        self.shown.replace(config.published().into());
        self.config = config;
        Ok(())
    }
}
