use std::{fmt::Write as _, time::Duration};

use loom_definition::{Definition, LoadOptions};
use loom_engine::{
    Environment, RunStart, Trail,
    event::{EffectResult, ErrorInfo, Outcome, RetryHint},
    ports::Call,
    simulate::Simulation,
};
use loom_expression::{Object, Value};

use super::*;

/// A run up to some step: calls and timers are steps.
struct Scene {
    simulation: Simulation,
    workflow: Arc<Workflow>,
}

impl Scene {
    fn new(actions: &str) -> Scene {
        let text = format!(r#"{{"triggers": {{"manual": {{"type": "Request"}}}}, "actions": {actions}}}"#);
        let options = LoadOptions { name: Some(Arc::from("scene")), ..LoadOptions::default() };
        let workflow = Definition::parse(text.as_bytes(), &options).expect("it loads").workflow;
        let now = Timestamp::from_unix_millis(1_700_000_000_000);
        let simulation = Simulation::new(Arc::clone(&workflow), Arc::new(Environment::default()), now);
        Scene { simulation, workflow }
    }

    fn start(mut self, steps: usize, answer: impl FnMut(&Call) -> EffectResult) -> Scene {
        let start = RunStart {
            run: RunId::MIN,
            seed: 7,
            parameters: Vec::new(),
            trigger: Value::from(Object::new()),
            workflow: Value::from(Object::new()),
            tracking_id: Arc::from("test"),
            wants_response: true,
            trace: None,
            depth: 0,
        };
        self.simulation.play(Arc::new(start), steps, answer);
        self
    }

    /// The tree after another `later`.
    fn tree(&self, later: Duration, columns: usize, rows: usize) -> Vec<String> {
        let mut history = History::new(Arc::clone(&self.workflow));
        history.extend(self.simulation.events());
        let live = Live::resumed(history, Style::Silent, Console::default());
        let now = Timestamp::from_unix_millis(self.simulation.now().unix_millis() + later.as_millis() as i64);
        live.tree(now, false, (columns, rows))
    }

    /// What is written where nothing can be painted over.
    fn lines(&self) -> String {
        let mut lines = Lines::new(Trail::new(Arc::clone(&self.workflow)), Timestamp::MIN, false);
        let mut out = String::new();
        lines.write(self.simulation.events(), &mut out);
        out
    }
}

fn answered(status: i64) -> EffectResult {
    let outputs: Object = [("statusCode", Value::from(status))].into_iter().collect();
    let mut outcome = Outcome::ok(Some(outputs.into()));
    if status >= 400 {
        outcome = Outcome {
            outputs: outcome.outputs,
            ..Outcome::failed("Said", ErrorInfo::new("Said", format!("The service responded with {status}.")))
        };
    }
    EffectResult::Done { outcome, hint: RetryHint { transient: status >= 500, ..RetryHint::default() } }
}

const RETRIES: &str = r#"{
    "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a"}, "retryPolicy": {"maxAttempts": 4, "initialDelay": 200, "backoffMultiplier": 2}, "runAfter": {}},
    "Then": {"type": "Compose", "inputs": 1, "runAfter": {"Ask": ["Succeeded"]}}}"#;

#[test]
fn a_retry_shows_what_happened_and_when_the_next_one_is_due() {
    let scene = Scene::new(RETRIES).start(1, |_| answered(503));
    let tree = scene.tree(Duration::from_millis(50), 80, 20);
    assert_eq!(
        tree,
        ["scene  Running  50 ms  run 0000000000000", "├─ ● Ask  50 ms · again in 150 ms", "└─ · Then",]
    );
    // The second attempt has failed as well, and the third is on its way.
    let scene = Scene::new(RETRIES).start(4, |_| answered(503));
    let tree = scene.tree(Duration::ZERO, 80, 20);
    assert_eq!(
        tree,
        [
            "scene  Running  600 ms  run 0000000000000",
            "├─ ● Ask  3 attempts · 600 ms",
            "│     503, waited 200 ms → 503, waited 400 ms",
            "└─ · Then",
        ]
    );
}

