//! Cassettes of models: answers that are recorded in a file once, and replayed without a provider.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use loom_models::{Answer, Cassette, ModelError, Player, Request};
use tokio::sync::Mutex;

use crate::{
    Failure,
    connections::{Tape, TapeMode},
};

/// The cassettes that this process plays and records, by file.
#[derive(Default)]
pub(super) struct Tapes {
    played: Mutex<BTreeMap<PathBuf, Player>>,
    recorded: Mutex<BTreeMap<PathBuf, Cassette>>,
}

impl Tapes {
    /// What was recorded for a request. None if the tape records and the model has to be asked.
    ///
    /// # Errors
    /// The file cannot be read, or does not have the request.
    pub(super) async fn replay(
        &self,
        tape: &Tape,
        request: &Request,
    ) -> Result<Option<Result<Answer, ModelError>>, Failure> {
        if tape.mode == TapeMode::Record {
            return Ok(None);
        }
        let mut players = self.played.lock().await;
        if !players.contains_key(&tape.file) {
            players.insert(tape.file.clone(), read(&tape.file).await?.player());
        }
        let Some(player) = players.get_mut(&tape.file) else { return Ok(None) };
        let replayed = player.replay(request);
        replayed.map(Some).map_err(|miss| Failure::lasting("ModelCassetteMiss", format!("{miss}.")))
    }

    /// Records what came back for a request.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) async fn record(
        &self,
        tape: &Tape,
        request: &Request,
        result: &Result<Answer, ModelError>,
    ) -> Result<(), Failure> {
        if tape.mode != TapeMode::Record {
            return Ok(());
        }
        let mut cassettes = self.recorded.lock().await;
        let cassette = cassettes.entry(tape.file.clone()).or_default();
        cassette.record(request, result);
        // Written beside the file first, so that a crash leaves the old or the new one.
        let part = tape.file.with_extension("part");
        let written = async {
            tokio::fs::write(&part, cassette.to_text()).await?;
            tokio::fs::rename(&part, &tape.file).await
        };
        written.await.map_err(|error| {
            let file = tape.file.display();
            Failure::lasting(
                "ModelCassetteUnwritable",
                format!("The cassette {file} cannot be written: {error}."),
            )
        })
    }
}

async fn read(file: &Path) -> Result<Cassette, Failure> {
    let unreadable = |why: String| {
        let message = format!("The cassette {} cannot be read: {why}.", file.display());
        Failure::lasting("ModelCassetteUnreadable", message)
    };
    let bytes = tokio::fs::read(file).await.map_err(|error| unreadable(error.to_string()))?;
    Cassette::parse(&bytes).map_err(|error| unreadable(error.to_string()))
}
