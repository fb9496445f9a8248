//! HTTP: classifies responses by status and `Retry-After`, and reads what a service reports about its own limits.
//!
//! Works on the types of the `http` crate, so it serves reqwest, hyper, axum, tonic and tower alike.
//!
//! ```
//! # use loom_resilience::{ManualClock, Clock, Policy, Service, RetryConfig, http::HttpClassifier, Idempotency};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let billing = Service::standalone("billing", Policy::standard())?;
//! let response = billing
//!     .call()
//!     .idempotency(Idempotency::of_method("GET"))
//!     .classify(HttpClassifier::new())
//!     .run(|_| async { Ok::<_, std::io::Error>(http::Response::new("paid")) })
//!     .await?;
//! assert_eq!(response.body(), &"paid");
//! # Ok(()) }
//! ```

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Response, StatusCode, header::RETRY_AFTER};

use crate::{
    clock::Clock,
    limiter::Learned,
    verdict::{AllTransient, Classifier, Verdict},
};

/// Classifies an HTTP response by its status and its `Retry-After` header.
///
/// | status | verdict |
/// |---|---|
/// | 1xx, 2xx, 3xx | [`Verdict::Ok`] |
/// | 408, 425, 500, 502, 504 and the other 5xx; 503 without `Retry-After` | [`Verdict::Transient`] |
/// | 429; 503 with `Retry-After` | [`Verdict::Throttled`], with the pause that the header asks for |
/// | 501, 505, 506, 510 and 511, and the other 4xx | [`Verdict::Rejected`] |
///
/// Errors are classified by `C`, by default as [`Verdict::Transient`].
#[derive(Clone, Debug)]
pub struct HttpClassifier<C = AllTransient> {
    errors: C,
    clock: Clock,
}

impl HttpClassifier {
    /// Classifies responses by status and every error as transient.
    pub const fn new() -> Self {
        Self { errors: AllTransient, clock: Clock::system() }
    }
}

impl Default for HttpClassifier {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> HttpClassifier<C> {
    /// Classifies errors by `classifier`, for example to report a refused connection as [`Verdict::NotSent`].
    pub fn errors<D>(self, classifier: D) -> HttpClassifier<D> {
        HttpClassifier { errors: classifier, clock: self.clock }
    }

    /// Reads the date form of `Retry-After` against the wall time of `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl<B, E, C: Classifier<Response<B>, E>> Classifier<Response<B>, E> for HttpClassifier<C> {
    fn classify(&self, result: &Result<Response<B>, E>) -> Verdict {
        match result {
            Ok(response) => verdict(response.status(), response.headers(), &self.clock),
            Err(_) => self.errors.classify(result),
        }
    }
}

/// The verdict on a response; see [`HttpClassifier`]. Reads the clock only for a `Retry-After` that holds a date.
pub fn verdict(status: StatusCode, headers: &HeaderMap, clock: &Clock) -> Verdict {
    match status.as_u16() {
        429 => Verdict::Throttled { after: retry_after(headers, clock) },
        503 => match retry_after(headers, clock) {
            None => Verdict::Transient,
            after => Verdict::Throttled { after },
        },
        // Not implemented, version, negotiation, extension, network login: a retry meets the same refusal.
        501 | 505 | 506 | 510 | 511 => Verdict::Rejected,
        408 | 425 | 500.. => Verdict::Transient,
        400.. => Verdict::Rejected,
        _ => Verdict::Ok,
    }
}

/// The pause that `Retry-After` asks for (RFC 9110, section 10.2.3): seconds, or the time until an HTTP date. A date that
/// has passed is a pause of zero. `None` without the header, or when its value is neither.
///
/// ```
/// # use loom_resilience::{Clock, ManualClock, http::retry_after};
/// # use std::time::Duration;
/// let mut headers = http::HeaderMap::new();
/// headers.insert("retry-after", http::HeaderValue::from_static("120"));
/// assert_eq!(retry_after(&headers, &Clock::system()), Some(Duration::from_secs(120)));
///
/// let clock = ManualClock::new();
/// clock.set_unix_start(Duration::from_secs(1_445_412_420));
/// headers.insert("retry-after", http::HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"));
/// assert_eq!(retry_after(&headers, &Clock::manual(&clock)), Some(Duration::from_secs(60)));
/// ```
pub fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer than any number of seconds that fits is "never", which the caller's own maximum cuts.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(since_epoch.saturating_sub(clock.unix_time()))
}

