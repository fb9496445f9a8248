//! The cost of evaluations is bounded, and errors name the limit.

use loom_expression::{
    Budget, Code, Condition, Context, JSON_VALUES_MAX, Lookup, NoNames, Object, Options, RecordedContext,
    Template, Value,
};

struct Lent<'a> {
    budget: &'a Budget,
    item: Value,
}

impl Context for Lent<'_> {
    fn budget(&self) -> Option<&Budget> {
        Some(self.budget)
    }

    fn item(&self) -> Lookup {
        Ok(self.item.clone())
    }
}

#[test]
fn evaluations_for_all_items_share_one_budget() {
    let filter = Value::from("@contains(range(1, 100000), -1)");
    let filter = Condition::compile(&filter, &NoNames, &Options::default()).unwrap();
    let budget = Budget::new(1_000_000, JSON_VALUES_MAX);
    let mut evaluated = 0;
    let error = loop {
        match filter.evaluate(&Lent { budget: &budget, item: Value::from(evaluated) }) {
            Ok(found) => assert!(!found),
            Err(error) => break error,
        }
        evaluated += 1;
        assert!(evaluated < 100, "the budget does not stop it");
    };
    assert!(evaluated > 3, "the budget should allow more than {evaluated}");
    assert_eq!(error.code, Code::StepsExceeded);
    assert!(error.message.contains("1000000 steps"), "{error}");
    assert!(error.message.contains("evaluation-steps-max"), "{error}");
    assert_eq!(budget.left(), 0);
    let small = Template::compile_str("@add(item(), 1)", &NoNames, &Options::default()).unwrap();
    let error = small.evaluate(&Lent { budget: &budget, item: Value::from(1) }).unwrap_err();
    assert_eq!(error.code, Code::StepsExceeded, "spent steps do not come back");
}

#[test]
fn a_single_evaluation_has_its_own_budget() {
    let mut options = Options::default();
    options.limits.evaluation_steps_max = 40_000;
    let text = "@contains(range(1, 100000), -1)";
    let template = Template::compile_str(text, &NoNames, &options).unwrap();
    let error = template.evaluate(&RecordedContext::default()).unwrap_err();
    assert_eq!((error.code, error.span), (Code::StepsExceeded, Some(10..26)));
    let template = Template::compile_str(text, &NoNames, &Options::default()).unwrap();
    assert_eq!(template.evaluate(&RecordedContext::default()), Ok(Value::from(false)));
}

#[test]
fn strings_and_values_cost_steps_by_size() {
    let text = "x".repeat(64_000);
    let items: Value = (0..1_000).map(Value::from).collect();
    for (expression, least, most) in [
        ("@add(item(), 1)", 2, 2),
        ("@first(item())", 2, 2),
        ("@length(item())", 2, 2_002),
        ("@concat(item())", 2_000, 2_010),
        ("@{item()}@{item()}", 4_000, 4_010),
        ("@base64(item())", 2_000, 6_000),
        ("@reverse(item())", 500, 510),
        ("@sort(item())", 9_000, 12_000),
        ("@contains(item(), -1)", 300, 500),
    ] {
        let template = Template::compile_str(expression, &NoNames, &Options::default()).unwrap();
        let item = match expression {
            "@add(item(), 1)" => Value::from(1),
            "@reverse(item())" | "@sort(item())" | "@contains(item(), -1)" | "@first(item())" => {
                items.clone()
            }
            _ => Value::from(text.as_str()),
        };
        let budget = Budget::new(1_000_000, JSON_VALUES_MAX);
        template.evaluate(&Lent { budget: &budget, item }).unwrap();
        let spent = 1_000_000 - budget.left();
        assert!((least..=most).contains(&spent), "{expression}: {spent}");
    }
}

#[test]
fn xpath_spends_the_same_budget() {
    let text = format!("<r>{}</r>", "<i>1</i>".repeat(1_000));
    let template =
        Template::compile_str("@xpath(item(), 'count(//i)')", &NoNames, &Options::default()).unwrap();
    let budget = Budget::new(12_000, JSON_VALUES_MAX);
    let context = Lent { budget: &budget, item: Value::from(text) };
    let codes: Vec<Option<Code>> =
        (0..3).map(|_| template.evaluate(&context).err().map(|error| error.code)).collect();
    assert_eq!(codes[0], None);
    assert!(matches!(codes[2], Some(Code::LimitExceeded | Code::StepsExceeded)), "{codes:?}");
}

#[test]
fn a_short_text_cannot_become_many_values() {
    let mut text = "[{}".to_owned() + &",{}".repeat(JSON_VALUES_MAX - 2) + "]";
    let value = Value::from_json_str(&text).unwrap();
    assert_eq!(value.as_array().map(|items| items.len()), Some(JSON_VALUES_MAX - 1));
    text.insert_str(1, "{},");
    let error = Value::from_json_str(&text).unwrap_err();
    assert!(
        error.is_too_large && error.message.contains("2000000") && error.message.contains("json-values-max"),
        "{error}"
    );
    assert!(!Value::from_json_str("[").unwrap_err().is_too_large);
    let budget = Budget::new(1_000_000, 10);
    let template = Template::compile_str("@json(item())", &NoNames, &Options::default()).unwrap();
    for (text, fits) in
        [("[1,2,3,4,5,6,7,8,9]", true), ("[1,2,3,4,5,6,7,8,9,0]", false), ("{\"a\":[{},{}]}", true)]
    {
        let value = template.evaluate(&Lent { budget: &budget, item: Value::from(text) });
        assert_eq!(value.is_ok(), fits, "{text}");
    }
}

#[test]
fn the_size_of_a_value_stays_correct_after_changes() {
    let measured = |value: &Value| Value::from_json_str(&value.to_json_text()).unwrap().bytes();
    let mut object = Object::new();
    for (name, value) in [
        ("a", Value::from("text")),
        ("b", Value::from(1)),
        ("c", Value::NULL),
        ("a", Value::from(vec![Value::from("longer text")])),
    ] {
        object.insert(name, value);
        assert_eq!(Value::from(object.clone()).bytes(), measured(&Value::from(object.clone())));
    }
    object.remove("a");
    assert_eq!(Value::from(object.clone()).bytes(), measured(&Value::from(object.clone())));
    let mut items = loom_expression::Array::new();
    for item in [Value::from(object), Value::from("x"), Value::from(Vec::new())] {
        items.push(item);
        assert_eq!(Value::from(items.clone()).bytes(), measured(&Value::from(items.clone())));
    }
}
