//! Callback URLs: where a service calls back an action that waits for it.
//!
//! A URL contains the ids of the run and the call, and a signature of both under a secret key of the host. A valid URL cannot
//! be derived from anything that a run exposes; only those who were given it know it.

use std::{fmt, str::FromStr as _, sync::Arc};

use crate::event::{EffectId, RunId};

/// Creates and verifies the callback URLs of a host.
#[derive(Clone)]
pub struct Callbacks {
    base: Arc<str>,
    key: [u8; 32],
}

impl Callbacks {
    /// URLs below `base`, signed with `key`. The key must be the same after a restart; otherwise earlier URLs become
    /// invalid.
    pub fn new(base: impl Into<Arc<str>>, key: [u8; 32]) -> Callbacks {
        Callbacks { base: base.into(), key }
    }

    /// The URL for callbacks to the call `effect` of `run`.
    pub fn url(&self, run: RunId, effect: EffectId) -> String {
        format!("{}/{run}-{:x}-{}", self.base, effect.0, self.signature(run, effect).to_hex())
    }

    /// The run and call that the last path segment of a URL identifies; none unless its signature is valid.
    pub fn recognize(&self, token: &str) -> Option<(RunId, EffectId)> {
        let mut parts = token.split('-');
        let (Some(run), Some(effect), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let run = RunId::from_str(run).ok()?;
        let effect = EffectId(u32::from_str_radix(effect, 16).ok()?);
        // Hashes are compared in constant time.
        let signature = blake3::Hash::from_hex(signature).ok()?;
        (signature == self.signature(run, effect)).then_some((run, effect))
    }

    fn signature(&self, run: RunId, effect: EffectId) -> blake3::Hash {
        let mut text = [0; 12];
        text[..8].copy_from_slice(&run.as_u64().to_le_bytes());
        text[8..].copy_from_slice(&effect.0.to_le_bytes());
        blake3::keyed_hash(&self.key, &text)
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("base", &self.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_recognized_only_by_its_host_and_only_whole() {
        let callbacks = Callbacks::new("http://here/callbacks", [7; 32]);
        let (run, effect) = (RunId::from_u64(0x1234_5678).unwrap(), EffectId(0x1f));
        let url = callbacks.url(run, effect);
        let token = url.strip_prefix("http://here/callbacks/").unwrap();
        assert_eq!(callbacks.recognize(token), Some((run, effect)));
        assert_eq!(Callbacks::new("http://here/callbacks", [8; 32]).recognize(token), None);
        let signature = token.rsplit_once('-').unwrap().1;
        for wrong in [
            format!("{run}-20-{signature}"),
            format!("{}-1f-{signature}", RunId::from_u64(0x1234_5679).unwrap()),
            format!("{run}-1f-{}", "0".repeat(64)),
            format!("{run}-1f-{}", &signature[..63]),
            format!("{run}-1f-{signature}-"),
            format!("{run}-1f"),
            String::new(),
        ] {
            assert_eq!(callbacks.recognize(&wrong), None, "{wrong}");
        }
    }
}
