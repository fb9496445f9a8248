//! Why a secret cannot be read or stored. No message contains a value.

use std::{path::PathBuf, sync::Arc};

/// Why a secret cannot be read or stored.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No provider knows the name.
    #[error("Secret not found: {name}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The secret exists, but this version does not.
    #[error("Secret version not found: {name}@{version}")]
    VersionNotFound {
        /// The name.
        name: String,
        /// The version that was requested.
        version: String,
    },
    /// The requested version has expired.
    #[error("Secret expired: {name}")]
    Expired {
        /// The name.
        name: String,
    },
    /// The requested version is not valid yet.
    #[error("Secret not valid yet: {name}")]
    NotYetValid {
        /// The name.
        name: String,
    },
    /// The requested version is disabled or was deleted.
    #[error("Secret disabled: {name}")]
    Disabled {
        /// The name.
        name: String,
    },
    /// No version is enabled and valid now.
    #[error("No valid versions for secret: {name}")]
    NoValidVersion {
        /// The name.
        name: String,
    },
    /// The name is not valid.
    #[error(
        "'{name}' is not a valid secret name: use 1 to 127 letters, digits, '-', '_' and '.', not starting with a dot; a version follows \
         after '@'"
    )]
    Name {
        /// The name that was given.
        name: String,
    },
    /// The value is too large.
    #[error("the value must be at most {} bytes (got {bytes})", super::SECRET_BYTES_MAX)]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
    },
    /// Another writer set the secret meanwhile.
    #[error("the newest version of '{name}' must be {expected} (got {newest})")]
    Changed {
        /// The name.
        name: String,
        /// The newest version; 0 when there is none.
        newest: u32,
        /// The version that was expected to be the newest.
        expected: u32,
    },
    /// There is no master key.
    #[error("{why}")]
    NoKey {
        /// Which key is missing, and how to provide it.
        why: String,
    },
    /// The file was encrypted with a different master key.
    #[error("{}: it was encrypted with a different master key", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
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

    /// The message with its cause, for uses that have room for one string only.
    pub fn whole_text(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}
