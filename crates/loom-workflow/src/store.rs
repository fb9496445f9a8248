//! `loom store`: checks, migrates and copies stores, in a data directory or in a database.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueHint};
use loom_store::{Durability, SqliteOptions, SqliteStore, Store, copy};

use crate::{
    console, data,
    database::{self, Database},
    exit::Exit,
};

const EXIT_CODES: &str = "\
A store is a data directory, or the address of a database: postgres://user@host:5432/database. No server may be using a data directory.

Exit codes:
  0  success
  1  the store is damaged, or was not copied
  2  invalid arguments, or a store that cannot be opened";

/// Options of `loom store`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
    /// A file whose first line is the password of the database [default: the variable PGPASSWORD].
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    store_password_file: Option<PathBuf>,
    /// A PEM file with the certificates that may have signed that of the database [default: those of the public authorities].
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    store_ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Read and check everything: structure, checksums, hashes and gaps. Takes as long as reading the whole store.
    Check {
        /// The store.
        store: String,
        /// The key of the store, if it is encrypted.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key_file: Option<PathBuf>,
    },
    /// Create the tables of a store, or convert those of an older version. A server does this as well when it starts.
    Migrate {
        /// The store.
        store: String,
    },
    /// Copy everything to an empty store: runs with their history, timers, messages, definitions and shared memory. Stop all servers
    /// first. Encrypted content stays encrypted under its key.
    Copy {
        /// The store to copy.
        from: String,
        /// The store to copy to.
        to: String,
    },
}

/// Runs `loom store`.
pub(crate) fn command(args: &StoreArgs) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(execute(args))
}

async fn execute(args: &StoreArgs) -> Result<Exit> {
    match &args.command {
        StoreCommand::Check { store, key_file } => {
            let opened = match args.database(store)? {
                Some(database) => database.open(Durability::default(), key_file.as_deref()).await?,
                None => data::look(Path::new(store), key_file.as_deref()).await?,
            };
            let checked = opened.verify().await;
            opened.close().await.ok();
            match checked {
                Ok(records) => {
                    println!("{records} records are intact");
                    Ok(Exit::Success)
                }
                Err(error) => {
                    console::error(format_args!("{error}"));
                    Ok(Exit::Failure)
                }
            }
        }
        StoreCommand::Migrate { store } => {
            args.raw(store).await?.close().await.context("cannot close the store cleanly")?;
            eprintln!("loom: the store has the current format");
            Ok(Exit::Success)
        }
        StoreCommand::Copy { from, to } => {
            let source = match args.database(from)? {
                Some(_) => args.raw(from).await?,
                None => Arc::new(SqliteStore::open_read_only(Path::new(from), SqliteOptions::default())?),
            };
            let target = args.raw(to).await?;
            let copied = copy(&*source, &*target, |so_far| {
                tracing::debug!(runs = so_far.runs, frames = so_far.frames, "copied");
            });
            let copied = copied.await;
            target.close().await.context("cannot close the target cleanly")?;
            source.close().await.ok();
            match copied {
                Ok(copied) => {
                    println!(
                        "copied {} runs, {} frames, {} messages and {} named values",
                        copied.runs, copied.frames, copied.messages, copied.values
                    );
                    if copied.purged > 0 {
                        eprintln!(
                            "loom: left out {} runs whose history retention has removed",
                            copied.purged
                        );
                    }
                    Ok(Exit::Success)
                }
                Err(error) => {
                    console::error(format_args!("{error}"));
                    Ok(Exit::Failure)
                }
            }
        }
    }
}

impl StoreArgs {
    /// The database with this address; none for a directory.
    fn database(&self, store: &str) -> Result<Option<Database>> {
        if !database::is_address(store) {
            return Ok(None);
        }
        Database::new(store, self.store_password_file.as_deref(), self.store_ca.as_deref()).map(Some)
    }

    /// A store without regard to its key: its bytes are read and written as they are.
    async fn raw(&self, store: &str) -> Result<Arc<dyn Store>> {
        if let Some(database) = self.database(store)? {
            database.open_raw(Durability::default()).await
        } else {
            let options = SqliteOptions { seals: false, ..SqliteOptions::default() };
            Ok(Arc::new(SqliteStore::open(Path::new(store), options)?))
        }
    }
}