#[test]
fn lines_are_in_the_order_of_their_times() {
    let actions = r#"{
        "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a"}, "retryPolicy": {"maxAttempts": 2, "initialDelay": 200}, "runAfter": {}},
        "Answer": {"type": "Response", "inputs": {"statusCode": 201}, "runAfter": {"Ask": ["Succeeded"]}}}"#;
    let mut calls = 0;
    let scene = Scene::new(actions).start(100, |_| {
        calls += 1;
        answered(if calls < 2 { 503 } else { 200 })
    });
    let lines = scene.lines();
    let times: Vec<f64> = lines
        .lines()
        .map(|line| line.split('s').next().and_then(|time| time.trim().parse().ok()).expect("a time"))
        .collect();
    assert!(times.is_sorted(), "{lines}");
    assert!(lines.contains("0.200s  response 201"), "{lines}");
}

#[test]
fn retries_that_help_and_retries_that_do_not() {
    let mut calls = 0;
    let scene = Scene::new(RETRIES).start(100, |_| {
        calls += 1;
        answered(if calls < 3 { 503 } else { 200 })
    });
    assert_eq!(
        scene.tree(Duration::ZERO, 80, 20),
        [
            "scene  Succeeded  600 ms  run 0000000000000",
            "├─ ✔ Ask  200 · 3 attempts · 600 ms",
            "│     503, waited 200 ms → 503, waited 400 ms → 200",
            "└─ ✔ Then",
        ]
    );
    let scene = Scene::new(RETRIES).start(100, |_| answered(404));
    let tree = scene.tree(Duration::ZERO, 80, 20);
    assert_eq!(tree[1..], ["├─ ✘ Ask  404  The service responded with 404.", "└─ – Then  skipped"]);
    assert!(tree[0].starts_with("scene  Failed  0 ms"), "{}", tree[0]);
}

const LOOP: &str = r#"{
    "Each": {"type": "Foreach", "foreach": "@range(0, 50)", "operationOptions": "Sequential", "runAfter": {}, "actions": {
        "Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a", "retryPolicy": {"type": "none"}}, "runAfter": {}}}},
    "Last": {"type": "Compose", "inputs": 1, "runAfter": {"Each": ["Succeeded"]}}}"#;

#[test]
fn a_loop_counts_its_iterations() {
    let scene = Scene::new(LOOP).start(12, |_| answered(200));
    assert_eq!(
        scene.tree(Duration::ZERO, 80, 20)[1..],
        [
            "├─ ● Each  13 of 50 iterations",
            "│  └─ ● Call  13 times: 12 Succeeded, 1 running",
            "│        200 ×12",
            "└─ · Last",
        ]
    );
}

#[test]
fn a_failure_among_several_executions_is_what_a_line_says_first() {
    let mut calls = 0;
    let scene = Scene::new(LOOP).start(1_000, |_| {
        calls += 1;
        answered(if calls == 40 { 500 } else { 200 })
    });
    let tree = scene.tree(Duration::ZERO, 80, 20);
    assert_eq!(tree[2], "│  └─ ✘ Call  50 times: 1 Failed, 49 Succeeded", "{tree:?}");
}

#[test]
fn what_may_still_be_used_is_not_said_to_be_unused() {
    let scene = Scene::new(
        r#"{"Each": {"type": "Foreach", "foreach": "@range(0, 2)", "operationOptions": "Sequential", "runAfter": {}, "actions": {
             "Check": {"type": "If", "expression": {"equals": ["@item()", 1]}, "runAfter": {},
               "actions": {"Odd": {"type": "Compose", "inputs": 1, "runAfter": {}}},
               "else": {"actions": {"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a"}, "runAfter": {}}}}}}},
           "Outside": {"type": "If", "expression": {"equals": [1, 1]}, "runAfter": {},
               "actions": {"Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a"}, "runAfter": {}}},
               "else": {"actions": {"Never": {"type": "Compose", "inputs": 1, "runAfter": {}}}}}}"#,
    )
    .start(0, |_| answered(200));
    let tree = scene.tree(Duration::ZERO, 80, 20).join("\n");
    assert!(tree.contains("then: 1 action not taken yet"), "the next iteration may take it: {tree}");
    assert!(
        tree.contains("else: 1 action not taken\n") || tree.ends_with("else: 1 action not taken"),
        "{tree}"
    );
}

