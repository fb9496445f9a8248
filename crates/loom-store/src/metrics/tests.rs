//! Buckets and quantiles.

use super::*;

#[test]
fn a_duration_falls_into_the_first_bucket_that_holds_it() {
    let mut histogram = Histogram::default();
    for micros in [1, 50, 51, 2_000_000, 2_000_001] {
        histogram.record(Duration::from_micros(micros));
    }
    assert_eq!(histogram.counts[0], 2);
    assert_eq!(histogram.counts[1], 1);
    assert_eq!(histogram.counts[14], 1);
    assert_eq!(histogram.counts[15], 1);
    assert_eq!(histogram.count(), 5);
    assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(100)));
    assert_eq!(histogram.quantile(1.0), None);
    assert_eq!(Histogram::default().quantile(0.5), None);
}
