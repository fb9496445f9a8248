//! Parsing, evaluating, comparing, writing and dropping values never recurses without a bound. The tests run on a thread
//! with half the stack of a runtime's thread.

use loom_expression::{
    Array, Code, Condition, JSON_DEPTH_MAX, NoNames, Object, Options, RecordedContext, Template, Value,
};

fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap();
    thread.join().unwrap();
}

fn evaluated(text: &str, x: impl Into<Value>) -> Result<Value, Code> {
    let parameters: Object = [("x", x.into())].into_iter().collect();
    let context: Object = [("parameters", parameters)].into_iter().collect();
    let context = RecordedContext::from_json(&context.into()).unwrap();
    let template = Template::compile_str(text, &NoNames, &Options::default()).unwrap();
    template.evaluate(&context).map_err(|error| error.code)
}

/// A value inside `levels` arrays and objects.
fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::from(1), |inner, level| {
        if level % 2 == 0 {
            Value::from(vec![inner, Value::NULL])
        } else {
            [("inner", inner), ("more", Value::from(level as i64))].into_iter().collect::<Object>().into()
        }
    })
}

#[test]
fn xml_with_hidden_depth_is_rejected() {
    on_small_stack(|| {
        let hidden = |open: &str, close: &str| {
            let piece = format!("{}{open}>{}{close}", "<a>".repeat(200), "</a>".repeat(200));
            format!("{}{}", piece.repeat(50), "</a>".repeat(10_000))
        };
        let entity = "<a>".repeat(200) + "&f;" + &"</a>".repeat(200);
        let entities = format!(
            "<!DOCTYPE a [<!ENTITY e \"{entity}\"><!ENTITY f \"{}\">]><a>{}&e;{}</a>",
            "<a>".repeat(200) + &"</a>".repeat(200),
            "<a>".repeat(200),
            "</a>".repeat(200),
        );
        for text in [
            hidden("<?p ", "?>"),
            hidden("<!-- ", "-->"),
            hidden("<![CDATA[ ", "]]>"),
            hidden("<a b='", "'/>"),
            entities,
        ] {
            for expression in ["@json(xml(parameters('x')))", "@xpath(parameters('x'), 'string(/)')"] {
                assert_eq!(evaluated(expression, text.as_str()), Err(Code::Conversion));
            }
        }
    });
}

#[test]
fn xml_of_the_maximum_depth_is_converted_and_searched() {
    on_small_stack(|| {
        let text = format!("{}x{}", "<a>".repeat(250), "</a>".repeat(250));
        let object = evaluated("@json(xml(parameters('x')))", text.as_str()).unwrap();
        assert_eq!(object.depth(), 250);
        let back = evaluated("@xpath(xml(parameters('x')), 'count(//a)')", object);
        assert_eq!(back, Ok(Value::from(250)));
    });
}

#[test]
fn chains_of_xpath_operators_may_have_any_length() {
    on_small_stack(|| {
        let count = 1_900;
        for (first, link, expected) in [
            ("1", "+1", Value::from(count + 1)),
            ("0", " or 0", Value::from(false)),
            ("1", " and 1", Value::from(true)),
            ("1", "=1", Value::from(true)),
            ("count(/r/a", "|/r", Value::from(2)),
        ] {
            let end = if first.starts_with("count") { ")" } else { "" };
            let path = format!("{first}{}{end}", link.repeat(count as usize)).replace('\'', "''");
            let value = evaluated("@xpath('<r><a/></r>', parameters('x'))", path.as_str());
            assert_eq!(value, Ok(expected), "{link}");
        }
        // 5,000 links are longer than an expression may be, but a path can come from a variable.
        let path = format!("1{}", "+1".repeat(100_000));
        assert_eq!(evaluated("@xpath('<r/>', parameters('x'))", path.as_str()), Ok(Value::from(100_001)));
        // Operators of a chain are left-associative and respect precedence.
        for (path, expected) in [("2+3*4-5*2-1", 3), ("10-4-3", 3), ("2*3+4*5", 26), ("12 div 3 div 2", 2)] {
            assert_eq!(
                evaluated("@xpath('<r/>', parameters('x'))", path),
                Ok(Value::from(expected)),
                "{path}"
            );
        }
        for deep in [
            format!("{}1", "-".repeat(100_000)),
            format!("{}1{}", "(".repeat(50_000), ")".repeat(50_000)),
            format!("/a{}{}", "[a".repeat(50_000), "]".repeat(50_000)),
        ] {
            let value = evaluated("@xpath('<r/>', parameters('x'))", deep.as_str());
            assert_eq!(value, Err(Code::BadArgument));
        }
    });
}

