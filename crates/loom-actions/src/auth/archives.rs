//! Certificate archives that were opened. Opening one is slow by design, and every attempt of an action needs it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Archive;
use crate::{Failure, client::Identity};

/// The most opened archives to keep.
const OPEN_MAX: usize = 64;

/// The opened archives of the process.
#[derive(Default)]
pub(crate) struct Archives {
    /// Keyed by a hash of the archive and its password, so that neither gives access without the other.
    open: Mutex<HashMap<[u8; 32], Arc<Identity>>>,
}

impl Archives {
    /// Opens an archive, or returns the identity from an earlier opening.
    ///
    /// # Cancel safety
    /// When the future is dropped, the opening still finishes, and its result is unused.
    pub(crate) async fn identity(&self, archive: &Archive) -> Result<Arc<Identity>, Failure> {
        let key = archive.key();
        let kept = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(identity) = kept {
            return Ok(identity);
        }
        let Archive { bytes, password } = archive.clone();
        let opening = tokio::task::spawn_blocking(move || Identity::from_pfx(&bytes, &password));
        let opened = opening.await.map_err(|_| {
            Failure::transient("ServiceUnavailable", "The client certificate could not be opened in time.")
        })?;
        let identity = opened.map_err(|error| {
            Failure::bad_request(format!("The client certificate cannot be used: {error}."))
        })?;
        let identity = Arc::new(identity);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(key, Arc::clone(&identity));
        Ok(identity)
    }
}

impl Archive {
    fn key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.bytes.len() as u64).to_le_bytes()).update(&self.bytes);
        *hasher.update(self.password.as_bytes()).finalize().as_bytes()
    }
}
