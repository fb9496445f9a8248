//! The head of a response: how long to wait, and what remains of the provider's limits.

use std::time::Duration;

/// The status and the headers of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, as received.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A head with these headers.
    pub fn new<N: Into<String>, V: Into<String>>(
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Head {
        Head {
            status,
            headers: headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }

    /// The first header of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The wait that the response asks for: `retry-after-ms`, else `retry-after` in seconds (with a fraction, as some peers
    /// write it) or as a date. `now_ms` is the Unix time; a date that has passed is a wait of zero.
    ///
    /// ```
    /// # use loom_models::Head;
    /// # use std::time::Duration;
    /// let head = Head::new(429, [("Retry-After", "7"), ("retry-after-ms", "1500")]);
    /// assert_eq!(head.wait(0), Some(Duration::from_millis(1500)));
    /// ```
    pub fn wait(&self, now_ms: u64) -> Option<Duration> {
        let number = |name: &str| self.get(name)?.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        if let Some(millis) = number("retry-after-ms") {
            return Duration::try_from_secs_f64(millis / 1000.0).ok();
        }
        if let Some(seconds) = number("retry-after") {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let at_ms = http_date(self.get("retry-after")?)?;
        Some(Duration::from_millis(at_ms.saturating_sub(now_ms)))
    }

    /// What the provider reports of its limits, in `x-ratelimit-*` and `anthropic-ratelimit-*`. Unknown values (some peers
    /// send -1) are `None`; a limit of which nothing is known is omitted.
    pub fn rate_limits(&self, now_ms: u64) -> Vec<RateLimit> {
        let mut limits = Vec::new();
        for (what, openai, anthropic) in [
            (Limited::Requests, Some("requests"), "requests"),
            (Limited::Tokens, Some("tokens"), "tokens"),
            (Limited::InputTokens, None, "input-tokens"),
            (Limited::OutputTokens, None, "output-tokens"),
        ] {
            let ours = |part: &str| {
                let of_openai = openai.and_then(|name| self.get(&format!("x-ratelimit-{part}-{name}")));
                of_openai.or_else(|| self.get(&format!("anthropic-ratelimit-{anthropic}-{part}")))
            };
            let limit = RateLimit {
                limited: what,
                limit: ours("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0),
                remaining: ours("remaining").and_then(|text| text.parse().ok()),
                reset: ours("reset").and_then(|text| {
                    duration(text)
                        .or_else(|| Some(Duration::from_millis(rfc3339(text)?.saturating_sub(now_ms))))
                }),
            };
            // A limit of 0 or -1 means that the peer does not know, and then its remainder means nothing either.
            let unknown = ours("limit").is_some() && limit.limit.is_none();
            if !unknown && (limit.limit.is_some() || limit.remaining.is_some() || limit.reset.is_some()) {
                limits.push(limit);
            }
        }
        limits
    }
}

/// What a provider reports of one of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// What is limited.
    pub limited: Limited,
    /// How many a period has.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: Option<u64>,
    /// The time until all are there again.
    pub reset: Option<Duration>,
}

/// What a provider limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limited {
    /// Requests.
    Requests,
    /// Tokens of requests and answers.
    Tokens,
    /// Tokens of requests.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
}

/// A duration such as `12ms`, `1s`, `6m0s` or `1h2m3.5s`; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |at| end + at);
        let seconds = match &rest[end..unit_end] {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            // The next part begins with a sign or a colon: then this is a date.
            "" if unit_end == text.trim().len() => 1.0,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok()
}

/// The Unix time in milliseconds of a date of RFC 9110, such as `Wed, 21 Oct 2015 07:28:00 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = text.strip_suffix(" GMT")?.split_once(", ")?.1;
    let mut words = rest.split(' ');
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    unix_ms(year, month, day, clock.next()??, clock.next()??, clock.next()??)
}

/// The Unix time in milliseconds of a timestamp such as `2026-01-02T03:04:05Z`, with or without a fraction and an offset.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let at =
        unix_ms(date.next()??, date.next()??, date.next()??, clock.next()??, clock.next()??, clock.next()??)?;
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let at = at.checked_add((fraction * 1000.0) as u64)?;
    let Some((hours, minutes)) = zone.get(1..).and_then(|zone| zone.split_once(':')) else {
        return zone.eq_ignore_ascii_case("z").then_some(at);
    };
    let offset = hours
        .parse::<u64>()
        .ok()?
        .checked_mul(60)?
        .checked_add(minutes.parse().ok()?)?
        .checked_mul(60_000)?;
    if zone.starts_with('+') { at.checked_sub(offset) } else { at.checked_add(offset) }
}

/// Days are counted by Howard Hinnant's `days_from_civil`.
fn unix_ms(year: u64, month: u64, day: u64, hour: u64, minute: u64, second: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_every_form() {
        let wait = |value: &str| Head::new(429, [("retry-after", value)]).wait(1_445_412_420_000);
        assert_eq!(wait("121"), Some(Duration::from_secs(121)));
        assert_eq!(wait("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:01 GMT"), Some(Duration::from_secs(61)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        for wrong in ["", "-1", "NaN", "inf", "soon", "1e300", "Wed, 21 Foo 2015 07:28:00 GMT", "21 Oct"] {
            assert_eq!(wait(wrong), None, "{wrong}");
        }
        let head = Head::new(429, [("retry-after", "7"), ("Retry-After-Ms", "12.5")]);
        assert_eq!(head.wait(0), Some(Duration::from_micros(12_500)));
    }

    #[test]
    fn limits_are_read_in_both_spellings() {
        let head = Head::new(
            429,
            [
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "6m0.5s"),
                ("x-ratelimit-limit-tokens", "-1"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("anthropic-ratelimit-input-tokens-limit", "1000"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-01-02T03:04:05.5Z"),
            ],
        );
        let limits = head.rate_limits(1_767_323_045_000);
        let requests = RateLimit {
            limited: Limited::Requests,
            limit: Some(60),
            remaining: Some(0),
            reset: Some(Duration::from_millis(360_500)),
        };
        let input = RateLimit {
            limited: Limited::InputTokens,
            limit: Some(1000),
            remaining: None,
            reset: Some(Duration::from_millis(500)),
        };
        assert_eq!(limits, [requests, input]);
    }

    #[test]
    fn durations_and_timestamps() {
        assert_eq!(duration("12ms"), Some(Duration::from_millis(12)));
        assert_eq!(duration("1h2m3s"), Some(Duration::from_secs(3723)));
        assert_eq!(duration("20"), Some(Duration::from_secs(20)));
        assert_eq!(duration("2026-01-02T03:04:05Z"), None);
        assert_eq!(duration("h"), None);
        assert_eq!(rfc3339("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(rfc3339("1970-01-01T00:00:00-00:01"), Some(60_000));
        assert_eq!(rfc3339("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        assert_eq!(rfc3339("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(rfc3339("2000-03-01"), None);
    }
}
