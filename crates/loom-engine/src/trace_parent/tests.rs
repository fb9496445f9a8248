use proptest::prelude::*;

use super::*;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_context_survives_parsing_and_formatting() {
    let parent = TraceParent::parse(GIVEN, Some(" rojo=00f067aa0ba902b7,congo=t61rcWkgMzE ")).unwrap();
    assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!((parent.span, parent.sampled), (0x00f0_67aa_0ba9_02b7, true));
    assert_eq!(parent.state.as_deref(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
    assert_eq!(parent.to_string(), GIVEN);
    let unsampled = TraceParent::parse(&GIVEN.replace("-01", "-00"), None).unwrap();
    assert!(!unsampled.sampled && unsampled.to_string().ends_with("-00"));
    // Only the lowest bit is propagated.
    assert_eq!(TraceParent::parse(&GIVEN.replace("-01", "-ff"), None).unwrap().to_string(), GIVEN);
}

#[test]
fn an_invalid_context_is_ignored() {
    let wrong = [
        "",
        "00",
        "garbage",
        &GIVEN[1..],
        &format!("{GIVEN}0"),
        &format!("{GIVEN}-00"),
        &GIVEN.to_uppercase(),
        &GIVEN.replace("00-4", "ff-4"),
        &GIVEN.replace("00-4", "0g-4"),
        &GIVEN.replace('-', "_"),
        &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        &GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
        &GIVEN.replace("-01", "-0x"),
        &"é".repeat(28),
        &GIVEN.replace("4bf", "4bé"),
    ];
    for parent in wrong {
        assert_eq!(TraceParent::parse(parent, None), None, "{parent:?}");
    }
    // A later version may append fields.
    let later = format!("cc{}-what-the-future-will-be-like", &GIVEN[2..]);
    assert_eq!(TraceParent::parse(&later, None).unwrap().to_string(), GIVEN);
    assert_eq!(TraceParent::parse(&format!("cc{}.what", &GIVEN[2..]), None), None);
}

#[test]
fn only_an_invalid_state_is_dropped() {
    let long = format!("a={}", "x".repeat(STATE_BYTES_MAX));
    let many = vec!["a=b"; STATE_MEMBERS_MAX + 1].join(",");
    for state in ["", " ", "novalue", "a=", "=b", "a=b,c", "a=\u{7f}", "a=é", &long, &many] {
        let parent = TraceParent::parse(GIVEN, Some(state)).unwrap();
        assert_eq!(parent.state, None, "{state:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_ignored(parent in "(\\PC|[0-9a-f-]){0,70}", state in any::<Option<String>>()) {
        if let Some(read) = TraceParent::parse(&parent, state.as_deref()) {
            prop_assert_eq!(TraceParent::parse(&read.to_string(), read.state.as_deref()), Some(read));
        }
    }

    #[test]
    fn a_context_with_one_byte_changed_is_another_or_none(at in 0..GIVEN.len(), byte in any::<char>()) {
        let mut changed = GIVEN.to_owned();
        changed.replace_range(at..=at, &byte.to_string());
        match TraceParent::parse(&changed, None) {
            None => {}
            // Replacing a byte with the same byte changes nothing.
            Some(_) if changed == GIVEN => {}
            Some(read) => {
                prop_assert!(byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
                prop_assert!(read.trace != 0 && read.span != 0);
                // Of the version and the flags only one bit is kept.
                prop_assert!(!(3..52).contains(&at) || read.to_string() == changed);
            }
        }
    }

    #[test]
    fn a_formatted_context_can_be_parsed(trace in 1..u128::MAX, span in 1..u64::MAX, sampled in any::<bool>()) {
        let parent = TraceParent { trace, span, sampled, state: None };
        prop_assert_eq!(TraceParent::parse(&parent.to_string(), None), Some(parent));
    }
}
