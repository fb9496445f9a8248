//! Templates and conditions: which strings are evaluated, what is known without evaluation, and what errors say.

use loom_expression::{
    Code, Condition, Context, Lookup, LookupError, Name, NameKind, Names, NoNames, Options, RecordedContext,
    ReferenceKind, Template, Value,
};

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

fn context() -> RecordedContext {
    RecordedContext::from_json(&json(
        r#"{"variables": {"n": 3, "name": "Sophia"}, "actions": {"A": {"outputs": {"body": {"x": 1}}}}, "item": {"p": 2}}"#,
    ))
    .unwrap()
}

fn compile(value: &str) -> Template {
    Template::compile(&json(value), &NoNames, &Options::default()).unwrap()
}

#[test]
fn nested_strings_are_evaluated() {
    let template =
        compile(r#"{"@@a": "@variables('n')", "b": ["@{variables('name')}!", 1, {"c": "@@x"}], "d": true}"#);
    let value = template.evaluate(&context()).unwrap();
    assert_eq!(value.to_json_text(), r#"{"@a":3,"b":["Sophia!",1,{"c":"@x"}],"d":true}"#);
    assert!(template.as_constant().is_none());
}

#[test]
fn names_of_properties_are_evaluated() {
    for (text, expected) in [
        (
            r#"{"@@type": "MessageCard", "@{variables('name')}-@{1}": 1, "@variables('name')": "@item()['p']"}"#,
            r#"{"@type":"MessageCard","Sophia-1":1,"Sophia":2}"#,
        ),
        (r#"[{"a": {"@{variables('name')}": {"@@b": 1}}}]"#, r#"[{"a":{"Sophia":{"@b":1}}}]"#),
        (r#"{"x@odata.bind": 1, "@": 2, "a@@b": 3, "": 4}"#, r#"{"x@odata.bind":1,"@":2,"a@@b":3,"":4}"#),
        (r#"{"@{createArray(1)}": 1, "@@{x}": 2}"#, r#"{"[1]":1,"@{x}":2}"#),
    ] {
        assert_eq!(compile(text).evaluate(&context()).unwrap().to_json_text(), expected, "{text}");
    }
    // Names that are constant are computed at compile time.
    assert_eq!(
        compile(r#"{"@@a": 1, "@{add(1, 1)}": 2}"#).as_constant(),
        Some(&json(r#"{"@a": 1, "2": 2}"#))
    );
    let member =
        compile(r#"{"@{variables('name')}": "@variables('n')"}"#).evaluate_member("sophia", &context());
    assert_eq!(member.unwrap().unwrap(), Value::from(3));
}

#[test]
fn errors_in_property_names_have_positions() {
    let value = json(r#"{"a": {"@odata.type": 1}, "@{lenght('x')}": "@variables('n')"}"#);
    let errors = Template::compile(&value, &NoNames, &Options::default()).unwrap_err();
    let found: Vec<_> =
        errors.iter().map(|e| (e.code, e.pointer.as_str(), e.in_name, e.span.clone())).collect();
    assert_eq!(
        found,
        [
            (Code::Syntax, "/a/@odata.type", true, 1..6),
            (Code::UnknownFunction, "/@{lenght('x')}", true, 2..8)
        ]
    );
    let references = compile(r#"{"@{variables('name')}": "@item()"}"#).references();
    assert_eq!(references.iter().map(|found| found.in_name).collect::<Vec<_>>(), [true, false]);

    for (text, code) in [
        (r#"{"@variables('n')": 1}"#, Code::WrongType),
        (r#"{"@null": 1}"#, Code::WrongType),
        (r#"{"@{variables('missing')}": 1}"#, Code::UnknownName),
        (r#"{"Sophia": 1, "@{variables('name')}": 2}"#, Code::BadArgument),
        (r#"{"@@a": 1, "@{'@a'}": 2}"#, Code::BadArgument),
    ] {
        let error = compile(text).evaluate(&context()).unwrap_err();
        assert_eq!((error.code, error.in_name), (code, true), "{text}: {error}");
    }
}

#[test]
fn constants_are_computed_at_compile_time() {
    let value = json(r#"{"a": [1, "x"], "b": {"c": null}}"#);
    let template = Template::compile(&value, &NoNames, &Options::default()).unwrap();
    assert_eq!(template.as_constant(), Some(&value));
    assert_eq!(compile(r#""@add(1, mul(2, 3))""#).as_constant(), Some(&Value::from(7)));
    assert_eq!(compile(r#""a@{1}@@{b}""#).as_constant(), Some(&Value::from("a1@{b}")));
    // A call that fails does so at run time, and a call that reads the context is never computed early.
    assert!(compile(r#""@div(1, 0)""#).as_constant().is_none());
    assert!(compile(r#""@utcNow()""#).as_constant().is_none());
    assert_eq!(Template::constant(Value::from("@x")).evaluate(&context()).unwrap(), Value::from("@x"));
}

#[test]
fn all_errors_are_reported_at_once_with_positions() {
    let value = json(r#"{"a/b": ["@lenght('x')", "@add('"], "c": "text @{concat('a'"}"#);
    let errors = Template::compile(&value, &NoNames, &Options::default()).unwrap_err();
    let found: Vec<(Code, &str, &str)> = errors
        .iter()
        .map(|error| {
            let text =
                error.pointer.split('/').skip(1).fold(&value, |value, step| match step.parse::<usize>() {
                    Ok(at) => value.index(at).unwrap(),
                    Err(_) => value.get(&step.replace("~1", "/")).unwrap(),
                });
            (error.code, error.pointer.as_str(), &text.as_str().unwrap()[error.span.clone()])
        })
        .collect();
    assert_eq!(
        found,
        [
            (Code::UnknownFunction, "/a~1b/0", "lenght"),
            (Code::UnterminatedString, "/a~1b/1", "'"),
            (Code::UnterminatedSegment, "/c", "@{concat('a'"),
        ]
    );
    assert_eq!(errors[0].hint.as_deref(), Some("did you mean 'length'?"));
}

#[test]
fn a_wrong_number_of_arguments_fails_at_run_time() {
    let template = compile(r#"["@length(coalesce(variables('name'), createArray()))"]"#);
    assert_eq!(template.evaluate(&context()).unwrap().to_json_text(), "[6]");
    let [warning] = template.warnings() else { panic!("{:?}", template.warnings()) };
    assert_eq!(
        (warning.code, warning.pointer.as_str(), warning.span.clone()),
        (Code::ArgumentCount, "/0", 36..49)
    );
    assert!(warning.hint.as_deref().is_some_and(|hint| hint.contains("createArray(")), "{warning:?}");

    let error = compile(r#""@length(coalesce(null, createArray()))""#).evaluate(&context()).unwrap_err();
    assert_eq!((error.code, error.span.clone()), (Code::ArgumentCount, Some(23..36)));
    assert!(error.message.contains("'createArray' expects at least 1 argument"), "{error}");
    // Other errors next to it are reported at compile time.
    let wrong = Template::compile(&json(r#""@add(lenght(1))""#), &NoNames, &Options::default());
    assert_eq!(wrong.unwrap_err().len(), 1);
}

#[test]
fn failures_have_a_position_and_a_reason() {
    let error = compile(r#"{"a": ["x", "n: @{body('A')['y']}"]}"#).evaluate(&context()).unwrap_err();
    assert_eq!(error.code, Code::NoProperty);
    assert_eq!(error.pointer.as_deref(), Some("/a/1"));
    assert_eq!(error.span, Some(5..19));
    assert_eq!(
        error.message,
        "The template language expression 'body('A')['y']' cannot be evaluated because property 'y' doesn't \
         exist, available properties are 'x'."
    );
    let error = compile(r#""@variables('nam')""#).evaluate(&context()).unwrap_err();
    assert_eq!(error.code, Code::UnknownName);
    assert!(error.message.contains("did you mean 'name'?"), "{error}");
    let error = compile(r#""@add(variables('name'), 1)""#).evaluate(&context()).unwrap_err();
    assert!(error.message.contains("'add'") && error.message.contains("'String'"), "{error}");
}

#[test]
fn references_are_known_without_evaluation() {
    let template = compile(
        r#"{"a": "@concat(outputs('A'), body('B')['x'], variables(item()['v']))", "b": "@{secret('k')}"}"#,
    );
    let found: Vec<_> = template
        .references()
        .into_iter()
        .map(|reference| {
            (
                reference.kind,
                reference.name.map(|name| name.to_string()),
                reference.computed,
                reference.pointer,
            )
        })
        .collect();
    let a = || "/a".to_owned();
    assert_eq!(
        found,
        [
            (ReferenceKind::ActionOutputs, Some("A".to_owned()), false, a()),
            (ReferenceKind::ActionBody, Some("B".to_owned()), false, a()),
            (ReferenceKind::Item, None, false, a()),
            (ReferenceKind::Variable, None, true, a()),
            (ReferenceKind::Secret, Some("k".to_owned()), false, "/b".to_owned()),
        ]
    );
    assert!(template.calls("OUTPUTS") && template.calls("actionOutputs") && !template.calls("guid"));
}

#[test]
fn names_are_resolved_at_compile_time() {
    struct Slots;
    impl Names for Slots {
        fn slot(&self, kind: NameKind, name: &str) -> Option<u32> {
            (kind == NameKind::Variable && name == "n").then_some(5)
        }
    }
    impl Context for Slots {
        fn variable(&self, name: Name<'_>) -> Lookup {
            name.slot.map(Value::from).ok_or(LookupError::NotRun)
        }
    }
    let template = Template::compile_str("@variables('n')", &Slots, &Options::default()).unwrap();
    assert_eq!(template.evaluate(&Slots).unwrap(), Value::from(5));
    let computed =
        Template::compile_str("@variables(string(coalesce(null, 'n')))", &Slots, &Options::default());
    assert!(computed.unwrap().evaluate(&Slots).is_ok());
}

#[test]
fn the_loom_spelling_allows_an_inner_at() {
    let text = "@and(@equals(@variables('n'), 3), true)";
    assert!(Template::compile_str(text, &NoNames, &Options::default()).is_err());
    let options = Options { loom_spelling: true, ..Options::default() };
    let template = Template::compile_str(text, &NoNames, &options).unwrap();
    assert_eq!(template.evaluate(&context()).unwrap(), Value::from(true));
    assert!(Template::compile_str("@concat(@'a')", &NoNames, &options).is_err());
}

#[test]
fn the_loom_spelling_allows_output_for_outputs() {
    let record = json(r#"{"actions": {"A": {"name": "A", "outputs": {"output": 7}}}}"#);
    let context = RecordedContext::from_json(&record).unwrap();
    for (loom_spelling, expected) in [(true, Some(Value::from(7))), (false, None)] {
        let options = Options { loom_spelling, ..Options::default() };
        let template = Template::compile_str("@actions('A').output.output", &NoNames, &options).unwrap();
        assert_eq!(template.evaluate(&context).ok(), expected);
    }
}

fn decide(condition: &str) -> Result<bool, Code> {
    let options = Options { loom_spelling: true, ..Options::default() };
    let condition =
        Condition::compile(&json(condition), &NoNames, &options).map_err(|errors| errors[0].code)?;
    condition.evaluate(&context()).map_err(|error| error.code)
}

#[test]
fn conditions_evaluate_to_booleans() {
    for (condition, expected) in [
        (r#""@equals(variables('n'), 3)""#, Ok(true)),
        (r#""True""#, Ok(true)),
        ("false", Ok(false)),
        (r#"{"EQUALS": ["@variables('n')", 3]}"#, Ok(true)),
        (r#"{"and": [{"greater": ["@variables('n')", 2]}, {"not": {"equals": [1, 2]}}, "@true"]}"#, Ok(true)),
        (r#"{"or": [{"equals": [1, 1]}, {"equals": ["@variables('missing')", 1]}]}"#, Ok(true)),
        (r#"{"contains": [["a", "b"], "b"]}"#, Ok(true)),
        (r#"{"or": [{"equals": [1, 2]}, "@variables('missing')"]}"#, Err(Code::UnknownName)),
        (r#""@variables('n')""#, Err(Code::NotBoolean)),
        (r#"{"add": [1, 2]}"#, Err(Code::NotBoolean)),
        (r#""text""#, Err(Code::NotBoolean)),
        (r#"{"empty": [""]}"#, Ok(true)),
        (r#"{"equals": [{"lENgth": ["a"]}, 1]}"#, Ok(true)),
        (r#"{"greater": [{"add": [{"variables": ["n"]}, 1]}, "@variables('n')"]}"#, Ok(true)),
        (r#"{"equals": [{"coalesce": [null, "x"]}, "x"]}"#, Ok(true)),
        (r#"{"equals": [{"first": 1}, {"first": 1}]}"#, Ok(true)),
        (r#"{"equals": [{"length": [1]}, 1]}"#, Err(Code::WrongType)),
        (r#"{"and": []}"#, Err(Code::BadCondition)),
        (r#"{"equals": [1]}"#, Err(Code::BadCondition)),
        (r#"{"equls": [1, 2]}"#, Err(Code::BadCondition)),
        (r#"{"equals": [1, 1], "not": true}"#, Err(Code::BadCondition)),
        ("[]", Err(Code::BadCondition)),
        (r#"{"equals": ["@nope()", 1]}"#, Err(Code::UnknownFunction)),
    ] {
        assert_eq!(decide(condition), expected, "{condition}");
    }
}

#[test]
fn errors_in_conditions_have_positions() {
    let condition = json(r#"{"and": ["@true", {"equals": ["@variables('missing')", 1]}]}"#);
    let condition = Condition::compile(&condition, &NoNames, &Options::default()).unwrap();
    assert_eq!(condition.references()[0].pointer, "/and/1/equals/0");
    assert_eq!(condition.evaluate(&context()).unwrap_err().pointer.as_deref(), Some("/and/1/equals/0"));
}
