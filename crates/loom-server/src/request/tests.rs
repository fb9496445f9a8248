use loom_expression::Value;

use super::{escape, relative_path, unescape};

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
        assert_eq!(unescape(&escape(text)), text);
    }
    assert_eq!(unescape("%zz%2%"), "%zz%2%");
}
