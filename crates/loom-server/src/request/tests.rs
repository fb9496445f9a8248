use axum::http::{HeaderMap, StatusCode, header};
use loom_expression::{Value, percent};
use proptest::prelude::*;

use super::{decode_body, relative_path};

#[test]
fn a_compressed_body_is_rejected_with_a_message() {
    let read = |encoding: &str, bytes: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, encoding.parse().expect("it is a header"));
        headers.insert(header::CONTENT_TYPE, "application/json".parse().expect("it is a header"));
        decode_body(bytes, &headers, 1_000)
    };
    let problem = read("gzip", b"\x1f\x8b").expect_err("it is refused");
    assert_eq!(problem.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(problem.message.contains("'gzip'"), "{}", problem.message);
    assert!(read("identity", b"7").is_ok_and(|body| body == Some(7.into())));
    assert!(read("gzip", b"").is_ok_and(|body| body.is_none()));
}

#[test]
fn relative_paths_match_by_segment_and_decode() {
    let check = |template: &str, path: &str, expected: Option<&str>| {
        let found = relative_path(template, path).map(|found| Value::from(found).to_json_text());
        assert_eq!(found.as_deref(), expected, "{template} against {path}");
    };
    check(
        "boom/{bang}/pow/{whack}",
        "/boom/wow%25wee%3f/pow/hehe",
        Some(r#"{"bang":"wow%wee?","whack":"hehe"}"#),
    );
    check("/boom/{bang}/", "BOOM/a%2Fb", Some(r#"{"bang":"a/b"}"#));
    check("boom/{bang}", "/boom", None);
    check("boom/{bang}", "/boom//", None);
    check("boom/{bang}", "/boom/a/b", None);
    check("boom/{bang}", "/bang/a", None);
    check("", "", Some("{}"));
}

#[test]
fn escaping_is_undone_by_unescaping() {
    for text in ["", "a b", "ä/€?&=%", "%zz%2", "a%25b"] {
        assert_eq!(percent::decode(&percent::encode(text)), text);
    }
    assert_eq!(percent::decode("%zz%2%"), "%zz%2%");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_survives_escaping(text in any::<String>()) {
        let escaped = percent::encode(&text);
        prop_assert!(escaped.is_ascii());
        prop_assert_eq!(percent::decode(&escaped), text);
    }

    #[test]
    fn parameters_of_any_path_are_whole_segments(template in "(/?([a-z]{0,2}|\\{[a-z]?\\}|%[0-9]?)){0,4}", path in "(/?([a-z]{0,2}|%[0-9a-f]{0,2}|\\PC)){0,4}") {
        if let Some(found) = relative_path(&template, &path) {
            let segments = |text: &str| text.trim_matches('/').split('/').count();
            prop_assert_eq!(segments(&template), segments(&path));
            for value in found.values() {
                prop_assert!(value.as_str().is_some_and(|text| !text.is_empty()));
            }
        }
    }

    #[test]
    fn a_segment_comes_back_as_it_was_meant(first in "\\PC{1,8}", second in any::<String>().prop_filter("not empty", |text| !text.is_empty())) {
        let path = format!("/a/{}/b/{}", percent::encode(&first), percent::encode(&second));
        let found = relative_path("a/{x}/b/{y}", &path).expect("it fits");
        prop_assert_eq!(found.get("x").and_then(Value::as_str), Some(first.as_str()));
        prop_assert_eq!(found.get("y").and_then(Value::as_str), Some(second.as_str()));
    }
}