#[test]
fn expressions_and_json_of_the_maximum_depth_work() {
    on_small_stack(|| {
        let nested = format!("@{}true{}", "not(".repeat(198), ")".repeat(198));
        assert_eq!(evaluated(&nested, 1), Ok(Value::from(true)));
        let nested = format!("@{}parameters('x'){}", "if(true,".repeat(190), ",0)".repeat(190));
        assert_eq!(evaluated(&nested, 7), Ok(Value::from(7)));
        let text = format!("{}1{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        let value = Value::from_json_str(&text).unwrap();
        let again = Value::from_json_str(&value.to_json_text()).unwrap();
        assert!(value == again && value.wdl_equals(&again));
        assert!(value.to_json_text_pretty().len() > text.len());
        assert_eq!(serde_json::Value::from(&value).to_string(), text);
    });
}

#[test]
fn templates_and_conditions_of_the_maximum_depth_work() {
    on_small_stack(|| {
        let context = RecordedContext::default();
        let around =
            |levels: usize| (0..levels).fold(Value::from("@add(1, 1)"), |inner, _| Value::from(vec![inner]));
        let template = Template::compile(&around(250), &NoNames, &Options::default()).unwrap();
        assert_eq!(template.evaluate(&context).unwrap().depth(), 250);
        assert_eq!(
            Template::compile(&around(100_000), &NoNames, &Options::default()).unwrap_err()[0].code,
            Code::TooDeep
        );
        let not = |levels: usize| {
            (0..levels).fold(Value::from("@equals(1, 1)"), |inner, _| {
                [("not", inner)].into_iter().collect::<Object>().into()
            })
        };
        let condition = Condition::compile(&not(250), &NoNames, &Options::default()).unwrap();
        assert_eq!(condition.evaluate(&context), Ok(true));
        let and = (0..125).fold(Value::from("@equals(1, 1)"), |inner, _| {
            [("and", vec![inner])].into_iter().collect::<Object>().into()
        });
        assert_eq!(
            Condition::compile(&and, &NoNames, &Options::default()).unwrap().evaluate(&context),
            Ok(true)
        );
        let operands = (0..125)
            .fold(Value::from(format!("@{}'x'{}", "toLower(".repeat(150), ")".repeat(150))), |inner, _| {
                [("toLower", vec![inner])].into_iter().collect::<Object>().into()
            });
        let equals: Object = [("equals", vec![operands, Value::from("x")])].into_iter().collect();
        let condition = Condition::compile(&equals.into(), &NoNames, &Options::default()).unwrap();
        assert_eq!(condition.evaluate(&context), Ok(true));
        assert_eq!(
            Condition::compile(&not(100_000), &NoNames, &Options::default()).unwrap_err()[0].code,
            Code::TooDeep
        );
    });
}

#[test]
fn values_of_any_depth_are_compared_written_and_dropped() {
    on_small_stack(|| {
        let levels = 100_000;
        let (value, same) = (nested(levels), nested(levels));
        assert_eq!(value.depth(), levels);
        assert!(value == same && value.wdl_equals(&same));
        let other = Value::from(vec![nested(levels - 1), Value::from(2)]);
        assert!(value != other && !value.wdl_equals(&other));
        let text = value.to_json_text();
        assert!(
            text.starts_with("{\"inner\":[{\"inner\":[{") && text.ends_with(",\"more\":99999}"),
            "{}",
            &text[..60]
        );
        assert_eq!(text.matches("\"inner\":").count(), levels / 2);
        assert_eq!(value.to_json_text_pretty(), text);
        assert!(format!("{value:?}").contains("100000 levels"));
        assert!(serde_json::to_string(&value).is_err());
        assert_eq!(serde_json::Value::from(&value).as_str(), Some(text.as_str()));
        assert!(Value::from_json_str(&text).is_err(), "JSON text of this depth must be rejected");
        let secret = value.clone().into_secret();
        assert!(secret.is_secret() && secret.as_str() == Some(text.as_str()));
        let array = Array::from(vec![value.clone(), same.clone()]);
        assert!(array == Array::from(vec![same, value]));
    });
}

#[test]
fn values_with_shared_parts_are_limited_by_their_full_size() {
    on_small_stack(|| {
        // 2^200 ones in 200 arrays of two items each.
        let many = || (0..200).fold(Value::from(1), |inner, _| Value::from(vec![inner.clone(), inner]));
        assert_eq!(many().bytes(), u64::MAX);
        for expression in
            ["@string(parameters('x'))", "@concat(parameters('x'))", "@equals(parameters('x'), null)"]
        {
            assert_eq!(evaluated(expression, many()), Err(Code::StepsExceeded), "{expression}");
        }
        assert_eq!(evaluated("@parameters('x')", many()), Err(Code::LimitExceeded));
        let doubled =
            (0..6).fold("parameters('x')".to_owned(), |inner, _| format!("createArray({inner},{inner})"));
        let megabytes = "x".repeat(8 << 20);
        assert_eq!(evaluated(&format!("@{doubled}"), megabytes.as_str()), Err(Code::LimitExceeded));
    });
}
