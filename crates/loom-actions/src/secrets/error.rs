//! Why a secret cannot be read or stored. No message contains a value.

use std::{path::PathBuf, sync::Arc};

use loom_resilience::{Classify, Verdict};

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
    /// The path of a secret is not valid.
    #[error(
        "'{name}' is not a valid secret path: use names of letters, digits, '-', '_' and '.', none starting with a dot, separated by '/'; \
         '#' and a field may follow, then '@' and a version"
    )]
    Path {
        /// The path that was given.
        name: String,
    },
    /// The name selects a provider that is not configured.
    #[error("there is no secret provider '{provider}'; this host has: {}", known.join(", "))]
    UnknownProvider {
        /// The provider that was selected.
        provider: String,
        /// The configured providers.
        known: Vec<String>,
    },
    /// The operator lets only other workflows read this secret.
    #[error(
        "the workflow '{workflow}' may not read the secret '{name}': no entry of `grants` in the file of the secret providers names it"
    )]
    NotGranted {
        /// The provider and the name.
        name: String,
        /// The workflow.
        workflow: String,
    },
    /// The operator does not let the provider give this secret.
    #[error("the secret provider '{provider}' may not give '{name}': no entry of its `names` matches")]
    NotAllowed {
        /// The provider.
        provider: String,
        /// The name.
        name: String,
    },
    /// The provider's service refused access.
    #[error(
        "the secret provider '{provider}' was refused access to '{name}' (status {status}): check its credentials and policy"
    )]
    Denied {
        /// The provider.
        provider: String,
        /// The name; of the provider's own login, what it does.
        name: String,
        /// The status of the response.
        status: u16,
    },
    /// The version was deleted or destroyed.
    #[error("Secret version deleted: {name}")]
    Deleted {
        /// The name.
        name: String,
    },
    /// The secret has several fields, and none was selected, or it does not have the one that was.
    #[error("the secret '{name}' has the fields {}; select one, as in '{name}#{}'", fields.join(", "), fields.first().map_or("FIELD", String::as_str))]
    Field {
        /// The name, without a field.
        name: String,
        /// The names of its fields.
        fields: Vec<String>,
    },
    /// The provider cannot be reached, or does not work at the moment.
    #[error("the secret provider '{provider}' is not available: {why}")]
    Unavailable {
        /// The provider.
        provider: String,
        /// What happened.
        why: String,
        /// What that says about its service.
        verdict: Verdict,
    },
    /// The provider's service responded with something else than its API promises.
    #[error("the secret provider '{provider}' cannot be used: {why}")]
    Unusable {
        /// The provider.
        provider: String,
        /// What is wrong.
        why: String,
    },
    /// A file does not hold a secret.
    #[error("cannot use the secret file {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A connection needs a secret of another machine that has not been read yet.
    #[error("the secret '{name}' has not been read yet; try again in a few seconds")]
    NotReadYet {
        /// The name.
        name: String,
    },
    /// An operation could not be recorded in the audit.
    #[error("nothing was done, because it cannot be recorded in the audit: {why}")]
    Unrecorded {
        /// The cause.
        why: String,
    },
    /// The process is ending.
    #[error("the secret was not read, because the process is ending")]
    Ending,
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

/// Only a service that is not available counts against its circuit; everything else is an answer.
impl Classify for SecretError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unavailable { verdict, .. } => *verdict,
            _ => Verdict::Rejected,
        }
    }
}
