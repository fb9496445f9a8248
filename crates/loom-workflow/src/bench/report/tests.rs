use super::millis;

#[test]
fn quantiles_of_sorted_values() {
    let values: Vec<u32> = (1..=100).map(|value| value * 1_000).collect();
    let of = |quantile: f64| millis(&values, quantile).map(f64::round);
    assert_eq!([of(0.0), of(0.5), of(0.9), of(0.99), of(1.0)], [1.0, 50.0, 90.0, 99.0, 100.0].map(Some));
    assert_eq!(millis(&[7_000], 0.99), Some(7.0));
    assert_eq!(millis(&[], 0.5), None);
}
