use super::Metrics;

const PAGE: &str = "# HELP runs Runs.\n# TYPE runs counter\nruns{status=\"Failed\"} 2\nruns{status=\"Succeeded\"} 40\n\
    up 1\nsync_bucket{le=\"0.001\"} 10\nsync_bucket{le=\"0.002\"} 90\nsync_bucket{le=\"0.005\"} 100\n\
    sync_bucket{le=\"+Inf\"} 100\nsync_sum 0.2\nsync_count 100\n";

#[test]
fn samples_are_found_with_and_without_their_labels() {
    let metrics = Metrics::read(PAGE);
    assert_eq!(metrics.get("up"), Some(1.0));
    assert_eq!(metrics.get("runs{status=\"Failed\"}"), Some(2.0));
    assert_eq!(metrics.sum("runs").to_string(), "42");
    assert_eq!(metrics.get("down"), None);
    let page = "runs{of=\"a\",status=\"Failed\"} 2\nruns{of=\"b\",status=\"Failed\"} 3\nruns{of=\"b\",status=\"Succeeded\"} 40\n";
    let metrics = Metrics::read(page);
    assert_eq!(metrics.sum_where("runs", "status", "Failed").to_string(), "5");
    assert_eq!(metrics.sum_where("runs", "of", "b").to_string(), "43");
    assert_eq!(metrics.sum_where("runs", "status", "fail").to_string(), "0");
}

#[test]
fn quantiles_are_between_the_bounds_of_their_bucket() {
    let metrics = Metrics::read(PAGE);
    let micros = |quantile: f64| metrics.quantile("sync", quantile).map(|value| (value * 1e6).round());
    assert_eq!(micros(0.5), Some(1_500.0), "half way between the 10th and the 90th");
    assert_eq!(micros(0.05), Some(500.0));
    assert_eq!(micros(0.95), Some(3_500.0));
    assert_eq!(metrics.since(&metrics).quantile("sync", 0.5), None, "nothing happened since");
}
