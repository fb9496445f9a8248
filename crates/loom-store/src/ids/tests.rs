//! The laws of ids: order, text and growth.

use super::*;

#[test]
fn text_order_is_id_order_and_parses_back() {
    let mut source = RunIdSource::new(3, None);
    let mut ids: Vec<RunId> =
        (0..5_000).map(|n| source.next(UnixMillis(1_700_000_000_000 + n / 7))).collect();
    ids.extend([RunId::MIN, RunId::MAX]);
    ids.sort_unstable();
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert!(texts.is_sorted());
    for (id, text) in ids.iter().zip(&texts) {
        assert_eq!(text.parse::<RunId>().as_ref(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<RunId>().as_ref(), Ok(id));
    }
}

#[test]
fn invalid_run_ids_are_refused() {
    for text in ["", "0", "00000000000000", "000000000000u", "g000000000000", "8000000000000", "00000000000é"]
    {
        assert!(text.parse::<RunId>().is_err(), "{text}");
    }
    assert_eq!("7zzzzzzzzzzzz".parse::<RunId>(), Ok(RunId::MAX));
}

#[test]
fn ids_grow_when_the_clock_is_set_back_and_past_the_counter() {
    let mut source = RunIdSource::new(9, None);
    let mut last = source.next(UnixMillis(2_000));
    for n in 0..10_000 {
        let id = source.next(UnixMillis(1_000 + n % 3));
        assert!(id > last);
        assert_eq!(id.shard().number(), 9);
        last = id;
    }
    assert_eq!(last.time(), UnixMillis(2_004));
    let mut resumed = RunIdSource::new(2, Some(last));
    assert!(resumed.next(UnixMillis(0)) > last);
}

#[test]
fn ids_follow_a_clock_that_was_far_ahead_and_none_is_made_twice() {
    let (now, year) = (1_800_000_000_000, 365 * 86_400_000);
    let mut source = RunIdSource::new(0, None);
    let mut made: Vec<RunId> = (0..3).map(|n| source.next(UnixMillis(now + n))).collect();
    let ahead = source.next(UnixMillis(now + year));
    made.push(ahead);
    // The clock comes back to moments that it has shown before.
    for n in 0..3 {
        let id = source.next(UnixMillis(now + n));
        assert_eq!(id.time(), UnixMillis(now + n));
        made.push(id);
    }
    // So does that of another process, which finds the newest ids in the store: once before it has made any, and once after.
    let mut resumed = RunIdSource::after_clock_was_ahead(ahead, Some(made[2]));
    assert_eq!(resumed.next(UnixMillis(now + 5)).shard().number(), 1);
    let mut resumed = RunIdSource::after_clock_was_ahead(ahead, made.last().copied());
    for n in 0..3 {
        let id = resumed.next(UnixMillis(now + n));
        assert_eq!(id.shard().number(), 1, "it continues what the clock that came back has begun");
        made.push(id);
    }
    let count = made.len();
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), count, "no id twice");
}

#[test]
fn ids_made_since_a_time_are_found() {
    let mut source = RunIdSource::new(1_023, None);
    let id = source.next(UnixMillis(1_700_000_000_123));
    assert_eq!(id.time(), UnixMillis(1_700_000_000_123));
    assert!(RunId::first_at(id.time()) <= id);
    assert!(RunId::first_at(id.time().plus(1)) > id);
    assert_eq!(RunId::first_at(UnixMillis(-5)), RunId::MIN);
}

#[test]
fn hashes_print_and_parse() {
    let hash = ContentHash::of(b"loom");
    assert_eq!(hash.to_string().parse::<ContentHash>(), Ok(hash));
    assert!("zz".parse::<ContentHash>().is_err());
    assert!("+1".repeat(32).parse::<ContentHash>().is_err());
}
