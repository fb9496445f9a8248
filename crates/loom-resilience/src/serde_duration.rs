//! Durations in configurations and snapshots: strings such as `"30s"`, `"1m30s"` and `"250ms"`.
//!
//! The form `{"secs": 30, "nanos": 0}`, which serde derives and earlier versions wrote, is still read. Formats that are
//! not self-describing keep serde's own form.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Writes a duration as a string.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&Text(*duration))
    } else {
        duration.serialize(serializer)
    }
}

/// Reads a duration in either form.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(Visitor)
    } else {
        Duration::deserialize(deserializer)
    }
}

/// `Option<Duration>`, for `#[serde(with = "…")]`.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, Wrapped};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Wrapped).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

/// Pairs of a duration and a count, for `#[serde(with = "…")]`.
pub(crate) mod pairs {
    use super::{Deserialize, Deserializer, Duration, Serializer, Wrapped};

    pub(crate) fn serialize<S: Serializer>(
        pairs: &[(Duration, u64)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(pairs.iter().map(|(duration, count)| (Wrapped(*duration), *count)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Duration, u64)>, D::Error> {
        let pairs = Vec::<(Wrapped, u64)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(wrapped, count)| (wrapped.0, count)).collect())
    }
}

struct Wrapped(Duration);

impl Serialize for Wrapped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Wrapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a duration such as "30s", "1m30s" or "250ms""#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Duration, A::Error> {
        Duration::deserialize(de::value::MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Duration, A::Error> {
        Duration::deserialize(de::value::SeqAccessDeserializer::new(seq))
    }
}

/// Units from the longest to the shortest, with their length in nanoseconds. The first spelling of a length is written.
const UNITS: [(&str, u128); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// Prints the exact duration: `1m30s`, never rounded.
struct Text(Duration);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

/// Reads whole numbers with units, each unit shorter than the one before it; the last number may have a fraction.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    let mut longest = u128::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = unit.trim_end();
        let (_, length) = *UNITS.iter().find(|(name, _)| *name == unit)?;
        if length >= longest {
            return None;
        }
        longest = length;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || number.ends_with('.') || (!fraction.is_empty() && !after.is_empty()) {
            return None;
        }
        total = total.checked_add(whole.parse::<u128>().ok()?.checked_mul(length)?)?;
        if !fraction.is_empty() {
            let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            total = total.checked_add(fraction.parse::<u128>().ok()?.checked_mul(length)? / scale)?;
        }
        rest = after;
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (total % 1_000_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_exactly_and_read_back() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(30), "30s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_millis(1500), "1s500ms"),
            (Duration::from_hours(25), "1d1h"),
            (Duration::from_nanos(1_001), "1us1ns"),
        ];
        for (duration, text) in cases {
            assert_eq!(Text(duration).to_string(), text);
            assert_eq!(parse(text), Some(duration), "{text}");
        }
        assert_eq!(parse(&Text(Duration::MAX).to_string()), Some(Duration::MAX));
    }

    #[test]
    fn fractions_spaces_and_the_micro_sign_are_read() {
        assert_eq!(parse("2.5s"), Some(Duration::from_millis(2500)));
        assert_eq!(parse("1m 30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("7µs"), Some(Duration::from_micros(7)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1s1m",
            "1s1s",
            "1.5m30s",
            "1.s",
            ".5s",
            "1 fortnight",
            "999999999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
