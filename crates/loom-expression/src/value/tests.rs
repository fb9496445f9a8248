use super::*;

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

#[test]
fn a_value_is_three_words() {
    assert!(size_of::<Value>() <= 24);
    assert!(size_of::<Option<Value>>() <= 24);
}

#[test]
fn objects_of_any_size_keep_order_and_names() {
    let names: Vec<String> = (0..20).map(|at| format!("Name{at}")).collect();
    for count in 0..=names.len() {
        let mut object: Object =
            names.iter().take(count).map(|name| (name.as_str(), name.as_str())).collect();
        assert_eq!(object.len(), count);
        assert!(object.keys().map(|key| &**key).eq(names.iter().take(count)));
        for name in &names[..count] {
            assert_eq!(object.get(name).and_then(Value::as_str), Some(name.as_str()));
            assert_eq!(object.get(&name.to_lowercase()), None);
            assert_eq!(
                object.get_ignore_case(&name.to_lowercase()).and_then(Value::as_str),
                Some(name.as_str())
            );
            // Replaces the value in its position.
            assert!(object.insert(name.as_str(), 1).is_some());
        }
        assert_eq!((object.len(), object.get("none")), (count, None));
        for name in &names[..count] {
            assert_eq!(object.remove(name), Some(Value::from(1)));
            assert_eq!((object.len(), object.get(name)), (count - 1, None));
            object.insert(name.as_str(), 1);
            assert_eq!(object.keys().last().map(|key| &**key), Some(name.as_str()));
        }
        assert_eq!(object.len(), count);
    }
}

#[test]
fn collected_objects_equal_those_built_by_inserting() {
    let secret = || Value::from("s").into_secret();
    let deep = || Value::from(vec![Value::from(vec![Value::NULL])]);
    for (first, second) in [("a", "b"), ("a", "a")] {
        for (one, two) in [(secret(), deep()), (deep(), secret()), (Value::from(1), Value::from(2))] {
            let inserted: Object = [(first, one.clone()), (second, two.clone())].into_iter().collect();
            let pair = Object::pair((Arc::from(first), one.clone()), (Arc::from(second), two));
            let reported = |object: &Object| (object.len(), object.depth(), object.contains_secret());
            assert_eq!((reported(&pair), &pair), (reported(&inserted), &inserted));
            let single = Object::single(Arc::from(first), one.clone());
            let inserted: Object = [(first, one)].into_iter().collect();
            assert_eq!((reported(&single), single), (reported(&inserted), inserted));
        }
    }
}

#[test]
fn json_round_trips_exactly() {
    for text in [
        "null",
        "[1,-2,9223372036854775807,-9223372036854775808]",
        "{\"b\":1,\"a\":{\"z\":[],\"y\":{}}}",
        "[1.0,1.5,1E+21,1E-07]",
        "12345678901234567890",
        "\"a\\\"b\\\\c\\n\\u0001é😀\"",
    ] {
        assert_eq!(json(text).to_json_text(), text);
    }
}

