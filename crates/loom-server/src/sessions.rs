//! Sessions of browsers: a cookie in place of the token.
//!
//! The value of the cookie is random; only its hash is in memory. A session ends after a time, when the visitor signs out, when
//! the token is replaced, and with the process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use loom_expression::Timestamp;

/// The name of the cookie.
const COOKIE: &str = "loom-session";

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_hours(12);

/// How long a login link can be used.
const CODE_LIFETIME: Duration = Duration::from_mins(15);

/// The most sessions; the oldest ends for a new one.
const SESSIONS_MAX: usize = 1_000;

/// The purpose of the key from which a session's CSRF token is derived.
const CSRF: &str = "loom session csrf 1";

pub(crate) type Hash = [u8; 32];

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Hash, Session>>,
    /// The code that begins a session in place of the token, once, and when it expires.
    code: Mutex<Option<(Hash, Timestamp)>>,
}

#[derive(Debug)]
struct Session {
    ends: Timestamp,
    /// The mark of the token with which it began.
    token: Hash,
    /// The name of that token; none for the server's own.
    name: Option<Arc<str>>,
    /// Whether it was begun for reading alone.
    reads_only: bool,
}

/// What is known of the session of a request. It is valid while its token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visited {
    /// What a change must prove to know.
    pub(crate) csrf: String,
    /// The mark of the token with which it began.
    pub(crate) token: Hash,
    /// The name of that token; none for the server's own.
    pub(crate) name: Option<Arc<str>>,
    /// Whether it was begun for reading alone.
    pub(crate) reads_only: bool,
}

impl Sessions {
    /// A code that begins one session in place of the token. None if the system has no random bytes.
    pub(crate) fn invite(&self, now: Timestamp) -> Option<String> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).ok()?;
        let code = blake3::Hash::from_bytes(secret).to_hex().to_string();
        let ends = Timestamp::from_unix_nanos(now.unix_nanos() + CODE_LIFETIME.as_nanos() as i128);
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = Some((hash(&code), ends));
        Some(code)
    }

    /// Whether this is the code, which is used up then.
    pub(crate) fn redeem(&self, code: &str, now: Timestamp) -> bool {
        let mut known = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        known.take_if(|(known, ends)| *known == hash(code) && *ends > now).is_some()
    }

    /// What identifies a token in sessions that began with it.
    pub(crate) fn mark(token: &str) -> Hash {
        hash(token)
    }

    /// Begins a session for a visitor who has sent the token with this mark. Returns the `Set-Cookie` header; none if the system has
    /// no random bytes.
    pub(crate) fn begin(
        &self,
        token: Hash,
        name: Option<Arc<str>>,
        reads_only: bool,
        now: Timestamp,
        is_secure: bool,
    ) -> Option<String> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).ok()?;
        let value = blake3::Hash::from_bytes(secret).to_hex();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.ends > now);
        if open.len() >= SESSIONS_MAX
            && let Some(first) = open.iter().min_by_key(|(_, session)| session.ends).map(|(key, _)| *key)
        {
            open.remove(&first);
        }
        let ends = Timestamp::from_unix_nanos(now.unix_nanos() + LIFETIME.as_nanos() as i128);
        open.insert(hash(&value), Session { ends, token, name, reads_only });
        let secure = if is_secure { "; Secure" } else { "" };
        Some(format!(
            "{COOKIE}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
            LIFETIME.as_secs()
        ))
    }

    /// The session that a request belongs to, unless it has ended. The caller checks its token.
    pub(crate) fn find(&self, headers: &HeaderMap, now: Timestamp) -> Option<Visited> {
        let value = cookie(headers)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(&hash(value)).filter(|session| session.ends > now)?;
        let Session { token, name, reads_only, .. } = session;
        Some(Visited { csrf: csrf(value), token: *token, name: name.clone(), reads_only: *reads_only })
    }

    /// Ends the session of a request. Returns the `Set-Cookie` header that removes the cookie.
    pub(crate) fn end(&self, headers: &HeaderMap) -> String {
        if let Some(value) = cookie(headers) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(value));
        }
        format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
    }
}

fn hash(text: &str) -> Hash {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn csrf(value: &str) -> String {
    blake3::Hash::from_bytes(blake3::derive_key(CSRF, value.as_bytes())).to_hex().to_string()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_unix_millis(hours * 3_600_000)
    }

    fn sent(set: &str) -> HeaderMap {
        let pair = set.split(';').next().unwrap();
        HeaderMap::from_iter([(header::COOKIE, format!("other=1; {pair}").parse().unwrap())])
    }

    fn begin(sessions: &Sessions, hours: i64, is_secure: bool) -> String {
        sessions.begin(Sessions::mark("secret"), None, false, at(hours), is_secure).unwrap()
    }

    #[test]
    fn a_session_lasts_until_its_end_and_knows_its_token() {
        let sessions = Sessions::default();
        let headers = sent(&begin(&sessions, 0, false));
        let found = sessions.find(&headers, at(11)).unwrap();
        assert_eq!(sessions.find(&headers, at(0)), Some(found.clone()));
        assert!(found.token == Sessions::mark("secret") && found.token != Sessions::mark("replaced"));
        assert_eq!(sessions.find(&headers, at(12)), None);
        let set = sessions.begin(Sessions::mark("b"), Some("ci".into()), true, at(0), true).unwrap();
        let other = sent(&set);
        let named = sessions.find(&other, at(0)).unwrap();
        assert_eq!((named.name.as_deref(), named.reads_only), (Some("ci"), true));
        assert_ne!(named.csrf, found.csrf);
        assert!(sessions.end(&other).contains("Max-Age=0"));
        assert_eq!(sessions.find(&other, at(0)), None);
        assert_eq!(sessions.find(&HeaderMap::new(), at(0)), None);
    }

    #[test]
    fn a_code_is_used_once_and_for_a_while() {
        let sessions = Sessions::default();
        let code = sessions.invite(at(0)).unwrap();
        assert!(!sessions.redeem("guess", at(0)), "a guess does not use it up");
        assert!(sessions.redeem(&code, at(0)) && !sessions.redeem(&code, at(0)));
        let late = sessions.invite(at(0)).unwrap();
        assert!(!sessions.redeem(&late, at(1)));
        let replaced = sessions.invite(at(0)).unwrap();
        sessions.invite(at(0)).unwrap();
        assert!(!sessions.redeem(&replaced, at(0)));
    }

    #[test]
    fn a_cookie_is_hidden_from_scripts_and_other_sites() {
        let set = begin(&Sessions::default(), 0, true);
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(set.contains(part), "{set}");
        }
        assert!(!set.contains("secret"));
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let sessions = Sessions::default();
        let first = sent(&begin(&sessions, 0, false));
        for _ in 0..SESSIONS_MAX {
            begin(&sessions, 1, false);
        }
        assert_eq!(sessions.open.lock().unwrap().len(), SESSIONS_MAX);
        assert_eq!(sessions.find(&first, at(1)), None);
    }
}
