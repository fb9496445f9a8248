//! Secrets of the host: where `secret('name')` is looked up.
//!
//! [`Vault`] keeps secrets in one encrypted file, with versions; [`SecretDirectory`] reads what a supervisor mounted,
//! one file for each; [`FixedSecrets`] were given to the host when it started. [`Secrets`] asks them in order.
//!
//! A name may pin a version: `secret('api-key@3')`. Without one, the newest version is used that is enabled, is
//! already valid and has not expired.

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
    provider::{FixedSecrets, Provided, SecretDirectory, SecretProvider, Secrets},
    record::{NewSecret, SecretProperties},
    vault::{KeySource, Vault},
};

/// The largest value, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// The longest name, in characters.
const NAME_MAX: usize = 127;

/// A name as it is stored: names are case-insensitive, like all names of the language.
///
/// # Errors
/// [`SecretError::Name`].
fn checked_name(name: &str) -> Result<String, SecretError> {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    // In a directory of secrets, the name is the name of a file; a name that starts with a dot would lead elsewhere.
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) || name.starts_with('.') {
        return Err(SecretError::Name { name: name.to_owned() });
    }
    Ok(name.to_ascii_lowercase())
}
