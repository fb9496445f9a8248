//! Follows what other nodes commit: messages to runs of this one, definitions, orders of operators.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use loom_engine::ENDED_RUNS;
use loom_store::{Change, Cursor, Error as StoreError};

use crate::{
    deploy::{self, DeployError, Origin},
    host::Host,
    policies,
    shared_services::circuits,
    sign, switches,
};

/// How often the feed is read while nothing changes.
const EVERY: Duration = Duration::from_millis(200);

/// The delay before the store is read again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Changes of a kind that are read at a time.
const PAGE: usize = 1_000;

/// What a page of changes says has to be done.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says that one thing has to be read again")]
struct News {
    batches: bool,
    ends: bool,
    definitions: bool,
    switches: bool,
    policies: bool,
    salts: bool,
    circuits: bool,
}

impl News {
    /// After changes were missed.
    const ALL: News = News {
        batches: true,
        ends: true,
        definitions: true,
        switches: true,
        policies: true,
        salts: true,
        circuits: true,
    };
}

/// Starts the task, which runs until the host stops.
pub(super) fn start(host: &Arc<Host>, from: Cursor) {
    let keeper = Arc::clone(host);
    host.tasks.spawn(async move {
        let mut cursor = from;
        loop {
            let wait = match follow(&keeper, &mut cursor).await {
                Ok(true) => continue,
                Ok(false) => EVERY,
                Err(error) => {
                    tracing::debug!(%error, "cannot read what other nodes have changed; trying again");
                    AGAIN
                }
            };
            tokio::select! {
                () = keeper.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    });
}

/// Handles a page of changes. Returns whether there are more.
async fn follow(host: &Arc<Host>, cursor: &mut Cursor) -> Result<bool, StoreError> {
    let page = host.store.changes(Some(cursor.clone()), PAGE).await?;
    let mut news = if page.is_incomplete { News::ALL } else { News::default() };
    for change in page.changes {
        match change {
            Change::Message { run: Some(run), .. } => host.engine.notice(run),
            Change::Message { run: None, .. } => news.batches = true,
            Change::Value { namespace, .. } => match &*namespace {
                ENDED_RUNS => news.ends = true,
                deploy::NAMESPACE => news.definitions = true,
                switches::NAMESPACE => news.switches = true,
                policies::NAMESPACE => news.policies = true,
                sign::NAMESPACE => news.salts = true,
                circuits::NAMESPACE => news.circuits = true,
                _ => {}
            },
            Change::Run(_) => {}
        }
    }
    host.learn(news).await?;
    // Only now, so that a failure repeats all of it.
    *cursor = page.next;
    if let Some(cluster) = &host.cluster
        && cluster.asked.swap(false, Ordering::AcqRel)
    {
        let are_left = host.engine.start_asked().await;
        cluster.asked.fetch_or(!matches!(are_left, Ok(false)), Ordering::AcqRel);
        are_left?;
    }
    Ok(page.has_more)
}

impl Host {
    async fn learn(self: &Arc<Self>, news: News) -> Result<(), StoreError> {
        if news.batches {
            if let Some(cluster) = &self.cluster {
                cluster.asked.store(true, Ordering::Release);
            }
            self.piles.catch_up(&*self.store).await?;
        }
        if news.ends {
            self.hub.ended.notify_one();
        }
        if news.salts {
            self.signer.reload(&*self.store).await?;
        }
        if news.policies {
            self.layers.reload(&self.engine, &*self.store).await?;
        }
        if news.circuits
            && let Some(cluster) = &self.cluster
        {
            cluster.services.circuits.follow().await?;
        }
        if news.definitions {
            self.follow_definitions().await?;
        }
        if news.switches {
            self.follow_switches().await?;
        }
        Ok(())
    }

    /// Deploys the definitions that another node has stored, and withdraws those that it has deleted.
    async fn follow_definitions(self: &Arc<Self>) -> Result<(), StoreError> {
        let latest = self.deployments.load().await?;
        for deployment in self.deployments.all() {
            if self.deployments.versions(&deployment.workflow.name).is_empty() {
                self.withdraw(&deployment.workflow.name);
            }
        }
        for source in latest.iter().filter(|source| source.origin == Origin::Api) {
            match self.activate(source, true).await {
                // A newer version follows.
                Ok(_) | Err(DeployError::Overtaken { .. }) => {}
                Err(DeployError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "cannot deploy a definition that another node has stored");
                }
            }
        }
        Ok(())
    }
}
