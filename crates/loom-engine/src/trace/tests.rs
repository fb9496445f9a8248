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

fn iteration_of(action: u32, index: u32) -> Iteration {
    Iteration { action: ActionIdx(action), index }
}

#[test]
fn ids_are_a_function_of_the_run_and_unique_within_it() {
    let trace = RunTrace::of(&start(7, 9, None));
    let again = RunTrace::of(&start(7, 9, None));
    let a = ActionIdx(1);
    let mut ids = vec![trace.run, trace.call(EffectId(0)), trace.call(EffectId(1))];
    ids.extend([trace.action(a, &[]), trace.action(ActionIdx(2), &[])]);
    ids.extend((0..3).map(|iteration| trace.action(a, &[iteration_of(0, iteration)])));
    ids.push(trace.action(a, &[iteration_of(0, 0), iteration_of(0, 1)]));
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
    assert!(
        has_spans(&[]) && has_spans(&[iteration_of(outer, 255)]) && !has_spans(&[iteration_of(outer, 256)])
    );
    let shown = (0..2_000u32)
        .flat_map(|first| {
            (0..2_000u32).map(move |second| [iteration_of(outer, first), iteration_of(inner, second)])
        })
        .filter(|path| has_spans(path))
        .count();
    assert!((256..2_000).contains(&shown), "{shown}");
    assert!(!has_spans(&[
        iteration_of(outer, u32::MAX),
        iteration_of(inner, u32::MAX),
        iteration_of(inner, u32::MAX)
    ]));
    let trace = RunTrace::of(&start(7, 9, None));
    let deep = [iteration_of(outer, 1), iteration_of(inner, 200)];
    assert_eq!(trace.handed_on(EffectId(3), &deep).span, trace.action(ActionIdx(inner), &deep[..1]));
    assert_eq!(
        trace.handed_on(EffectId(3), &[iteration_of(outer, 256), iteration_of(inner, 0)]).span,
        trace.action(ActionIdx(outer), &[])
    );
}
