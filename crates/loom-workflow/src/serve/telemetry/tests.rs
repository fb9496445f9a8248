use super::*;

/// The settings that these variables give.
fn with(otlp: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<TelemetrySettings>> {
    settings(otlp, |name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn some(otlp: Option<&str>, variables: &[(&str, &str)]) -> TelemetrySettings {
    with(otlp, variables).unwrap().expect("traces are sent")
}

fn refused(variables: &[(&str, &str)]) -> String {
    with(Some("http://c"), variables).unwrap_err().to_string()
}

#[test]
fn nothing_is_sent_without_an_endpoint() {
    assert!(with(None, &[]).unwrap().is_none());
    assert!(
        with(None, &[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().is_none()
    );
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_SDK_DISABLED", "True")];
    assert!(with(None, &off).unwrap().is_none());
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_TRACES_EXPORTER", "none")];
    assert!(with(None, &off).unwrap().is_none());
    // An explicit setting takes precedence.
    assert_eq!(some(Some("http://c/"), &off).address, "http://c/v1/traces");
}

#[test]
fn the_address_is_a_base_or_whole() {
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/here");
    assert_eq!(some(None, &[base]).address, "http://c:4318/v1/traces");
    assert_eq!(some(None, &[base, whole]).address, "http://t/here");
    assert_eq!(some(Some("http://f"), &[base, whole]).address, "http://f/v1/traces");
}

#[test]
fn what_is_reported_about_the_sender() {
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let attributes =
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-attributes, deployment.environment.name=a%2Cb");
    let environment = ("deployment.environment.name", "a,b");
    assert_eq!(some(Some("http://c"), &[]).resource, owned(&[("service.name", "loom")]));
    let reported = some(Some("http://c"), &[attributes]).resource;
    assert_eq!(reported, owned(&[("service.name", "from-attributes"), environment]));
    let reported = some(Some("http://c"), &[attributes, ("OTEL_SERVICE_NAME", "orders")]).resource;
    assert_eq!(reported, owned(&[("service.name", "orders"), environment]));
    let keys = ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b,authorization=Bearer%20c=");
    let headers = some(Some("http://c"), &[keys]).headers;
    assert_eq!(headers, owned(&[("x-key", "a b"), ("authorization", "Bearer c=")]));
    let own = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=own");
    assert_eq!(some(Some("http://c"), &[keys, own]).headers, owned(&[("x-key", "own")]));
}

#[test]
fn numbers_are_accepted_and_invalid_ones_reported() {
    let set = some(
        Some("http://c"),
        &[
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "7"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ],
    );
    assert_eq!((set.timeout, set.delay), (Duration::from_millis(250), Duration::from_millis(20)));
    assert_eq!((set.queue_max, set.batch_max), (7, 3));
    for text in ["0", "-1", "many", "1e3", "99999999999"] {
        assert!(
            refused(&[("OTEL_BSP_MAX_QUEUE_SIZE", text)]).contains("OTEL_BSP_MAX_QUEUE_SIZE must be"),
            "{text}"
        );
    }
    assert!(refused(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).contains("4318"));
    for text in ["secret", "=secret", "a=%zzsecret", "a=secret%f", "a=secret%ff"] {
        let why = refused(&[("OTEL_EXPORTER_OTLP_HEADERS", text)]);
        assert!(why.starts_with("OTEL_EXPORTER_OTLP_HEADERS must have the form"), "{why}");
        assert!(!why.contains("secret"), "{why}");
    }
}