#[test]
fn a_long_loop_without_a_terminal_shows_the_first_iterations_and_those_that_fail() {
    let mut calls = 0;
    let scene = Scene::new(LOOP).start(1_000, |_| {
        calls += 1;
        answered(if calls == 40 { 500 } else { 200 })
    });
    let text = scene.lines();
    let reported: Vec<&str> = text.lines().filter(|line| line.contains("› Call")).collect();
    assert_eq!(reported.len(), 21, "twenty iterations, and the one that failed: {text}");
    assert!(reported[0].ends_with("✔ Each[1] › Call (200)"), "{text}");
    assert!(reported[20].contains("✘ Each[40] › Call (500): The service responded with 500."), "{text}");
    assert!(text.lines().last().is_some_and(|line| line.contains("run Failed")), "{text}");
    assert!(!text.contains('\x1b'), "no colours and no cursor movements: {text}");
}

#[test]
fn lines_are_cut_at_the_width_of_the_screen() {
    let scene = Scene::new(
        r#"{"An_action_with_quite_a_long_name": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a", "retryPolicy": {"type": "none"}}, "runAfter": {}}}"#,
    )
    .start(10, |_| answered(404));
    for columns in [20, 30, 40] {
        let tree = scene.tree(Duration::ZERO, columns, 20);
        for line in &tree {
            assert!(line.chars().count() <= columns, "{columns}: {line:?}");
        }
        assert!(tree[1].ends_with('…'), "{:?}", tree[1]);
    }
    let wide = scene.tree(Duration::ZERO, 120, 20);
    assert!(wide[1].ends_with("The service responded with 404."), "{:?}", wide[1]);
}

#[test]
fn what_is_in_progress_stays_when_there_are_too_few_rows() {
    let mut actions = String::from("{");
    for step in 0..30 {
        let after = if step == 0 { String::new() } else { format!(r#""A{}": ["Succeeded"]"#, step - 1) };
        write!(actions, r#""A{step}": {{"type": "Compose", "inputs": 1, "runAfter": {{{after}}}}}, "#)
            .expect("a String takes everything");
    }
    actions.push_str(r#""Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s/a"}, "runAfter": {"A29": ["Succeeded"]}}}"#);
    let scene = Scene::new(&actions).start(0, |_| answered(200));
    let tree = scene.tree(Duration::ZERO, 80, 8);
    assert_eq!(tree.len(), 8, "{tree:?}");
    assert!(tree[0].starts_with("scene  Running"), "{tree:?}");
    assert!(tree.iter().any(|line| line.contains("● Call")), "{tree:?}");
    assert_eq!(tree.last().map(String::as_str), Some("… 25 more lines"));
}

#[test]
fn the_screen_is_repainted_in_place() {
    let mut screen = Screen::default();
    let mut out = Vec::new();
    let lines = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    screen.paint(&lines(&["a", "b"]), &mut out).expect("a vector takes everything");
    assert_eq!(String::from_utf8_lossy(&out), "a\nb\n");
    out.clear();
    screen.paint(&lines(&["c"]), &mut out).expect("a vector takes everything");
    assert_eq!(String::from_utf8_lossy(&out), "\x1b[2F\x1b[Jc\n", "up two lines, clear, and write");
}

#[test]
fn colours_are_there_only_when_asked_for() {
    let scene = Scene::new(RETRIES).start(100, |_| answered(200));
    let mut history = History::new(Arc::clone(&scene.workflow));
    history.extend(scene.simulation.events());
    let live = Live::resumed(history, Style::Silent, Console { live: true, color: true });
    let painted = live.tree(scene.simulation.now(), true, (80, 20));
    assert!(painted[1].contains("\x1b[32m✔\x1b[0m"), "{:?}", painted[1]);
    assert!(scene.tree(Duration::ZERO, 80, 20).iter().all(|line| !line.contains('\x1b')));
}
