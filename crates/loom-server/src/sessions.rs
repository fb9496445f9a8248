//! Sessions of browsers: a cookie in place of the token.
//!
//! The value of the cookie is random; only its hash is in memory. A session ends after a time, when the visitor signs out, when
//! the token is replaced, and with the process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use loom_expression::Timestamp;

/// The name of the cookie.
const COOKIE: &str = "loom-session";

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_hours(12);

/// The most sessions; the oldest ends for a new one.
const SESSIONS_MAX: usize = 1_000;

/// The purpose of the key from which a session's CSRF token is derived.
const CSRF: &str = "loom session csrf 1";

type Hash = [u8; 32];

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Hash, Session>>,
}

#[derive(Debug)]
struct Session {
    ends: Timestamp,
    /// The hash of the token with which it began.
    token: Hash,
}

impl Sessions {
    /// Begins a session for a visitor who has sent the token. Returns the `Set-Cookie` header; none if the system has no random
    /// bytes.
    pub(crate) fn begin(&self, token: &str, now: Timestamp, is_secure: bool) -> Option<String> {
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
        open.insert(hash(&value), Session { ends, token: hash(token) });
        let secure = if is_secure { "; Secure" } else { "" };
        Some(format!(
            "{COOKIE}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
            LIFETIME.as_secs()
        ))
    }

    /// The CSRF token of the session that a request belongs to.
    pub(crate) fn find(&self, headers: &HeaderMap, token: &str, now: Timestamp) -> Option<String> {
        let value = cookie(headers)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(&hash(value))?;
        let is_valid = session.ends > now && session.token == hash(token);
        is_valid.then(|| csrf(value))
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

    #[test]
    fn a_session_lasts_until_its_end_and_for_its_token() {
        let sessions = Sessions::default();
        let headers = sent(&sessions.begin("secret", at(0), false).unwrap());
        let csrf = sessions.find(&headers, "secret", at(11)).unwrap();
        assert_eq!(sessions.find(&headers, "secret", at(0)), Some(csrf.clone()));
        assert_eq!(sessions.find(&headers, "replaced", at(1)), None);
        assert_eq!(sessions.find(&headers, "secret", at(12)), None);
        let other = sent(&sessions.begin("secret", at(0), true).unwrap());
        assert!(sessions.find(&other, "secret", at(0)).is_some_and(|other| other != csrf));
        assert!(sessions.end(&other).contains("Max-Age=0"));
        assert_eq!(sessions.find(&other, "secret", at(0)), None);
        assert_eq!(sessions.find(&HeaderMap::new(), "secret", at(0)), None);
    }

    #[test]
    fn a_cookie_is_hidden_from_scripts_and_other_sites() {
        let set = Sessions::default().begin("secret", at(0), true).unwrap();
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(set.contains(part), "{set}");
        }
        assert!(!set.contains("secret"));
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let sessions = Sessions::default();
        let first = sent(&sessions.begin("secret", at(0), false).unwrap());
        for _ in 0..SESSIONS_MAX {
            sessions.begin("secret", at(1), false).unwrap();
        }
        assert_eq!(sessions.open.lock().unwrap().len(), SESSIONS_MAX);
        assert_eq!(sessions.find(&first, "secret", at(1)), None);
    }
}
