//! What is reported about shared memory: operations, addresses and grants.

use loom_definition::{Definition, LoadOptions, Severity::Error};

use crate::diagnostics::{check, find};

#[test]
fn operations_on_shared_memory() {
    let act = |inputs: &str| format!(r#"{{"M": {{"type": "Memory", "inputs": {inputs}}}}}"#);
    let bad = |inputs: &str, pointer: &str, marked: &str, says: &str| {
        check(&act(inputs), "L0224", Error, &format!("/actions/M/inputs{pointer}"), marked, says);
    };
    check(&act("{}"), "L0104", Error, "/actions/M", "{", "inputs.operation");
    bad("[]", "", "[]", "must be an object, found an array");
    let key = r#""key": "run/k""#;
    bad(
        &format!(r#"{{"operation": "apend", {key}}}"#),
        "/operation",
        r#""apend""#,
        "unknown operation `apend` of shared memory did you mean `append`?",
    );
    bad(
        &format!(r#"{{"operation": "set", {key}, "value": 1, "tll": 5}}"#),
        "/tll",
        r#""tll""#,
        "unknown property `tll` of the operation `set` did you mean `ttl`?",
    );
    bad(&format!(r#"{{"operation": "set", {key}}}"#), "", "{", "the operation `set` needs `value`");
    bad(&format!(r#"{{"operation": "append", {key}}}"#), "", "{", "needs `value` or `values`");
    bad(
        &format!(r#"{{"operation": "append", {key}, "value": 1, "values": []}}"#),
        "/values",
        r#""values""#,
        "exclude each other",
    );
    bad(
        &format!(r#"{{"operation": "set", {key}, "value": 1, "ttl": "1h"}}"#),
        "/ttl",
        r#""1h""#,
        "a duration such as PT1H; 0 means no expiry (got \"1h\")",
    );
    bad(
        &format!(r#"{{"operation": "increment", {key}, "by": 1.5}}"#),
        "/by",
        "1.5",
        "`by` must be an integer (got 1.5)",
    );
    bad(
        r#"{"operation": "get", "key": "limit"}"#,
        "/key",
        r#""limit""#,
        "the key `limit` is not valid expected an address `NAMESPACE/KEY`",
    );
    bad(
        r#"{"operation": "get", "key": "globe/limit"}"#,
        "/key",
        r#""globe/limit""#,
        "expected `global`, `run`",
    );
    bad(r#"{"operation": "get", "key": 5}"#, "/key", "5", "`key` must be a string, found a number");
    bad(
        r#"{"namespace": "run", "operations": []}"#,
        "/operations",
        "[]",
        "`operations` must have at least one operation",
    );
    bad(
        r#"{"namespace": "run", "operations": [{"operation": "get"}]}"#,
        "/operations/0",
        "{",
        "the operation needs `key`",
    );
    bad(r#"{"operations": [{"operation": "get", "key": "k"}]}"#, "", "{", "a transaction needs `namespace`");
    check(
        &format!(
            r#"{{"M": {{"type": "Memory", "inputs": {{"operation": "get", {key}}}, "circuitBreaker": {{}}}}}}"#
        ),
        "L0224",
        Error,
        "/actions/M/circuitBreaker",
        r#""circuitBreaker""#,
        "does not take `circuitBreaker`",
    );
}

#[test]
fn access_to_shared_memory_is_granted() {
    check(
        r#"{"M": {"type": "Memory", "inputs": {"operation": "increment", "key": "global/visits"}}}"#,
        "L0225",
        Error,
        "/actions/M/inputs/key",
        "global",
        r#"the workflow may not write `global` add it to the definition: "memory": {"write": ["global"]}"#,
    );
    check(
        r#"{"M": {"type": "Memory", "inputs": {"namespace": "chat:42", "operations": [{"operation": "get", "key": "k"}]}}}"#,
        "L0225",
        Error,
        "/actions/M/inputs/namespace",
        r#""chat:42""#,
        r#"may not read `chat:42` add it to the definition: "memory": {"read": ["chat:42"]}"#,
    );
    check(
        r#"{"C": {"type": "Compose", "inputs": "@memoryList('chat:42/log')"}}"#,
        "L0225",
        Error,
        "/actions/C/inputs",
        "'chat:42/log'",
        "may not read `chat:42`",
    );
    check(
        r#"{"C": {"type": "Compose", "inputs": "@memory('limit')"}}"#,
        "L0224",
        Error,
        "/actions/C/inputs",
        "'limit'",
        "the address `limit` is not valid",
    );
    // A trigger needs the right to read what it watches.
    let watches = |namespace: &str| {
        format!(
            r#"{{"memory": {{"read": ["chat:*"]}}, "triggers": {{"t": {{"type": "MemoryChanged", "inputs": {{"namespace": "{namespace}"}}}}}},
                "actions": {{"C": {{"type": "Compose", "inputs": 1}}}}}}"#
        )
    };
    let text = watches("agent:bob");
    let found = find(&text, "L0225");
    assert_eq!((found.severity, &text[found.span.clone()]), (Error, r#""agent:bob""#));
    for granted in ["chat:7", "global", "workflow"] {
        let text = watches(granted);
        assert!(Definition::parse(text.as_bytes(), &LoadOptions::default()).is_ok(), "{granted}");
    }
    let of = |grants: &str| {
        format!(r#"{{"memory": {grants}, "actions": {{"C": {{"type": "Compose", "inputs": 1}}}}}}"#)
    };
    for (grants, marked, says) in [
        (r#"{"raed": []}"#, r#""raed""#, "did you mean `read`?"),
        (r#"{"read": "global"}"#, r#""global""#, "must be an array of namespaces, found a string"),
        (r#"{"write": ["globe"]}"#, r#""globe""#, "a pattern of namespaces (got `globe`) expected `global`"),
        (r#"{"write": ["chat:*:a"]}"#, r#""chat:*:a""#, "`*` may only be the last character"),
    ] {
        let text = of(grants);
        let found = find(&text, "L0226");
        assert_eq!((found.severity, &text[found.span.clone()]), (Error, marked));
        let words = format!("{} {}", found.message, found.hint.unwrap_or_default());
        assert!(words.contains(says), "{words}");
    }
    // Granted: its own namespaces, reading `global`, and what the definition says.
    let granted = r#"{"triggers": {"manual": {"type": "Request"}}, "memory": {"read": ["workflow:*"], "write": ["chat:*"]}, "actions": {
        "A": {"type": "Memory", "inputs": {"operation": "set", "key": "run/k", "value": "@memory('global/k')"}, "runAfter": {}},
        "B": {"type": "Memory", "inputs": {"operation": "append", "key": "workflow/k", "value": "@memoryHash('workflow:bills/k', 'a')"}, "runAfter": {}},
        "C": {"type": "Memory", "inputs": {"namespace": "chat:42", "operations": [{"operation": "delete", "key": "k"}]}, "runAfter": {}},
        "D": {"type": "Memory", "inputs": {"operation": "get", "key": "@concat('agent:', 'bob/k')"}, "runAfter": {}}}}"#;
    let loaded = Definition::parse(granted.as_bytes(), &LoadOptions::default()).expect("it is granted");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert!(loaded.workflow.has_reads);
}

#[test]
fn triggers_name_literally_what_they_watch() {
    for (trigger, code, marked) in [
        (r#""inputs": {}"#, "L0606", "{"),
        (r#""inputs": {"namespace": "@parameters('n')"}"#, "L0606", r#""@parameters('n')""#),
        (r#""inputs": {"namespace": 5}"#, "L0606", "5"),
        (r#""inputs": {"namespace": "run"}"#, "L0606", r#""run""#),
        (r#""inputs": {"namespace": "chat"}"#, "L0606", r#""chat""#),
        (r#""inputs": {"namespace": "global", "prefix": 7}"#, "L0606", "7"),
        (r#""inputs": {"namespace": "global", "batchSize": 0}"#, "L0606", "0"),
        (r#""inputs": {"namespace": "global", "batchSize": 1001}"#, "L0606", "1001"),
        (r#""splitOn": "@triggerBody()", "inputs": {"namespace": "global"}"#, "L0603", r#""@triggerBody()""#),
    ] {
        let text =
            format!(r#"{{"triggers": {{"t": {{"type": "MemoryChanged", {trigger}}}}}, "actions": {{}}}}"#);
        let found = find(&text, code);
        assert_eq!((found.severity, &text[found.span.clone()]), (Error, marked), "{trigger}");
    }
}
