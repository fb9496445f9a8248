use super::*;

/// `workflowContext` in all tests.
const CONTEXT: &str = r#"{
    "workflow": {"name": "flow", "run": {"id": "08"}},
    "actions": {"Get_it": {"name": "Get_it", "outputs": {"body": [3, 1, 2]}, "status": "Succeeded"}, "Not yet": null}
}"#;

fn limits() -> ScriptLimits {
    ScriptLimits { memory_bytes: 32 << 20, ..ScriptLimits::default() }
}

fn executed(code: &str, limits: &ScriptLimits, now: Option<f64>) -> Ended {
    let script = Script { code: code.to_owned(), context: CONTEXT.to_owned(), now };
    run(&script, limits, &Stop::new())
}

/// `expected` is JSON; empty for no result at all.
#[track_caller]
fn check(code: &str, expected: &str) {
    let ended = executed(code, &limits(), None);
    assert_eq!(ended.exception, None, "{code}");
    assert_eq!(ended.returned.unwrap_or_default(), expected, "{code}");
}

#[track_caller]
fn check_fails(code: &str, expected: &'static str, part: &str, at: Option<(usize, usize)>) {
    let exception = executed(code, &limits(), None).exception.expect(code);
    assert_eq!((exception.code, exception.at), (expected, at), "{code}: {}", exception.message);
    assert!(exception.message.contains(part), "{code}: {}", exception.message);
}

