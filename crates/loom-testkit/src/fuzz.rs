//! What must hold for any bytes: one function for each reader of what comes from outside.
//!
//! The fuzz targets in `fuzz/` call them with bytes that a fuzzer makes up, and a test calls them with those in
//! `fuzz/seeds`. Each panics where its law is broken.

use std::sync::{Arc, LazyLock};

use loom_actions::Url;
use loom_definition::{Definition, LoadOptions, Workflow};
use loom_engine::journal;
use loom_expression::{
    Limits, NoNames, Object, Options, RecordedContext, Template, Value, envelope, functions, syntax,
};

/// Checks one law with some bytes.
pub type Check = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Check); 12] = [
    ("body", body),
    ("calls", calls),
    ("evaluate", evaluate),
    ("journal", journal),
    ("json", json),
    ("multipart", multipart),
    ("pkcs12", pkcs12),
    ("snapshot", snapshot),
    ("template", template),
    ("url", url),
    ("xml", xml),
    ("xpath", xpath),
];

/// Any bytes are JSON or an error, and what is JSON reads back the same from its text. Halves of characters become U+FFFD when
/// a text leaves, so the law holds for what was written and read once.
pub fn json(bytes: &[u8]) {
    if let Ok(value) = Value::parse_json(bytes) {
        let value = Value::from_json_str(&value.to_json_text()).expect("our own text is JSON");
        let again = Value::from_json_str(&value.to_json_text()).expect("our own text is JSON");
        assert_eq!(again, value);
        let again = Value::from_json_str(&value.to_json_text_pretty()).expect("our own text is JSON");
        assert_eq!(again, value);
        assert_eq!(again.bytes(), value.bytes());
    }
}

/// Compiling any text neither panics nor points outside of the text, and what parses prints and parses again.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for loom_spelling in [false, true] {
        let options = Options { loom_spelling, ..Options::default() };
        if let Err(errors) = Template::compile_str(text, &NoNames, &options) {
            for error in errors {
                assert!(text.get(error.span.clone()).is_some());
                loom_expression::caret(text, error.span);
            }
        }
    }
    let options = Options::default();
    if let Ok(expression) = syntax::parse_expression(text, 0..text.len(), &options) {
        let printed = expression.to_string();
        // White space may be added between arguments, so only what is still short enough parses again.
        if let Ok(again) = syntax::parse_expression(&printed, 0..printed.len(), &options) {
            assert_eq!(again, expression);
        } else {
            assert!(printed.chars().count() > options.limits.expression_chars_max);
        }
    }
}

/// Limits that keep one input short.
fn options() -> Options {
    let limits = Limits {
        text_bytes_max: 1 << 20,
        items_max: 10_000,
        xpath_steps_max: 100_000,
        evaluation_steps_max: 1_000_000,
        json_values_max: 100_000,
        value_bytes_max: 16 << 20,
        ..Limits::default()
    };
    Options { loom_spelling: false, limits }
}

/// Evaluates a template twice, which must give the same.
fn evaluated(text: &str, x: Option<&str>) -> Option<Value> {
    let parameters: Object = x.into_iter().map(|x| ("x", x)).collect();
    let context: Object = [("parameters", parameters)].into_iter().collect();
    let context = RecordedContext::from_json(&context.into()).expect("a context has parameters");
    let template = Template::compile_str(text, &NoNames, &options()).ok()?;
    let value = template.evaluate(&context);
    assert_eq!(value, template.evaluate(&context));
    value.ok()
}

/// Evaluating any template gives a value or an error, twice the same.
pub fn evaluate(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        evaluated(text, None);
    }
}

/// Any function, called with any arguments, gives a value or an error, twice the same.
///
/// The first byte chooses the function; the rest, cut at zero bytes, are its arguments: a leading `#` makes an integer,
/// `{` or `[` the JSON after it, `<` the XML, anything else is text.
pub fn calls(bytes: &[u8]) {
    let Some((&chosen, rest)) = bytes.split_first() else { return };
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let known = functions();
    let name = known[usize::from(chosen) % known.len()].name;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let argument = |text: &str| match text.chars().next() {
        Some('#') => text[1..].parse::<i64>().map_or_else(|_| "null".to_owned(), |int| int.to_string()),
        Some('{' | '[') => format!("json({})", quoted(text)),
        Some('<') => format!("xml({})", quoted(text)),
        _ => quoted(text),
    };
    let arguments: Vec<String> = rest.split('\0').map(argument).collect();
    evaluated(&format!("@{name}({})", arguments.join(",")), None);
}

