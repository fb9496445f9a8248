//! Secrets of the host: where `secret('name')` looks.
//!
//! [`Vault`] keeps them in one encrypted file, with versions; [`SecretFolder`] reads what a supervisor mounted, a file for each;
//! [`FixedSecrets`] are those that the host was given when it started. [`Secrets`] asks one after the other.
//!
//! A name may pin a version: `secret('api-key@3')`. Without one, the newest version counts that is enabled, has begun and has
//! not expired.

mod error;
mod file;
mod key;
mod provider;
mod record;
mod vault;

#[cfg(test)]
mod tests;

pub use self::{
    error::SecretError,
    key::MasterKey,
    provider::{FixedSecrets, SecretFolder, SecretProvider, Secrets},
    record::{NewSecret, SecretProperties},
    vault::{KeySource, Vault},
};

/// The most bytes that a value may have.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// The most characters that a name may have.
const NAME_MAX: usize = 127;

/// A name as it is kept: names ignore case, as all names of the language do.
///
/// # Errors
/// [`SecretError::Name`].
fn checked_name(name: &str) -> Result<String, SecretError> {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    // A name is a file's name in a folder of secrets, where one that begins with a dot leads elsewhere.
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) || name.starts_with('.') {
        return Err(SecretError::Name { name: name.to_owned() });
    }
    Ok(name.to_ascii_lowercase())
}
