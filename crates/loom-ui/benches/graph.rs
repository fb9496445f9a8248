//! Draws a workflow of 500 actions: `cargo bench -p loom-ui`.

use criterion::{Criterion, criterion_group, criterion_main};
use loom_definition::{Definition, LoadOptions};
use loom_ui::{Drawing, Graph, Links, States, embedded_svg};

/// 50 loops of nine actions each, in a chain in which every fifth has an error handler beside it.
fn definition() -> String {
    let mut actions = Vec::new();
    for outer in 0..50 {
        let inner = |at: usize| format!("Step_{outer}_{at}");
        let body: Vec<String> = (0..9)
            .map(|at| {
                let after = if at == 0 {
                    String::new()
                } else {
                    format!(r#""{}": ["Succeeded"]"#, inner((at - 1) / 2))
                };
                format!(r#""{}": {{"type": "Compose", "inputs": 1, "runAfter": {{{after}}}}}"#, inner(at))
            })
            .collect();
        let status = if outer % 5 == 1 { "Failed" } else { "Succeeded" };
        let after = if outer == 0 {
            String::new()
        } else {
            format!(r#""Loop_{}": ["{status}"]"#, outer - 1 - outer % 2)
        };
        let after = if outer == 1 { r#""Loop_0": ["Succeeded"]"#.to_owned() } else { after };
        let body = body.join(",");
        actions.push(format!(
            r#""Loop_{outer}": {{"type": "Foreach", "foreach": "@range(0, 3)", "actions": {{{body}}}, "runAfter": {{{after}}}}}"#
        ));
    }
    format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {{{}}}}}"#, actions.join(","))
}

fn draw(criterion: &mut Criterion) {
    let loaded = Definition::parse(definition().as_bytes(), &LoadOptions::default()).expect("it is valid");
    assert_eq!(loaded.workflow.actions.len(), 500);
    criterion.bench_function("lay out 500 actions", |bench| {
        bench.iter(|| Drawing::of(Graph::of(&loaded.workflow)));
    });
    let drawing = Drawing::of(Graph::of(&loaded.workflow));
    criterion.bench_function("draw 500 actions", |bench| {
        bench.iter(|| embedded_svg(&drawing, &States::default(), Links::None).into_string());
    });
}

criterion_group!(benches, draw);
criterion_main!(benches);
