//! Which namespaces a workflow may read and write.

use std::{fmt, sync::Arc};

use crate::{Error, Namespace, Own};

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Operations that only read.
    Read,
    /// Operations that write, and those that read.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Access::Read => "read",
            Access::Write => "write",
        })
    }
}

/// Namespaces: all with a name (`workflow:orders`), or all that begin with a prefix (`chat:*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Arc<str>,
}

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn parse(text: &str) -> Result<Pattern, Error> {
        let invalid = |why| Error::InvalidNamespace { namespace: text.chars().take(64).collect(), why };
        let prefix = text.strip_suffix('*');
        if prefix.unwrap_or(text).contains('*') {
            return Err(invalid("`*` may only be the last character"));
        }
        let kind = text.split_once(':').map(|(kind, _)| kind);
        match kind {
            Some("run" | "workflow" | "chat" | "agent" | "actor") if !text.ends_with(':') => {}
            None if text == "global" || text == "*" => {}
            _ => {
                return Err(invalid(
                    "expected `global`, `workflow:NAME`, `chat:ID`, `agent:ID`, `actor:TYPE` or `run:ID`, where the name may end with `*`",
                ));
            }
        }
        Ok(Pattern { text: text.into() })
    }

    /// Whether the pattern includes a namespace.
    pub fn includes(&self, namespace: &Namespace) -> bool {
        let name = namespace.to_string();
        match self.text.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *self.text,
        }
    }
}

/// What a definition grants its runs, in addition to what every run may do: read and write its own namespaces `run` and
/// `workflow`, and read `global`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Namespaces that may be read.
    pub read: Vec<Pattern>,
    /// Namespaces that may be read and written.
    pub write: Vec<Pattern>,
}

impl Grants {
    /// Checks an access.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], which names the missing grant.
    pub fn check(&self, access: Access, namespace: &Namespace, own: &Own) -> Result<(), Error> {
        let by_default = match namespace {
            Namespace::Run(run) => *run == own.run,
            Namespace::Workflow(name) => *name == own.workflow,
            Namespace::Global => access == Access::Read,
            Namespace::Chat(_) | Namespace::Agent(_) | Namespace::Actor(_) => false,
        };
        let in_list = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.includes(namespace));
        let is_granted = match access {
            Access::Read => in_list(&self.read) || in_list(&self.write),
            Access::Write => in_list(&self.write),
        };
        if by_default || is_granted {
            return Ok(());
        }
        Err(Error::AccessDenied { access, namespace: namespace.clone() })
    }
}

#[cfg(test)]
mod tests {
    use loom_store::RunId;

    use super::*;

    fn own() -> Own {
        Own { run: RunId::MIN, workflow: "orders".into() }
    }

    fn namespace(text: &str) -> Namespace {
        Namespace::parse(text, Some(&own())).expect(text)
    }

    #[test]
    fn own_namespaces_and_reading_global_need_no_grant() {
        let allowed = |access, text| Grants::default().check(access, &namespace(text), &own()).is_ok();
        for text in ["run", "workflow", "workflow:orders"] {
            assert!(allowed(Access::Read, text) && allowed(Access::Write, text), "{text}");
        }
        assert!(allowed(Access::Read, "global") && !allowed(Access::Write, "global"));
        for text in ["workflow:bills", "chat:1", "agent:bob", "actor:counter", "run:0000000000001"] {
            assert!(!allowed(Access::Read, text) && !allowed(Access::Write, text), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_missing_grant() {
        let pattern = |text| Pattern::parse(text).expect(text);
        let grants = Grants {
            read: vec![pattern("workflow:*")],
            write: vec![pattern("chat:4*"), pattern("agent:bob")],
        };
        let check =
            |access, text| grants.check(access, &namespace(text), &own()).map_err(|why| why.to_string());
        assert_eq!(check(Access::Read, "workflow:bills"), Ok(()));
        assert_eq!(check(Access::Write, "chat:42"), Ok(()));
        assert_eq!(check(Access::Read, "chat:42"), Ok(()), "what may be written may be read");
        assert_eq!(check(Access::Write, "agent:bob"), Ok(()));
        assert_eq!(
            check(Access::Write, "workflow:bills"),
            Err("the workflow may not write `workflow:bills`; add it to `memory.write` of the definition"
                .to_owned())
        );
        assert_eq!(
            check(Access::Read, "agent:bobby"),
            Err("the workflow may not read `agent:bobby`; add it to `memory.read` of the definition"
                .to_owned())
        );
    }

    #[test]
    fn a_pattern_that_includes_nothing_is_refused() {
        for text in ["", "chat", "chat:", "topic:*", "global:*", "c*", "chat:*:a", "workflow"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        for text in ["*", "global", "chat:*", "workflow:orders"] {
            assert!(Pattern::parse(text).is_ok(), "{text}");
        }
    }
}
