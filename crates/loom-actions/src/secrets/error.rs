//! Why a secret cannot be had, or kept. No message holds a value.

use std::{path::PathBuf, sync::Arc};

/// See the module.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Nobody knows the name.
    #[error("Secret not found: {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The name is known, and has no such version.
    #[error("Secret version not found: {name}@{version}")]
    VersionNotFound {
        /// The name.
        name: String,
        /// What was asked for.
        version: String,
    },
    /// The version that was asked for is not valid any more.
    #[error("Secret expired: {name}")]
    Expired {
        /// The name.
        name: String,
    },
    /// The version that was asked for is not valid yet.
    #[error("Secret not valid yet: {name}")]
    NotYetValid {
        /// The name.
        name: String,
    },
    /// The version that was asked for is disabled, or was deleted.
    #[error("Secret disabled: {name}")]
    Disabled {
        /// The name.
        name: String,
    },
    /// No version is enabled, begun and unexpired.
    #[error("No valid versions for secret: {name}")]
    NoValidVersion {
        /// The name.
        name: String,
    },
    /// The name is no name.
    #[error(
        "'{name}' is no name of a secret: 1 to 127 letters, digits, '-', '_' and '.', the first of them no dot; a version follows \
         after '@'"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// The value is too large.
    #[error("the secret has {bytes} bytes, and at most {} fit", super::SECRET_BYTES_MAX)]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
    },
    /// Somebody else set it meanwhile.
    #[error("the newest version of '{name}' is {newest}, and not {expected}")]
    Changed {
        /// The name.
        name: String,
        /// The newest version; 0 when there is none.
        newest: u32,
        /// The version that should have been the newest.
        expected: u32,
    },
    /// There is no key.
    #[error("{why}")]
    NoKey {
        /// Which, and how to give one.
        why: String,
    },
    /// The file was encrypted under another key.
    #[error("{}: it was encrypted under another master key", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("could not {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Arc<std::io::Error>,
    },
}

impl SecretError {
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> SecretError {
        let path = path.into();
        move |source| SecretError::Io { what, path, source: Arc::new(source) }
    }

    /// The message with its cause, for those who have room for one text only.
    pub fn whole_text(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}
