//! Prices: the cost of tokens. There are no built-in prices, because they change and contracts differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::answer::Usage;

/// What models cost, from configuration.
///
/// A price is per million tokens, in the table's currency, with at most six decimals. A name that ends with `*` applies to
/// all models that begin so; the longest name that fits wins.
///
/// ```
/// # use loom_models::{PriceTable, Usage};
/// let prices: PriceTable = serde_json::from_str(
///     r#"{ "currency": "EUR", "models": { "small-*": { "input": 0.25, "output": "1.5", "cachedInput": 0.025 } } }"#,
/// )
/// .unwrap();
/// let usage = Usage::new(1_000_000, 2);
/// assert_eq!(prices.cost_micros("small-2", usage), Some(250_003));
/// assert_eq!(prices.cost_micros("large", usage), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct PriceTable {
    /// The currency, for people; nothing is converted.
    #[serde(default)]
    pub currency: String,
    /// Prices by model.
    #[serde(default)]
    pub models: BTreeMap<String, Price>,
}

/// What a model costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Price {
    /// Tokens of the request.
    pub input: PerMillion,
    /// Tokens of the answer, with its reasoning.
    pub output: PerMillion,
    /// Tokens of the request that were read from a cache; else they cost what the others cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<PerMillion>,
    /// Tokens of the request that were written to a cache; else they cost what the others cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<PerMillion>,
}

impl Price {
    /// A price without caches.
    pub fn new(input: PerMillion, output: PerMillion) -> Price {
        Price { input, output, cached_input: None, cache_write: None }
    }

    /// What a usage costs, in millionths of the currency, rounded up.
    pub fn cost_micros(&self, usage: Usage) -> u64 {
        let Usage { input_tokens, output_tokens, cached_tokens, cache_write_tokens, .. } = usage;
        let plain = input_tokens.saturating_sub(cached_tokens).saturating_sub(cache_write_tokens);
        let parts = [
            (plain, self.input),
            (cached_tokens, self.cached_input.unwrap_or(self.input)),
            (cache_write_tokens, self.cache_write.unwrap_or(self.input)),
            (output_tokens, self.output),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(price.0)).sum();
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

impl PriceTable {
    /// The price of a model, if the table has one.
    pub fn price(&self, model: &str) -> Option<&Price> {
        let fits = |name: &str| match name.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == name,
        };
        let found = self.models.iter().filter(|(name, _)| fits(name));
        // An exact name is preferred to a pattern of the same length.
        found
            .max_by_key(|(name, _)| (name.trim_end_matches('*').len(), !name.ends_with('*')))
            .map(|(_, price)| price)
    }

    /// What a usage costs, in millionths of the currency; `None` without a price.
    pub fn cost_micros(&self, model: &str, usage: Usage) -> Option<u64> {
        self.price(model).map(|price| price.cost_micros(usage))
    }
}

/// A price per million tokens, in millionths of the currency. In JSON it is a number or a string of the currency's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(pub u64);

impl PerMillion {
    fn parse(text: &str) -> Option<PerMillion> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
        whole.checked_mul(1_000_000)?.checked_add(fraction).map(PerMillion)
    }
}

impl Serialize for PerMillion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000))
    }
}

impl<'de> Deserialize<'de> for PerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PerMillion, D::Error> {
        let json = crate::Json::deserialize(deserializer)?;
        let text = match &json {
            crate::Json::String(text) => text.clone(),
            // A float is displayed as the shortest text that means it, never with an exponent.
            crate::Json::Number(number) => match (number.as_u64(), number.as_f64()) {
                (None, Some(float)) => float.to_string(),
                _ => number.to_string(),
            },
            _ => String::new(),
        };
        PerMillion::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "a price must be a number of the currency's units per million tokens, with at most six decimals (got {json})"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, micros) in [("3", 3_000_000), ("0.1", 100_000), ("0.000001", 1), ("12.5", 12_500_000)] {
            let price: PerMillion = serde_json::from_str(text).expect("it is a price");
            assert_eq!(price.0, micros);
            let again: PerMillion =
                serde_json::from_str(&serde_json::to_string(&price).expect("it is written"))
                    .expect("it is read");
            assert_eq!(again, price);
            assert_eq!(serde_json::from_str::<PerMillion>(&format!("\"{text}\"")).expect("a string"), price);
        }
        for wrong in ["-1", "1e300", "\"\"", "\"1.\u{b2}\"", "null", "\"0.0000001\"", "\"1,5\""] {
            let error = serde_json::from_str::<PerMillion>(wrong).expect_err(wrong);
            assert!(error.to_string().starts_with("a price must be a number"), "{error}");
        }
    }

    #[test]
    fn caches_have_prices_of_their_own_and_the_longest_name_wins() {
        let table: PriceTable = serde_json::from_str(
            r#"{"models":{"*":{"input":1,"output":1},"m-*":{"input":2,"output":4,"cachedInput":0.5,"cacheWrite":3},"m-1":{"input":7,"output":7}}}"#,
        )
        .expect("it is a table");
        let mut usage = Usage::new(100, 10);
        (usage.cached_tokens, usage.cache_write_tokens) = (40, 20);
        assert_eq!(table.cost_micros("m-2", usage), Some(40 * 2 + 20 + 60 + 40));
        assert_eq!(table.cost_micros("m-1", usage), Some(110 * 7));
        assert_eq!(table.cost_micros("other", usage), Some(110));
        let huge = Usage::new(u64::MAX, u64::MAX);
        assert_eq!(table.cost_micros("m-1", huge), Some(u64::MAX), "it saturates");
        let odd = Usage { cached_tokens: 50, ..Usage::new(10, 0) };
        assert_eq!(table.cost_micros("m-2", odd), Some(25), "a peer that counts cached tokens apart");
    }
}
