//! The examples: each one runs, ends as its page says, and shows its point.

use loom_expression::Value;

use crate::{json, loom, repository};

/// Runs an example that must succeed; returns standard output and standard error.
fn run(name: &str) -> (Value, String) {
    let ended = loom(&["example", name]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let printed = if ended.stdout.is_empty() { Value::NULL } else { json(&ended.stdout) };
    (printed, ended.stderr)
}

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn every_example_is_built_in_and_its_definition_is_valid() {
    let listed = loom(&["example"]).stdout;
    for entry in std::fs::read_dir(repository("examples")).expect("the examples are there") {
        let directory = entry.expect("it can be listed").path();
        // An example of several processes is a script, and no command of the binary.
        if directory.is_file()
            || directory.join("run.sh").is_file() && !directory.join("workflow.json").is_file()
        {
            continue;
        }
        let name = directory.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        shows(&listed, &[&format!("loom example {name}")]);
        let file = directory.join("workflow.json").display().to_string();
        assert_eq!(loom(&["validate", &file]).code, Some(0), "{file}");
        assert!(directory.join("README.md").is_file(), "{name} has a page");
        let shown = loom(&["example", &name, "--show"]);
        assert_eq!(shown.stdout, std::fs::read_to_string(file).expect("it can be read"));
    }
}

#[test]
fn flaky_retries_trips_its_circuit_and_cleans_up() {
    let (printed, shown) = run("flaky");
    assert_eq!(printed.get("callsToBilling"), Some(&Value::from(3)));
    assert_eq!(printed.get("stockReleased"), Some(&Value::from(true)));
    shows(
        &shown,
        &["503, waited 200 ms → 503, waited", "circuit open ×3", "Closed → Open", "✔ Release_stock"],
    );
    shows(&shown, &["by the rate limit of mail", "– Ship", "/down 3 times"]);
    assert!(shown.lines().count() + 10 < 40, "it fits on a screen");
}

#[test]
fn durable_is_killed_and_continues() {
    let (printed, shown) = run("durable");
    let calls = |key: &str| printed.get("calls").and_then(|calls| calls.get(key)).and_then(Value::as_i64);
    assert_eq!((calls("/ok?key=reserve"), calls("/down?key=partners")), (Some(1), Some(2)), "{shown}");
    // On a slow machine the second response may not have been stored, and that attempt is repeated.
    assert!(matches!(calls("/flaky?key=charge"), Some(3..=4)), "{shown}");
    let (before, after) = shown.split_once("$ kill -9 ").expect("the kill is shown");
    shows(
        before,
        &[
            "loom run ",
            "--durable",
            "✔ Reserve_stock",
            "circuit of partners: Closed → Open",
            "attempt 1: 503",
        ],
    );
    shows(after, &["--resume ", "✔ Charge_card", "✔ Ship", "run Succeeded"]);
    assert!(!after.contains("Reserve_stock"), "{after}");
}

#[test]
fn a_group_chat_selects_speakers_and_ends_when_the_text_is_approved() {
    let (printed, shown) = run("group-chat");
    let announcement = printed.get("announcement").expect("the result of the schema");
    assert_eq!(announcement.get("approved"), Some(&Value::from(true)));
    let number = |name: &str| printed.get(name).and_then(Value::as_i64);
    assert_eq!((printed.get("status"), number("rounds")), (Some(&Value::from("complete")), Some(4)));
    shows(&shown, &["Review", "Look_up"]);
    let missing = loom(&["example", "group-chat", "--connections", "no-such-file.json"]);
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    shows(&missing.stderr, &["cannot read no-such-file.json"]);
}

#[test]
fn an_agent_uses_tools_at_the_same_time_and_hands_over() {
    let (printed, shown) = run("agent");
    let answer = printed.get("answer").and_then(Value::as_str).expect("an answer");
    assert!(answer.ends_with("so it can still be cancelled."), "{answer}");
    assert_eq!(printed.get("handedOver"), Some(&Value::from(true)));
    shows(&shown, &["Order_desk", "Look_up", "Cancellations"]);
}

#[test]
fn an_agent_has_the_tools_of_a_program() {
    let (printed, shown) = run("mcp");
    assert_eq!(printed.get("teapots"), Some(&Value::from("teapot: 12 pieces")));
    let answer = printed.get("answer").and_then(Value::as_str).expect("an answer");
    assert!(answer.starts_with("There are 12 teapots."), "{answer}");
    shows(&shown, &["✔ Clerk", "shop", "McpToolFailed", "✔ Stock_of_teapots"]);
    let file = repository("examples/mcp/connections.json");
    let own = loom(&["example", "mcp", "--connections", &file]);
    assert_eq!(own.code, Some(0), "{}", own.stderr);
}

#[test]
fn retry_with_exponential_backoff() {
    let (printed, shown) = run("retry-backoff");
    assert_eq!(printed.get("answer").and_then(|answer| answer.get("call")), Some(&Value::from(3)));
    shows(&shown, &["503, waited 100 ms → 503, waited 200 ms → 200"]);
}

#[test]
fn a_retry_action_repeats_its_actions() {
    let (_, shown) = run("retry-policy");
    shows(&shown, &["Try_the_order  3 iterations"]);
}

#[test]
fn a_timeout_is_a_status_of_its_own() {
    let (printed, shown) = run("timeout");
    shows(&shown, &["⧖ Ask_a_slow_service"]);
    let source = printed.get("price").and_then(|price| price.get("source"));
    assert_eq!(source, Some(&Value::from("default")));
}

#[test]
fn a_breaker_spares_the_service() {
    let (printed, shown) = run("circuit-breaker");
    assert_eq!(printed.get("callsThatArrived"), Some(&Value::from(3)));
    shows(&shown, &["503 ×3, circuit open ×2"]);
}

#[test]
fn a_limiter_spaces_calls() {
    let (_, shown) = run("rate-limit");
    shows(&shown, &["Call  5 times: 5 Succeeded"]);
    // Three at once, then one every third of a second. On a slow machine fewer calls have to wait.
    let took = shown.split_whitespace().zip(shown.split_whitespace().skip(1)).find_map(|pair| match pair {
        (number, "ms") => number.parse::<u32>().ok(),
        (number, "s") => number.parse::<f64>().ok().map(|seconds| (seconds * 1_000.0) as u32),
        _ => None,
    });
    assert!(took.is_some_and(|took| took >= 660) && shown.matches("held ").count() <= 2, "{shown}");
}

#[test]
fn a_scope_is_cleaned_up() {
    let (printed, _) = run("scope-cleanup");
    assert_eq!(printed.get("failed"), Some(&Value::from("Fill")));
    assert_eq!(printed.get("removed"), Some(&Value::from(true)));
}

#[test]
fn everything_on_one_action() {
    let (printed, _) = run("all-together");
    assert_eq!(printed.get("answer").and_then(|answer| answer.get("call")), Some(&Value::from(3)));
}

#[test]
fn loops_children_and_pages() {
    let (printed, _) = run("loops");
    assert_eq!(printed.get("total"), Some(&Value::from(110)));
    let kinds: Value = ["odd", "even", "odd", "even"].into_iter().collect();
    assert_eq!(printed.get("kinds"), Some(&kinds));
    let (_, shown) = run("child-workflow");
    shows(&shown, &["Price  2 times: 2 Succeeded"]);
    let (printed, _) = run("paging");
    assert_eq!(printed.get("pages").and_then(Value::as_array).map(|pages| pages.len()), Some(3));
}

#[test]
fn memory_loses_nothing() {
    let (printed, _) = run("memory");
    let expected = r#"{"orders": 6, "logged": 6, "fruits": ["figs", "pears", "plums"], "priceOfFigs": 5, "cratesLeft": 14}"#;
    assert_eq!(printed, json(expected));
}

#[test]
fn inline_script() {
    let (printed, shown) = run("inline-script");
    let body = printed.get("body").unwrap_or(&printed);
    let totals = body.get("totals").expect("the totals are printed");
    assert_eq!(totals.to_json_text(), r#"{"Ada":28,"Grace":80}"#);
    let error = body.get("error").and_then(|error| error.get("message")).and_then(Value::as_str);
    assert_eq!(error, Some("TypeError: cannot read property 'customer' of undefined (line 2, column 8)"));
    shows(&shown, &["InlineCodeScriptRuntimeFailure", "TypeError: cannot read"]);
}

#[test]
fn an_unknown_example_is_a_usage_error() {
    let ended = loom(&["example", "no-such"]);
    assert_eq!(ended.code, Some(2));
    shows(&ended.stderr, &["flaky"]);
    shows(&loom(&["example", "timout"]).stderr, &["did you mean `loom example timeout`?"]);
}

#[test]
fn observe_lets_all_calls_pass_and_opens_its_circuit() {
    let (printed, shown) = run("observe");
    assert_eq!(printed.get("callsThatArrived"), Some(&Value::from(5)));
    shows(&shown, &["Closed → Open", "/down 5 times"]);
}

#[test]
fn fallback_replaces_the_failed_call() {
    let (printed, _) = run("fallback");
    let quote = printed.get("quote").expect("it is printed");
    assert_eq!(quote.get("total"), Some(&Value::from(200)));
    assert_eq!(quote.get("priceFrom"), Some(&Value::from("ServiceUnavailable")));
}

#[test]
fn chaos_is_loud_and_repeatable_and_the_retries_survive_it() {
    let (printed, shown) = run("chaos");
    assert_eq!(printed.get("survived"), Some(&Value::from(true)));
    shows(
        &shown,
        &[
            "CHAOS IS ON: 2 injections from examples/chaos/chaos.json, seed 3",
            "CHAOS: fault injected",
            "/ok 6 times",
        ],
    );
    let faults = |shown: &str| shown.matches("CHAOS: fault injected").count();
    assert_eq!(faults(&shown), faults(&run("chaos").1), "the same seed affects the same calls");
}

#[test]
fn loom_calls_loom_by_its_own_document() {
    let (printed, shown) = run("loom-to-loom");
    assert_eq!(printed, json(r#"{"total": 36, "ranThere": "prices"}"#), "{shown}");
    shows(&shown, &["$ loom serve", "prices.json", "$ loom run", "✔ Ask_for_a_price", "✔ Get_the_run"]);
}

#[test]
fn resilience_is_a_tour_of_ten_parts() {
    let ended = loom(&["example", "resilience"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    shows(
        &ended.stderr,
        &["Part 1 of 10\nretry-backoff: ", "Part 8 of 10\nobserve: ", "Part 10 of 10\nchaos: "],
    );
    assert_eq!(loom(&["example", "resilience", "--show"]).code, Some(2));
}

#[test]
fn secrets_are_sent_and_shown_nowhere() {
    let (printed, shown) = run("secrets");
    assert_eq!(printed.get("called"), Some(&Value::from(200)), "{printed:?}");
    let not_given = printed.get("notGiven").map(|text| text.text().into_owned()).unwrap_or_default();
    assert!(not_given.contains("may not give 'payroll-key'"), "{not_given}");
    for text in [printed.to_json_text(), shown] {
        let text = text.to_lowercase();
        assert!(!text.contains("the-key-of-the"), "{text}");
    }
}
