//! What can change while a server runs: its definitions, polled every second, and on SIGHUP its settings and token.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use anyhow::Result;
use loom_server::{Host, Token};
use tokio::sync::mpsc;

use super::{ServeArgs, definitions::Watched, live, token};
use crate::{
    config::Config,
    console::{self, Console},
    run::Settings,
};

/// The interval at which files are checked for changes.
const POLL: Duration = Duration::from_secs(1);

/// The parts of a running server that can change.
pub(super) struct Serving<'a> {
    pub(super) args: &'a ServeArgs,
    pub(super) config: Config,
    /// The time that calls in flight may take at shutdown.
    pub(super) drain: Rc<Cell<Duration>>,
    pub(super) token: Token,
    pub(super) watched: Watched,
    pub(super) console: Console,
}

impl Serving<'_> {
    /// Polls files and handles reloads; never returns.
    pub(super) async fn keep_up(&mut self, host: &Arc<Host>, reloads: &mut mpsc::Receiver<()>) {
        let mut polls = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                _ = polls.tick() => self.watched.deploy_changes(host, self.console).await,
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
        let token = token(&config.values)?;
        host.set_disabled(Settings::read(&config)?.project().disabled());
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
        self.config = config;
        Ok(())
    }
}
