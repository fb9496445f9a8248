//! Where a key is: `namespace/key`.

use std::{fmt, sync::Arc};

use loom_store::RunId;

use crate::{Error, Key};

/// The greatest length of the name in a namespace, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A set of keys with the same purpose and the same rights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `run:ID`: belongs to a run and is removed with its data.
    Run(RunId),
    /// `workflow:NAME`: shared by the runs of a workflow.
    Workflow(Arc<str>),
    /// `chat:ID`: a conversation.
    Chat(Arc<str>),
    /// `agent:ID`: an agent.
    Agent(Arc<str>),
    /// `actor:TYPE`: the states of the actors of a type, each under the id of its actor.
    Actor(Arc<str>),
    /// `global`: shared by all.
    Global,
}

/// The namespaces of the caller, which `run` and `workflow` without a name stand for.
#[derive(Clone, Debug)]
pub struct Own {
    /// The run.
    pub run: RunId,
    /// The name of its workflow.
    pub workflow: Arc<str>,
}

impl Namespace {
    /// Parses a namespace. Without `own`, `run` and `workflow` need a name.
    ///
    /// # Errors
    /// [`Error::InvalidNamespace`].
    pub fn parse(text: &str, own: Option<&Own>) -> Result<Namespace, Error> {
        let invalid = |why| Error::InvalidNamespace { namespace: text.chars().take(64).collect(), why };
        let Some((kind, name)) = text.split_once(':') else {
            return match (text, own) {
                ("global", _) => Ok(Namespace::Global),
                ("run", Some(own)) => Ok(Namespace::Run(own.run)),
                ("workflow", Some(own)) => Ok(Namespace::Workflow(Arc::clone(&own.workflow))),
                ("run" | "workflow" | "chat" | "agent" | "actor", _) => {
                    Err(invalid("expected a name after the namespace, as in `chat:42`"))
                }
                _ => Err(invalid(
                    "expected `global`, `run:ID`, `workflow:NAME`, `chat:ID`, `agent:ID` or `actor:TYPE`, or `run` or `workflow` in a workflow",
                )),
            };
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(invalid("the name must have 1 to 256 bytes"));
        }
        if name.contains('/') || name.chars().any(char::is_control) {
            return Err(invalid("the name must not contain `/` or control characters"));
        }
        match kind {
            "run" => Ok(Namespace::Run(
                name.parse().map_err(|_| invalid("the name of a `run` namespace must be the id of a run"))?,
            )),
            "workflow" => Ok(Namespace::Workflow(name.into())),
            "chat" => Ok(Namespace::Chat(name.into())),
            "agent" => Ok(Namespace::Agent(name.into())),
            "actor" => Ok(Namespace::Actor(name.into())),
            _ => Err(invalid(
                "expected `global`, `run:ID`, `workflow:NAME`, `chat:ID`, `agent:ID` or `actor:TYPE`",
            )),
        }
    }

    /// The run that the namespace belongs to.
    pub const fn run(&self) -> Option<RunId> {
        match self {
            Namespace::Run(run) => Some(*run),
            Namespace::Workflow(_)
            | Namespace::Chat(_)
            | Namespace::Agent(_)
            | Namespace::Actor(_)
            | Namespace::Global => None,
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Namespace::Run(run) => write!(f, "run:{run}"),
            Namespace::Workflow(name) => write!(f, "workflow:{name}"),
            Namespace::Chat(id) => write!(f, "chat:{id}"),
            Namespace::Agent(id) => write!(f, "agent:{id}"),
            Namespace::Actor(kind) => write!(f, "actor:{kind}"),
            Namespace::Global => f.write_str("global"),
        }
    }
}

/// A key in a namespace, written `namespace/key`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
}

impl Address {
    /// Parses an address: the namespace ends at the first `/`.
    ///
    /// # Errors
    /// [`Error::InvalidNamespace`] or [`Error::InvalidKey`].
    pub fn parse(text: &str, own: Option<&Own>) -> Result<Address, Error> {
        let (namespace, key) = text.split_once('/').ok_or_else(|| Error::InvalidKey {
            key: text.chars().take(64).collect(),
            why: "must have the form NAMESPACE/KEY, such as `global/limit`",
        })?;
        Ok(Address { namespace: Namespace::parse(namespace, own)?, key: Key::new(key)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own { run: RunId::MIN, workflow: "orders".into() }
    }

    #[test]
    fn addresses_read_back_as_written() {
        for text in [
            "global/a",
            "workflow:orders/a/b",
            "chat:4:2/x y",
            "agent:bob/ä",
            "actor:counter/a/1",
            "run:0000000000000/a",
        ] {
            assert_eq!(Address::parse(text, None).expect(text).to_string(), text);
        }
        let of = |text| Address::parse(text, Some(&own())).expect(text).to_string();
        assert_eq!(of("run/a"), "run:0000000000000/a");
        assert_eq!(of("workflow/a"), "workflow:orders/a");
        assert_eq!(of("workflow:bills/a"), "workflow:bills/a");
    }

    #[test]
    fn a_wrong_address_says_what_was_expected() {
        let of = |text: &str, own: Option<&Own>| Address::parse(text, own).expect_err(text).to_string();
        assert_eq!(
            of("limit", None),
            "the key `limit` is not valid: it must have the form NAMESPACE/KEY, such as `global/limit`"
        );
        assert_eq!(of("global/", None), "the key `` is not valid: it must not be empty");
        assert_eq!(
            of("run/a", None),
            "the namespace `run` is not valid: expected a name after the namespace, as in `chat:42`"
        );
        let own = own();
        assert!(of("chat/a", Some(&own)).contains("as in `chat:42`"));
        assert!(of("globe/a", None).contains("expected `global`, `run:ID`"));
        assert!(of("topic:1/a", None).contains("expected `global`, `run:ID`"));
        assert!(of("run:x/a", None).contains("the id of a run"));
        assert!(of("chat:/a", None).contains("1 to 256 bytes"));
        assert!(of("global/a\nb", None).contains("control characters"));
        assert!(of(&format!("global/{}", "k".repeat(513)), None).contains("at most 512 bytes"));
    }
}
