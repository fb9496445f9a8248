use proptest::prelude::*;

use super::*;
use crate::event::RunId;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn start(run: u64, seed: u64, trace: Option<TraceParent>) -> RunStart {
    RunStart {
        run: RunId::from_u64(run).unwrap(),
        seed,
        parameters: Vec::new(),
        trigger: loom_expression::Value::NULL,
        workflow: loom_expression::Value::NULL,
        tracking_id: "t".into(),
        wants_response: false,
        trace,
        depth: 0,
    }
}

fn round(action: u32, index: u32) -> Round {
    Round { action: ActionIdx(action), index }
}

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

#[test]
fn ids_are_a_function_of_the_run_and_unique_within_it() {
    let trace = RunTrace::of(&start(7, 9, None));
    let again = RunTrace::of(&start(7, 9, None));
    let a = ActionIdx(1);
    let mut ids = vec![trace.run, trace.call(EffectId(0)), trace.call(EffectId(1))];
    ids.extend([trace.action(a, &[]), trace.action(ActionIdx(2), &[])]);
    ids.extend((0..3).map(|iteration| trace.action(a, &[round(0, iteration)])));
    ids.push(trace.action(a, &[round(0, 0), round(0, 1)]));
    ids.push(RunTrace::of(&start(8, 9, None)).run);
    ids.push(RunTrace::of(&start(7, 10, None)).run);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!((again.trace, again.run), (trace.trace, trace.run));
    assert_ne!(trace.trace, RunTrace::of(&start(8, 9, None)).trace);
}

#[test]
fn the_trace_of_a_caller_is_continued() {
    let parent = TraceParent::parse(GIVEN, Some("a=b")).unwrap();
    let trace = RunTrace::of(&start(7, 9, Some(parent.clone())));
    let next = trace.handed_on(EffectId(3), &[]);
    assert_eq!((next.trace, next.span), (parent.trace, trace.call(EffectId(3))));
    assert_eq!(next.state, parent.state);
    let unsampled = TraceParent { sampled: false, ..parent };
    let trace = RunTrace::of(&start(7, 9, Some(unsampled)));
    assert!(!trace.is_sampled() && !trace.handed_on(EffectId(3), &[]).sampled);
}

#[test]
fn spans_of_iterations_are_bounded_and_their_calls_stay_in_the_trace() {
    let (outer, inner) = (0, 1);
    assert!(has_spans(&[]) && has_spans(&[round(outer, 255)]) && !has_spans(&[round(outer, 256)]));
    let shown = (0..2_000u32)
        .flat_map(|first| (0..2_000u32).map(move |second| [round(outer, first), round(inner, second)]))
        .filter(|path| has_spans(path))
        .count();
    assert!((256..2_000).contains(&shown), "{shown}");
    assert!(!has_spans(&[round(outer, u32::MAX), round(inner, u32::MAX), round(inner, u32::MAX)]));
    let trace = RunTrace::of(&start(7, 9, None));
    let deep = [round(outer, 1), round(inner, 200)];
    assert_eq!(trace.handed_on(EffectId(3), &deep).span, trace.action(ActionIdx(inner), &deep[..1]));
    assert_eq!(
        trace.handed_on(EffectId(3), &[round(outer, 256), round(inner, 0)]).span,
        trace.action(ActionIdx(outer), &[])
    );
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
