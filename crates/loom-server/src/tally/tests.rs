use super::*;

#[test]
fn names_beyond_the_limit_are_counted_together() {
    let mut named: Named<AtomicU64> = Named::default();
    for round in 0..3 {
        for name in 0..NAMES_MAX * 2 {
            add(&named.of(&format!("workflow {name}")));
        }
        assert_eq!(named.0.len(), NAMES_MAX + 1, "round {round}");
    }
    let count = |name: &str| named.0[name].load(Ordering::Relaxed);
    assert_eq!((count("workflow 0"), count(OTHER)), (3, 3 * NAMES_MAX as u64));
    let all: u64 = named.0.values().map(|counter| counter.load(Ordering::Relaxed)).sum();
    assert_eq!(all, 6 * NAMES_MAX as u64, "nothing is lost");
}

#[test]
fn a_duration_falls_below_the_end_that_it_reaches() {
    let at = |micros: i64| Timestamp::from_ticks(1_000_000 + micros * 10).unwrap();
    let durations = Durations::default();
    for (micros, bucket) in
        [(0, 0), (1_000, 0), (1_001, 1), (3_600_000_000, 14), (3_600_000_001, 15), (-5, 0)]
    {
        let before = durations.counts[bucket].load(Ordering::Relaxed);
        durations.record(at(0), at(micros));
        assert_eq!(durations.counts[bucket].load(Ordering::Relaxed), before + 1, "{micros}");
    }
}
