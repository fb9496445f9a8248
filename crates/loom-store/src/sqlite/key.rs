//! The key of a directory: `loom.key`, beside the database and never in it. It seals the secret values in payloads.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    path::Path,
    sync::Arc,
};

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension};

use super::{files, open::open_error};
use crate::{ContentHash, Error, Sealer};

/// The file with the key, as 64 hexadecimal digits.
const NAME: &str = "loom.key";

/// The number in the table `meta` by which a different key is detected.
const META: &str = "seal_key";

/// The sealer of a directory that is open for writing. The first opening creates the key.
pub(super) fn open(directory: &Path, database: &Path, connection: &Connection) -> Result<Sealer, Error> {
    let failed = |source: io::Error| Error::Open { path: directory.join(NAME), source: Arc::new(source) };
    let broken = |source| open_error(database, source);
    let known = connection
        .query_row("SELECT number FROM meta WHERE name = ?1", [META], |row| row.get::<_, i64>(0))
        .optional()
        .map_err(broken)?;
    let text = read(directory).map_err(failed)?;
    let key = match (known, text.as_deref().map(str::trim)) {
        (Some(_), None) => return Err(refused(directory, "is missing")),
        // An operator who has lost the key says so with an empty file.
        (_, None | Some("")) => create(directory).map_err(failed)?,
        (_, Some(text)) => {
            parse(text).ok_or_else(|| refused(directory, "is not a key of 64 hexadecimal digits"))?
        }
    };
    let print = fingerprint(&key);
    let is_new = text.is_none_or(|text| text.trim().is_empty());
    if known.is_some_and(|known| known != print) && !is_new {
        return Err(refused(directory, "is not the key that this store was written with"));
    }
    if known != Some(print) {
        let write = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET number = excluded.number";
        connection.execute(write, (META, print)).map_err(broken)?;
    }
    Ok(Sealer::new(&key))
}

/// The sealer of a directory that is open for reading; without the key it opens nothing.
pub(super) fn look(directory: &Path) -> Sealer {
    let key = read(directory).ok().flatten().and_then(|text| parse(text.trim()));
    key.map_or_else(Sealer::none, |key| Sealer::new(&key))
}

fn refused(directory: &Path, why: &str) -> Error {
    let path = directory.join(NAME).display().to_string();
    Error::damaged(format_args!(
        "{path} {why}. It opens the secret values in the store: restore it from a backup. To continue without these values, \
         replace it with an empty file; runs that need one of them are then held"
    ))
}

fn read(directory: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(directory.join(NAME)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the key. It is on the disk before anything is sealed with it.
fn create(directory: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("the system has no random numbers"))?;
    let temporary = directory.join("loom.key.tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    files::private(&mut options);
    let mut file = options.open(&temporary)?;
    writeln!(file, "{}", ContentHash::from_bytes(key))?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(NAME))?;
    files::sync_directory(directory)?;
    Ok(key)
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let hash: ContentHash = text.parse().ok()?;
    Some(*hash.as_bytes())
}

/// Identifies a key without revealing anything about it: part of a hash of 32 random bytes.
fn fingerprint(key: &[u8; 32]) -> i64 {
    let hash = blake3::derive_key("loom-store 2026-11-30 fingerprint of a key", key);
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    i64::from_le_bytes(number)
}
