use super::*;
use crate::{Code, Options};

fn parse(text: &str) -> Result<Expression, Code> {
    parse_expression(text, 0..text.len(), &Options::default()).map_err(|error| error.code)
}

#[test]
fn printing_then_parsing_is_identity() {
    for text in
        ["concat('it''s', 1, -2.5e10, TRUE, null)", "a()?.b['c']?[1][f(x())]", " f ( ) . content-type "]
    {
        let first = parse(text).unwrap();
        assert_eq!(parse(&first.to_string()).unwrap(), first);
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (text, code) in [
        ("", Code::Syntax),
        ("f(", Code::Syntax),
        ("f('a", Code::UnterminatedString),
        ("f(12abc)", Code::BadNumber),
        ("'abc'[0]", Code::Syntax),
        ("f(\"x\")", Code::Syntax),
        ("f() g()", Code::Syntax),
        ("f()?", Code::Syntax),
        ("f([1])", Code::Syntax),
        ("99999999999999999999", Code::BadNumber),
    ] {
        assert_eq!(parse(text).unwrap_err(), code, "{text}");
    }
}
