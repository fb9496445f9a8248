//! The port: what every backend of shared memory can do.

use std::{fmt, pin::Pin, sync::Arc};

use loom_expression::Value;
use loom_store::UnixMillis;

use crate::{Error, Key, Namespace, Request, Revision, Type, Watch, WatchQuery};

/// A result that is on its way.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Shared memory. Every transaction takes effect as a whole, as if the transactions of all callers had come one after the
/// other; when its future resolves, it is as durable as the backend promises.
///
/// # Cancel safety
/// Dropping a future gives up the result. The transaction has taken effect as a whole, or not at all.
pub trait SharedMemory: fmt::Debug + Send + Sync {
    /// Applies operations to keys of one namespace, in order; all take effect or none. Conditions are about the state before
    /// the transaction. Returns one outcome for each request.
    fn transact<'a>(&'a self, namespace: &'a Namespace, requests: Vec<Request>) -> Reply<'a, Vec<Outcome>>;

    /// Lists keys. A list of several pages is not one moment: a key that is written meanwhile may be in it or not.
    fn list(&self, query: ListQuery) -> Reply<'_, Page>;

    /// Lists the namespaces that have keys. A namespace whose keys have all expired may be in it.
    fn namespaces(&self, query: NamespacesQuery) -> Reply<'_, NamespacesPage>;

    /// Watches the keys of a namespace.
    fn watch(&self, query: WatchQuery) -> Reply<'_, Box<dyn Watch>>;
}

/// What an operation returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The result.
    pub value: Value,
    /// The revision of the key after the transaction; `None` when it is absent.
    pub revision: Option<Revision>,
    /// The type of the key after the transaction; `None` when it is absent.
    pub kind: Option<Type>,
    /// When the key expires.
    pub expires: Option<UnixMillis>,
}

/// Which keys to list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// The namespace.
    pub namespace: Namespace,
    /// Only keys that begin with this; empty for all keys.
    pub prefix: String,
    /// Continues after this key, the last of the previous page.
    pub after: Option<Arc<str>>,
    /// The number of keys to read for a page, at least 1. Expired keys among them are omitted.
    pub limit: usize,
}

/// A page of keys, in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<Listed>,
    /// Put it into [`ListQuery::after`] to read the next page; `None` when this is the last page.
    pub next: Option<Arc<str>>,
}

/// A key in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: Key,
    /// Its type.
    pub kind: Type,
    /// Its revision.
    pub revision: Revision,
    /// When it expires.
    pub expires: Option<UnixMillis>,
}

/// Which namespaces to list.
#[derive(Clone, Debug)]
pub struct NamespacesQuery {
    /// Only namespaces whose text begins with this, such as `chat:`; empty for all.
    pub prefix: String,
    /// Continues after this namespace, the last of the previous page.
    pub after: Option<Namespace>,
    /// The number of namespaces on a page, at least 1.
    pub limit: usize,
}

/// A page of namespaces, in the order of the bytes of their texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacesPage {
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// Put it into [`NamespacesQuery::after`] to read the next page; `None` when this is the last page.
    pub next: Option<Namespace>,
}