#[test]
fn containers_know_the_labels_inside_them() {
    let mut object = Object::new();
    object.insert("open", 1);
    object.insert("key", Value::from("s").into_secret());
    assert!(object.contains_secret());
    let shared = object.clone();
    object.insert("key", "hidden");
    assert!(!object.contains_secret() && shared.contains_secret());
    assert_eq!(object.remove("open"), Some(Value::from(1)));
    assert_eq!(Value::from(object).to_json_text(), r#"{"key":"hidden"}"#);
    let mut array = Array::from(vec![Value::from(1)]);
    array.push(Value::from(2).into_secret());
    assert!(array.contains_secret());
    assert_eq!(format!("{:?}", Value::from(array)), "[1, <secret>]");
}

#[test]
fn labels_are_deep_for_every_way_of_reading() {
    let labelled = json(r#"{"list":[{"a":"x"},[],null],"n":1}"#).into_secret();
    let list = labelled.get("list").unwrap();
    assert!(labelled.as_object().unwrap().values().all(Value::is_secret));
    assert!(list.as_array().unwrap().iter().all(Value::is_secret));
    assert!(list.index(0).and_then(|item| item.get("a")).unwrap().is_secret());
    // An empty container has no items that could hold the labels.
    let mut empty = list.index(1).unwrap().clone().into_array().unwrap();
    assert!(empty.labels().contains(Labels::SECRET) && empty.contains_secret());
    empty.push(Value::from("y"));
    assert!(empty[0].is_secret() && Value::from(empty).is_secret());
    let mut object = labelled.clone().into_object().unwrap();
    object.insert("new", "z");
    object.extend([("more", "w")]);
    assert!(["new", "more"].iter().all(|name| object.get(name).unwrap().is_secret()));
    assert_eq!(format!("{:?}{object:?}", list.as_array().unwrap()), "<secret><secret>");
    assert!(object.remove("n").unwrap().is_secret() && Value::from(object).is_secret());
    assert!(list.clone().into_array().unwrap().into_vec().iter().all(Value::is_secret));
}

#[test]
fn labelling_a_shared_value_does_not_change_its_clones() {
    let open = json(r#"{"list":[{"a":"x"}]}"#);
    let labelled = open.clone().into_secret();
    assert!(labelled.contains_secret() && !open.contains_secret());
    // A part that has the labels already is not copied.
    let around = Value::from(vec![labelled.clone()]).into_secret();
    assert_eq!(around.index(0).and_then(Value::address), labelled.address());
    let inner = Value::from(vec![json("1").into_secret(), json("2")]);
    assert!(inner.contains_secret() && !inner.is_secret() && !inner.index(1).unwrap().is_secret());
}

#[test]
fn large_objects_find_names_in_any_case() {
    let mut object: Object = (0..100).map(|n| (format!("Name{n}"), Value::from(n))).collect();
    assert_eq!(object.get("name7"), None);
    assert_eq!(object.get_ignore_case("NAME7"), Some(&Value::from(7)));
    object.insert("name7", "exact");
    assert_eq!(object.get_ignore_case("name7"), Some(&Value::from("exact")));
    assert_eq!(object.get_ignore_case("NAME7"), Some(&Value::from(7)));
    object.remove("Name7");
    assert_eq!(object.get_ignore_case("NAME7"), Some(&Value::from("exact")));
    assert_eq!(object.len(), 100);
}

#[test]
fn numbers_compare_by_value() {
    let equal = |left: &str, right: &str| json(left).wdl_equals(&json(right));
    assert!(equal("1", "1.0"));
    assert!(equal("[{\"a\":1,\"b\":[2.0]}]", "[{\"b\":[2],\"a\":1.0}]"));
    assert!(!equal("9007199254740993", "9007199254740992.0"));
    assert!(!equal("1", "\"1\""));
    assert!(equal("12345678901234567890", "12345678901234567890"));
}

#[test]
fn errors_have_a_line_and_column() {
    let error = Value::from_json_str("{\n  \"é\": tru\n}").unwrap_err();
    assert_eq!((error.line, error.column, error.offset), (2, 8, 10));
}

#[test]
fn floats_are_written_the_shortest_way() {
    for (value, text) in [
        (0.1, "0.1"),
        (1e21, "1E+21"),
        (1e15, "1000000000000000"),
        (9.876_543_210_987_654e16, "98765432109876540"),
        (1e17, "1E+17"),
        (123_456_789_012_345.0, "123456789012345"),
        (0.000_1, "0.0001"),
        (0.000_01, "1E-05"),
        (-2.5, "-2.5"),
        (1.5e-7, "1.5E-07"),
    ] {
        assert_eq!(Value::from(value).text(), text);
    }
}

#[test]
fn clones_share_an_address_until_one_changes() {
    for text in ["\"text\"", "[1, 2]", "{\"a\": 1}"] {
        let value = json(text);
        assert!(!value.is_shared());
        let clone = value.clone();
        assert_eq!(clone.address(), value.address());
        assert!(value.is_shared() && clone.is_shared());
        assert_ne!(json(text).address(), value.address());
        drop(clone);
        assert!(!value.is_shared());
    }
    let mut items = json("[1]").into_array().unwrap();
    let before = Value::from(items.clone());
    items.push(Value::from(2));
    assert_ne!(Value::from(items).address(), before.address());
    assert_eq!((json("1").address(), json("1").is_shared()), (None, false));
}
