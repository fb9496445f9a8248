use proptest::prelude::*;

use super::*;

/// `expected` is a space-separated list of names; `trigger` stands for the trigger.
#[track_caller]
fn check(code: &str, expected: &str) {
    let found = references(code);
    let names = found.actions.iter().map(String::as_str).chain(found.trigger.then_some("trigger"));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let mut expected: Vec<&str> = expected.split(' ').filter(|name| !name.is_empty()).collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "{code}");
}

#[test]
fn properties_by_dot_and_by_bracket() {
    check("return workflowContext.actions.Get.outputs.body", "Get");
    assert_eq!(references("workflowContext.actions['Get it'].outputs").actions, ["Get it"]);
    check(r#"workflowContext["actions"]["A"]; workflowContext . actions /* no. */ . B"#, "A B");
    check("workflowContext.actions.A.outputs + workflowContext.actions.A.inputs", "A");
    check("workflowContext?.actions?.A; workflowContext.actions?.['B']", "A B");
    check("workflowContext.actions[`C`]", "C");
    check("workflowContext.trigger.outputs", "trigger");
    check("workflowContext['trigger']", "trigger");
    check("workflowContext.workflow.name", "");
    check("workflowContext.actions[name]; workflowContext.actions['a' + b]", "");
}

#[test]
fn aliases_of_the_context() {
    check("const c = workflowContext; return c.actions.A.outputs + c.trigger.name", "A trigger");
    check("var a = workflowContext.actions;\nreturn a.B.outputs || a['C']", "B C");
    check("const c = workflowContext\nlet a = c.actions\nreturn a.D", "D");
    check("const body = workflowContext.actions.A.outputs.body; return body.B", "A");
    check("function f() { return a.E } let a = workflowContext.actions; return f()", "E");
}

#[test]
fn properties_of_other_values_are_ignored() {
    check("x.workflowContext.actions.A; const a = y.actions; a.B", "");
    check("x.trigger; trigger.outputs", "");
}

#[test]
fn comments_strings_and_regular_expressions_are_not_code() {
    check("// workflowContext.actions.A\nreturn workflowContext.actions.B", "B");
    check("/* workflowContext.actions.A */ workflowContext.trigger", "trigger");
    check("'workflowContext.actions.A' + \"workflowContext.actions.B\"", "");
    check("'it\\'s workflowContext.actions.A'; workflowContext.actions.B", "B");
    check("return /workflowContext.actions.A['\"`]/g.test(workflowContext.actions.B)", "B");
    check("x / workflowContext.actions.A / y", "A");
    check("return x\n/ workflowContext.actions.A.outputs", "A");
    check(
        "`workflowContext.actions.A ${workflowContext.actions.B + `${{c: workflowContext.actions.C}}`} workflowContext.actions.D`; workflowContext.actions.E",
        "B C E",
    );
}

#[test]
fn escapes_in_strings() {
    check(r"workflowContext.actions['\u0041\x42\u{43}\'']", "ABC'");
}

proptest! {
    #[test]
    fn any_text_can_be_tokenized(code in ".*", tail in "[`'\"/\\\\${}\\[\\]().= \na]{0,40}") {
        references(&format!("{code}{tail}"));
    }

    #[test]
    fn the_context_of_a_reference_does_not_hide_it(
        before in prop::sample::select(vec!["", "'a'; ", "/* ' */ ", "// `\n", "`${1}`; ", "x = /[/'\"]/; ", "({}); "]),
        after in prop::sample::select(vec!["", ";", " + 'b'", " // c", ".outputs['d']"]),
        name in "[A-Za-z_][A-Za-z0-9_]{0,9}",
    ) {
        let found = references(&format!("{before}workflowContext.actions.{name}{after}"));
        prop_assert_eq!(found.actions, vec![name]);
    }
}
