//! The Prometheus text format, version 0.0.4: heads, samples, histograms.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

/// A page under construction.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// Writes the `HELP` and `TYPE` lines of a metric.
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            write!(self.0, "{label}=\"{}\"", escaped(text)).ok();
        }
        writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" }).ok();
    }

    /// Writes a histogram. `counts` has one number for each of `ends`, and one for all greater values.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        label: Option<(&str, &str)>,
        ends: impl Iterator<Item = f64>,
        counts: &[u64],
        sum: Duration,
    ) {
        let bucket = format!("{name}_bucket");
        let ends = ends.map(|end| end.to_string()).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (end, count) in ends.zip(counts) {
            below += count;
            let labels: Vec<_> = label.into_iter().chain([("le", end.as_str())]).collect();
            self.sample(&bucket, &labels, below);
        }
        self.sample(&format!("{name}_sum"), label.as_slice(), sum.as_secs_f64());
        self.sample(&format!("{name}_count"), label.as_slice(), below);
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
