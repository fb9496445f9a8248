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
