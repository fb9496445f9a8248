use super::*;

fn check(number: impl Into<Value>, format: &str, culture: &str, expected: &str) {
    let culture = Culture::find(culture).unwrap();
    let text = format_number(&number.into(), format, culture);
    assert_eq!(text.as_deref(), Some(expected), "{format}");
}

#[test]
fn standard_formats() {
    check(1_234.567, "N", "en-US", "1,234.57");
    check(-0.256, "P1", "en-US", "-25.6%");
    check(1_234_567, "N0", "en-IN", "12,34,567");
    check(1_234.5, "C", "de-DE", "1.234,50 €");
    check(1_234.5, "C", "de-AT", "€ 1.234,50");
    check(-1_234.5, "C", "nl", "€ -1.234,50");
    check(0.000_012_3, "G", "en-US", "1.23E-05");
    check(123_456.0, "G3", "en-US", "1.23E+05");
    check(-255, "X", "en-US", "FFFFFFFFFFFFFF01");
    check(0.0, "E2", "en-US", "0.00E+000");
    assert_eq!(format_number(&Value::from(1.5), "D2", Culture::EN_US), None);
    assert_eq!(format_number(&Value::from(1), "Q", Culture::EN_US), None);
}

#[test]
fn custom_formats() {
    check(1_234_567, "0,0.0", "en-US", "1,234,567.0");
    check(1_234_567, "#,##0,K", "en-US", "1,235K");
    check(0.5, "#.##", "en-US", ".5");
    check(-5, "#,##0.00", "en-US", "-5.00");
    check(-0.001, "0.00;(0.00)", "en-US", "0.00");
    check(123_456, "0.00E+0", "en-US", "1.23E+5");
    check(42, "'n = '0", "en-US", "n = 42");
    check(1_234, "000-000", "en-US", "001-234");
    check(0.12, "0‰", "en-US", "120‰");
}
