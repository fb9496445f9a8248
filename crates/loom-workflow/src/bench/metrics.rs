//! Parses the server's metrics from the Prometheus text format, as far as reports need them.

use std::collections::BTreeMap;

/// Samples by name, including labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    pub(super) fn read(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics { samples: samples.collect() }
    }

    /// One sample.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.samples.get(name).copied()
    }

    /// The sum of all samples of a name, over all labels.
    pub(super) fn sum(&self, name: &str) -> f64 {
        let labelled = format!("{name}{{");
        let of_name = self.samples.iter().filter(|(key, _)| *key == name || key.starts_with(&labelled));
        of_name.map(|(_, value)| value).sum()
    }

    /// The sum of all samples of a name with `label="value"`.
    pub(super) fn sum_where(&self, name: &str, label: &str, value: &str) -> f64 {
        let (labelled, wanted) = (format!("{name}{{"), format!("{label}=\"{value}\""));
        let fitting = self.samples.iter().filter(|(key, _)| {
            let labels = key.strip_prefix(&labelled).and_then(|rest| rest.strip_suffix('}'));
            labels.is_some_and(|labels| labels.split(',').any(|pair| pair == wanted))
        });
        fitting.fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The differences to `before`.
    pub(super) fn since(&self, before: &Metrics) -> Metrics {
        let grown = |(name, value): (&String, &f64)| {
            (name.clone(), value - before.samples.get(name).copied().unwrap_or_default())
        };
        Metrics { samples: self.samples.iter().map(grown).collect() }
    }

    /// A quantile (0 to 1) of a histogram, in its unit, with linear interpolation within a bucket as in Prometheus'
    /// `histogram_quantile`. None if nothing was observed.
    pub(super) fn quantile(&self, name: &str, quantile: f64) -> Option<f64> {
        let prefix = format!("{name}_bucket{{le=\"");
        let mut buckets: Vec<(f64, f64)> = self
            .samples
            .iter()
            .filter_map(|(key, count)| {
                let end = key.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((if end == "+Inf" { f64::INFINITY } else { end.parse().ok()? }, *count))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all = buckets.last()?.1;
        let wanted = all * quantile;
        let mut below = (0.0, 0.0);
        for (end, count) in buckets {
            if count >= wanted && count > below.1 {
                if end.is_infinite() {
                    return Some(below.0);
                }
                return Some(below.0 + (end - below.0) * (wanted - below.1) / (count - below.1));
            }
            below = (end, count);
        }
        None
    }
}

#[cfg(test)]
mod tests;