/// What a response reports about the service's own limit, for [`RateLimiter::learn`](crate::RateLimiter::learn); `None`
/// when it reports nothing.
///
/// Read are, in this order of precedence:
/// - on 429 and 503, `Retry-After`: nothing remains until then;
/// - `RateLimit` and `RateLimit-Policy` as structured fields (`"default";r=50;t=30`, `"default";q=100;w=60`); of several
///   policies the one with the fewest requests left counts;
/// - `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds), from the earlier drafts of the same text;
/// - `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, in seconds, or since 1970 where the number is too
///   large to be a pause.
pub fn learned(status: StatusCode, headers: &HeaderMap, clock: &Clock) -> Option<Learned> {
    let mut learned = structured(headers).unwrap_or_default();
    let named = |names: [&str; 2]| names.iter().find_map(|name| number(headers, name));
    learned.limit = learned.limit.or_else(|| named(["ratelimit-limit", "x-ratelimit-limit"]).map(saturated));
    learned.remaining =
        learned.remaining.or_else(|| named(["ratelimit-remaining", "x-ratelimit-remaining"]).map(saturated));
    learned.reset_after = learned.reset_after.or_else(|| {
        named(["ratelimit-reset", "x-ratelimit-reset"]).map(|seconds| pause(seconds, clock.unix_time()))
    });
    if matches!(status.as_u16(), 429 | 503)
        && let Some(after) = retry_after(headers, clock)
    {
        learned.remaining = Some(0);
        learned.reset_after = Some(after);
    }
    (learned != Learned::default()).then_some(learned)
}

/// A larger number is a point in time: ten years of seconds, before which no service writes in 1970 time.
const PAUSE_MAX: u64 = 10 * 366 * 86_400;
/// Times since 1970 above this are in milliseconds.
const SECONDS_MAX: u64 = 100_000_000_000;

fn pause(number: u64, now: Duration) -> Duration {
    match number {
        0..=PAUSE_MAX => Duration::from_secs(number),
        number if number <= SECONDS_MAX => Duration::from_secs(number).saturating_sub(now),
        _ => Duration::from_millis(number).saturating_sub(now),
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The first number of a header; some services write `100, 100;w=60`, or a fraction of a second.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits);
    let ends = rest.chars().next().is_none_or(|c| matches!(c, ',' | ';' | ' ' | '.'));
    if !ends || digits.is_empty() {
        return None;
    }
    // What comes later than a fraction of a second from now must not come too early.
    let fraction = rest.strip_prefix('.').is_some_and(|rest| !rest.trim_end_matches('0').is_empty());
    digits.parse::<u64>().ok()?.checked_add(u64::from(fraction))
}

/// The structured form, or the older `limit=100, remaining=50, reset=5`.
fn structured(headers: &HeaderMap) -> Option<Learned> {
    let mut tightest: Option<(String, Learned)> = None;
    for value in headers.get_all("ratelimit") {
        let Ok(text) = value.to_str() else { continue };
        if text.contains("remaining=") {
            let of = |name| parameter(text, &[',', ';'], name);
            let learned = Learned {
                limit: of("limit").map(saturated),
                remaining: of("remaining").map(saturated),
                reset_after: of("reset").map(Duration::from_secs),
                window: None,
            };
            return Some(learned);
        }
        for item in text.split(',') {
            let Some(remaining) = parameter(item, &[';'], "r").map(saturated) else { continue };
            if tightest.as_ref().is_some_and(|(_, learned)| learned.remaining <= Some(remaining)) {
                continue;
            }
            let learned = Learned {
                remaining: Some(remaining),
                reset_after: parameter(item, &[';'], "t").map(Duration::from_secs),
                ..Learned::default()
            };
            tightest = Some((policy_name(item), learned));
        }
    }
    let policies = headers.get_all("ratelimit-policy").iter();
    let mut items = policies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let (name, mut learned) = tightest?;
    if let Some(policy) = items.find(|item| policy_name(item) == name) {
        learned.limit = parameter(policy, &[';'], "q").map(saturated);
        learned.window = parameter(policy, &[';'], "w").map(Duration::from_secs);
    }
    Some(learned)
}

fn policy_name(item: &str) -> String {
    item.split(';').next().unwrap_or_default().trim().trim_matches('"').to_owned()
}

fn parameter(text: &str, separators: &[char], name: &str) -> Option<u64> {
    text.split(separators).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        if key.trim() != name {
            return None;
        }
        value.trim().parse().ok()
    })
}
