use super::*;

fn masker(text: &str) -> Masker {
    let masker = Masker::new();
    masker.learn(&Value::from(text).into_secret());
    masker
}

#[test]
fn every_form_of_a_secret_is_redacted() {
    let secret = "S3 cr\"et/+ü?~x";
    let masker = masker(secret);
    let json = Value::from(secret).to_json_text();
    let url_safe = |text: &str| text.replace('+', "-").replace('/', "_");
    let basic = STANDARD.encode(format!("user:{secret}"));
    for form in [
        secret.to_owned(),
        json,
        percent::encode(secret),
        percent::encode(secret).replace("%20", "+"),
        percent::encode(secret).to_lowercase(),
        STANDARD.encode(secret),
        url_safe(&STANDARD.encode(secret)),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat(),
        secret.to_uppercase().replace('Ü', "ü"),
    ] {
        let masked = masker.mask(&format!("before {form} after")).into_owned();
        assert!(masked.contains(MASK) && !masked.contains(&form), "{form}: {masked}");
        assert!(masked.starts_with("before ") && masked.ends_with(" after"), "{masked}");
    }
    // Inside the base64 of a longer text, at most two characters of the secret remain at either end.
    let masked = masker.mask(&basic);
    assert!(masked.contains(MASK) && masked.len() < MASK.len() + 12, "{masked}");
}

#[test]
fn short_secrets_are_redacted_as_whole_words() {
    let masker = masker("ab12");
    assert_eq!(masker.mask("key=ab12;"), format!("key={MASK};"));
    assert_eq!(masker.mask("xab12 ab12x"), "xab12 ab12x");
    assert!(super::tests::masker("abc").is_empty() && super::tests::masker("Succeeded").is_empty());
}

#[test]
fn masking_copies_nothing_if_there_is_nothing_to_redact() {
    let masker = masker("0123456789");
    let value = Value::from_json_str(r#"{"a":["x 0123456789"],"n":123456789,"b":{"c":1}}"#).unwrap();
    let masked = masker.mask_value(&value);
    assert_eq!(masked.to_json_text(), r#"{"a":["x *sanitized*"],"n":123456789,"b":{"c":1}}"#);
    assert_eq!(masked.get("b").and_then(Value::address), value.get("b").and_then(Value::address));
    assert_eq!(super::tests::masker("12345678").mask_value(&Value::from(12_345_678)), Value::from(MASK));
}

#[test]
fn the_parts_of_a_secret_document_are_redacted_too() {
    let masker = masker(r#"{"user":"somebody","password":"hunter2hunter2"}"#);
    assert_eq!(masker.mask("with hunter2hunter2"), format!("with {MASK}"));
    let masker = super::tests::masker("Endpoint=sb://bus.example;SharedAccessKey=abcdefghij0=");
    assert_eq!(masker.mask("sb://bus.example abcdefghij0="), format!("sb://bus.example {MASK}"));
}

#[test]
fn messages_do_not_quote_their_secret_inputs() {
    let uri = Value::from("https://Hidden.example/orders/77?x=1").into_secret();
    let message = "No host 'hidden.example' for /orders/77.";
    let masked = without_quotes(message, [&uri]);
    assert!(!masked.contains("hidden") && !masked.contains("orders"), "{masked}");
    assert_eq!(
        without_quotes("'xy' is not a method.", [&Value::from("xy").into_secret()]),
        format!("'{MASK}' is not a method.")
    );
    assert!(matches!(without_quotes(message, [&Value::from("hidden")]), Cow::Borrowed(_)));
}

#[test]
fn secret_settings_are_recognized_by_name() {
    for name in [
        "AzureWebJobsStorage_ConnectionString",
        "ServiceBusConnectionString",
        "API_KEY",
        "apiKey",
        "DbPassword",
        "client-secret",
        "SAS",
        "GITHUB_TOKEN",
        "storage.accountKey",
        "Db:Pwd",
    ] {
        assert!(names_secret(name), "{name}");
    }
    assert!(is_connection_string("Server=db;User Id=sa;Password=pw"));
    assert!(!is_connection_string("Server=db;Encrypt=true"));
    for name in ["REGION", "BaseUrl", "KeyboardLayout", "Author", "MonkeyCount", "Timeout"] {
        assert!(!names_secret(name), "{name}");
    }
}