#[test]
fn what_is_returned_is_json() {
    check("return 1 + 1", "2");
    check("return {a: [1.5, 'x', true, null], b: undefined, c() {}}", r#"{"a":[1.5,"x",true,null]}"#);
    check(
        "return [NaN, Infinity, -0, undefined, 2 ** 53, 1e21]",
        "[null,null,0,null,9007199254740992,1e+21]",
    );
    check("return new Date(0)", r#""1970-01-01T00:00:00.000Z""#);
    check("return 'grün \u{1f600}\\n'", "\"grün \u{1f600}\\n\"");
    check("return '\\ud800'", r#""\ud800""#);
    check("let x = 1", "");
    check("return", "");
    check("return null", "null");
    check("return () => 1", "");
    check("undeclared = 2; return undeclared // no line is lost", "2");
}

#[test]
fn the_context_ignores_case_and_its_values_are_copies() {
    check("return workflowContext.workflow.run.id", r#""08""#);
    check("return workflowContext.actions.get_IT.outputs.body.sort()", "[1,2,3]");
    check(
        "const {Get_it: it} = workflowContext.actions; it.outputs.body.push(4); return it.outputs.body.length",
        "4",
    );
    check(
        "return [typeof workflowContext.actions['not yet'], 'NOT YET' in workflowContext.actions]",
        r#"["undefined",true]"#,
    );
    check("return workflowContext.actions['Not yet']?.outputs", "");
    check("return Object.keys(workflowContext.actions)", r#"["Get_it","Not yet"]"#);
    check("return {...workflowContext}.workflow.name", r#""flow""#);
    check("return workflowContext.workflow", r#"{"name":"flow","run":{"id":"08"}}"#);
}

#[test]
fn errors_about_the_context_match_the_service() {
    check_fails(
        "return workflowContext.actions.Other",
        "InlineCodeOperationMissing",
        "'Other'",
        Some((1, 8)),
    );
    check_fails(
        "return workflowContext.trigger.name",
        "InlineCodeOperationMissing",
        "includeTrigger",
        Some((1, 8)),
    );
    check_fails("return workflowContext.variables", "InlineCodeInvalidProperty", "'variables'", Some((1, 8)));
    check_fails("workflowContext.trigger = 1", "InlineCodeCannotModifyWorkflowContext", "", Some((1, 1)));
    check_fails(
        "\ndelete workflowContext.actions.Get_it",
        "InlineCodeCannotModifyWorkflowContext",
        "",
        Some((2, 8)),
    );
}

#[test]
fn exceptions_have_a_message_and_a_position() {
    check_fails("throw new TypeError('boo')", RUNTIME, "TypeError: boo", Some((1, 11)));
    check_fails(
        "let o = {}\nreturn o.x.y",
        RUNTIME,
        "TypeError: cannot read property 'y' of undefined",
        Some((2, 8)),
    );
    check_fails(
        "const f = () => { throw Error('in') }\n\nreturn [1].map(f)",
        RUNTIME,
        "Error: in",
        Some((1, 25)),
    );
    check_fails("throw {reason: 7}", RUNTIME, r#"{"reason":7}"#, None);
    check_fails("throw 'plain'", RUNTIME, "plain", None);
    check_fails("throw null", RUNTIME, "Null was thrown", None);
    check_fails("const o = {}; o.o = o; return o", RUNTIME, "circular", None);
    check_fails("return 1n", RUNTIME, "BigInt", None);
    check_fails("throw {get message() { throw 1 }, name: 'x'}", RUNTIME, "cannot be shown", None);
    check_fails("return (1", PARSING, "SyntaxError", Some((2, 1)));
    check_fails("}) + (function () {", PARSING, "not the body of a function", None);
}

#[test]
fn missing_host_objects_are_explained() {
    check_fails(
        "const fs = require('fs')",
        RUNTIME,
        "require is not defined: scripts have no modules",
        Some((1, 12)),
    );
    check_fails("setTimeout(() => 1, 1)", RUNTIME, "scripts have no timers", Some((1, 1)));
    check_fails("return fetch('https://example.com')", RUNTIME, "scripts have no network", Some((1, 8)));
    check(
        "return [typeof require, typeof process, typeof setTimeout]",
        r#"["undefined","undefined","undefined"]"#,
    );
    check_fails("return import('fs')", RUNTIME, "could not load module 'fs'", None);
}

#[test]
fn promises_are_awaited_while_jobs_are_pending() {
    check("return (async () => { await null; return 7 })()", "7");
    check("return Promise.all([1, Promise.resolve(2)])", "[1,2]");
    check_fails("return Promise.reject(new RangeError('no'))", RUNTIME, "RangeError: no", Some((1, 27)));
    check_fails("return new Promise(() => {})", RUNTIME, "never settled", None);
}

#[test]
fn a_stopped_clock_does_not_advance() {
    let code =
        "return [Date.now(), new Date().toISOString(), new Date(5).getTime(), new Date() instanceof Date]";
    let ended = executed(code, &limits(), Some(1_000.0));
    assert_eq!(ended.returned.as_deref(), Some(r#"[1000,"1970-01-01T00:00:01.000Z",5,true]"#));
}

#[test]
fn console_lines_are_kept_up_to_a_limit() {
    let ended = executed("console.log('a', 1, {b: 2}, new Error('c')); throw 1", &limits(), None);
    assert_eq!(ended.lines, [r#"a 1 {"b":2} Error: c"#]);
    let ended = executed("for (;;) console.log('x'.repeat(5000))", &short(), None);
    assert_eq!(ended.lines.len(), 100);
    assert!(ended.lines.iter().all(|line| line.len() == 1_000));
}

fn short() -> ScriptLimits {
    ScriptLimits { time: Duration::from_millis(20), ..limits() }
}

#[test]
fn a_script_that_does_not_end_is_stopped() {
    for code in [
        "while (true) {}",
        "try { while (true) {} } catch { while (true) {} } finally { for (;;); }",
        "return /(a+)+$/.test('a'.repeat(40) + 'b')",
        "Array.prototype.indexOf.call({length: 2 ** 53 - 1}, 1)",
        "return (async () => { for (;;) await null })()",
        "return {toJSON() { for (;;); }}",
        "throw {get message() { for (;;); }, name: ''}",
    ] {
        let exception = executed(code, &short(), None).exception.expect(code);
        assert_eq!(exception.code, TIMEOUT, "{code}: {}", exception.message);
    }
}

#[test]
fn a_script_that_is_cancelled_is_stopped() {
    let stop = Stop::new();
    stop.cancel();
    let script = Script { code: "for (;;);".to_owned(), context: CONTEXT.to_owned(), now: None };
    assert!(run(&script, &limits(), &stop).exception.is_some());
}

#[test]
fn memory_and_stack_are_limited() {
    check_fails("const a = []; for (;;) a.push(a.slice())", RUNTIME, "33554432 bytes of memory", None);
    check_fails("let s = 'x'.repeat(1 << 20); for (;;) s += s", RUNTIME, "string too long", Some((1, 44)));
    check_fails("return new ArrayBuffer(2 ** 30)", RUNTIME, "bytes of memory", None);
    check_fails("(function f() { f() })()", RUNTIME, "call stack", Some((1, 17)));
    check_fails("return JSON.parse('['.repeat(1e6))", RUNTIME, "call stack", Some((1, 23)));
    check_fails("return eval('('.repeat(1e6))", RUNTIME, "call stack", Some((1, 17)));
    let exception =
        executed("const m = new Map(); for (let i = 0; ; i++) m.set(i, i)", &limits(), None).exception;
    assert_eq!(exception.map(|exception| exception.code), Some(RUNTIME));
    let few = ScriptLimits { data_bytes: 10, ..limits() };
    let exception = executed("return 'x'.repeat(9)", &few, None).exception.unwrap();
    assert!(exception.message.contains("more than 10 bytes"), "{}", exception.message);
}

#[test]
fn syntax_errors_are_found_without_executing_the_code() {
    let found = |code| check_javascript(code).map(|mistake| mistake.offset);
    assert_eq!(found("return 1"), None);
    assert_eq!(found("for (;;);"), None);
    assert_eq!(found("return 'ü' +;"), Some("return 'ü' +".len()));
    assert_eq!(found("return 1\nlet a = 1; let a = 2"), Some("return 1\nlet a = 1; let a ".len()));
    assert_eq!(found("return (1"), Some("return (1".len()));
    assert_eq!(found("await x"), Some("await ".len()));
    let mistake = check_javascript("return '").unwrap();
    assert!(mistake.message.starts_with("SyntaxError: "), "{}", mistake.message);
}
