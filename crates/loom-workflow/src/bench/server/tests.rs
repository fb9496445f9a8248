use super::cpu_micros;

#[test]
fn processor_time_is_read_behind_the_name() {
    let stat = "17 (a (b) c) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
    assert_eq!(cpu_micros(stat), Some(3_000_000));
    assert_eq!(cpu_micros(""), None);
}
