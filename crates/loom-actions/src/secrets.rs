//! Secrets of the host: where `secret('name')` is looked up.
//!
//! All providers are behind one port, [`SecretProvider`]. Three are on this machine: [`Vault`] keeps secrets in one
//! encrypted file, with versions; [`SecretDirectory`] reads what a supervisor mounted, one file for each;
//! [`FixedSecrets`] were given to the host when it started. Others are on another machine (HashiCorp Vault, Azure Key
//! Vault), and only those exist that the operator describes in a file; see [`configured()`]. [`Secrets`] knows them by
//! name and asks them in order.
//!
//! A name may select a provider, a path and a version: `secret('kv:billing/key@3')`. Without a version, the newest one is
//! used that is enabled, is already valid and has not expired.

mod configured;
mod error;
mod file;
mod hashicorp;
mod http;
mod key;
mod key_vault;
mod local;
mod name;
mod provider;
mod record;
mod remote;
mod sources;
mod trail;
mod vault;

#[cfg(test)]
mod tests;

pub use self::{
    configured::{ProviderSettings, ProvidersError, configured},
    error::SecretError,
    key::MasterKey,
    local::{FixedSecrets, SecretDirectory},
    provider::{Found, Provided, Reading, SecretProvider},
    record::{NewSecret, SecretProperties},
    sources::{NamedProvider, ProviderStatus, ReadListener, Secrets},
    trail::{Recorded, Trail, TrailFile, entry_of, recorded_beside},
    vault::{KeySource, Vault},
};

/// The largest value, in bytes.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