/// Any text is XML or an error; what is XML becomes an object of bounded depth, and that object XML again.
pub fn xml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    evaluated("@xpath(xml(parameters('x')), 'string(/)')", Some(text));
    if let Some(object) = evaluated("@json(xml(parameters('x')))", Some(text)) {
        assert!(object.depth() <= 1_024);
        evaluated("@string(xml(json(xml(parameters('x')))))", Some(text));
    }
}

/// The document that paths are tried on.
const DOCUMENT: &str = "<?xml version='1.0'?><r xmlns:p='urn:p' a='1'><!-- c --><b p:k='x'>1</b><b>2.5</b><c><b/>t<?i d?></c></r>";

/// Any text is an XPath expression or an error, twice the same.
pub fn xpath(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    evaluated(&format!("@xpath('{}', parameters('x'))", DOCUMENT.replace('\'', "''")), Some(path));
}

/// Any bytes are a frame of a journal or an error, and what is one is written and read again alike.
pub fn journal(bytes: &[u8]) {
    let Ok(events) = journal::decode(bytes) else { return };
    let mut frame = Vec::new();
    journal::encode(&events, &mut frame);
    let again = journal::decode(&frame).expect("our own frame is one");
    let mut second = Vec::new();
    journal::encode(&again, &mut second);
    assert_eq!(frame, second);
}

/// The workflow whose snapshots are read.
pub fn workflow() -> &'static Arc<Workflow> {
    static WORKFLOW: LazyLock<Arc<Workflow>> = LazyLock::new(|| {
        let definition = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
            "Init": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "string"}]}, "runAfter": {}},
            "Each": {"type": "Foreach", "foreach": "@triggerBody()", "runAfter": {"Init": ["Succeeded"]},
                "actions": {"Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://localhost/"}, "runAfter": {}}}}}}"#;
        Definition::parse(definition.as_bytes(), &LoadOptions::default())
            .expect("it is a definition")
            .workflow
    });
    &WORKFLOW
}

/// Any bytes are a snapshot of a run or an error, and what is one is written and read again alike.
pub fn snapshot(bytes: &[u8]) {
    let Ok(state) = journal::decode_snapshot(workflow(), bytes) else { return };
    let written = journal::encode_snapshot(&state);
    let again = journal::decode_snapshot(workflow(), &written).expect("our own snapshot is one");
    assert_eq!(written, journal::encode_snapshot(&again));
}

/// Any bytes are a PKCS#12 archive or an error.
pub fn pkcs12(bytes: &[u8]) {
    loom_actions::opens_pkcs12(bytes, "gehéim");
}

/// Any bytes are parts or none, and parts can be sent again.
pub fn multipart(bytes: &[u8]) {
    loom_actions::decode_multipart(bytes, "b");
    sent_again(bytes, "multipart/form-data; boundary=b");
}

/// Any bytes under any content type, which is the first line, are a body or an error, and a body can be sent again.
pub fn body(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let kind = String::from_utf8_lossy(&bytes[..end]);
    sent_again(bytes.get(end + 1..).unwrap_or_default(), &kind);
}

fn sent_again(bytes: &[u8], kind: &str) {
    loom_actions::decode_leniently(bytes, Some(kind));
    let Ok(Some(value)) = loom_actions::decode_within(bytes, Some(kind), 10_000) else { return };
    if let Some((_, content)) = envelope::decode(&value) {
        assert_eq!(content, bytes, "an envelope holds what came");
    }
    loom_actions::encode(&value, Some(kind)).ok();
}

/// Any text is an address or an error; the origin of one is an address, and whatever is joined to it stays one.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (address, reference) = text.split_once('\n').unwrap_or((text, "../a?b#c"));
    let Ok(url) = Url::parse(address) else { return };
    let origin = Url::parse(&url.origin()).expect("an origin is an address");
    assert_eq!((origin.host(), origin.port(), origin.scheme()), (url.host(), url.port(), url.scheme()));
    for joined in [url.join(reference), url.below(reference)].into_iter().flatten() {
        assert!(matches!(joined.scheme(), "http" | "https"));
        Url::parse(&joined.shown()).ok();
    }
    let queries: Object = [("a b", reference), ("&", address)].into_iter().collect();
    url.with_queries(&queries.into()).ok();
}
