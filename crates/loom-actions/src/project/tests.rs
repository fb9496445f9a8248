use super::*;

fn project(host: &str, settings: &str) -> Project {
    let json = |text: &str| Value::from_json_str(text).expect("JSON");
    Project {
        host: Some(json(host)),
        app_settings: json(settings).as_object().expect("an object").clone(),
        ..Project::default()
    }
}

#[test]
fn limits_of_host_json_are_read() {
    let read = project(
        r#"{"extensions": {"workflow": {"settings": {
            "Runtime.Backend.FlowRunTimeout": "90.01:00:00",
            "Runtime.Backend.HttpOperation.RequestTimeout": "00:03:45",
            "Runtime.Backend.HttpOperation.DefaultRetryCount": 2,
            "Runtime.FlowRetentionThreshold": "7.00:00:01"}}}}"#,
        "{}",
    );
    let limits = read.limits().expect("they can be read");
    let shown: Vec<(HostLimitKind, String)> =
        limits.iter().map(|limit| (limit.kind, limit.value.to_json_text())).collect();
    let policy = r#"{"type":"exponential","count":2,"interval":"PT7S","minimumInterval":"PT5S","maximumInterval":"PT3600S"}"#;
    let expected = [
        (HostLimitKind::RunDuration, "7779600"),
        (HostLimitKind::AttemptTimeout, "225"),
        (HostLimitKind::RetentionDays, "8"),
        (HostLimitKind::DefaultRetryPolicy, policy),
    ];
    assert_eq!(shown, expected.map(|(kind, text)| (kind, text.to_owned())));
    for bad in ["1:2", "24:00:00", "00:60:00", "-1.00:00:00", "soon"] {
        let host = format!(
            r#"{{"extensions": {{"workflow": {{"settings": {{"Runtime.Backend.FlowRunTimeout": "{bad}"}}}}}}}}"#
        );
        let error = project(&host, "{}").limits().expect_err(bad).to_string();
        assert!(error.contains("`Runtime.Backend.FlowRunTimeout`") && error.contains(bad), "{error}");
    }
}

#[test]
fn settings_without_effect_are_listed() {
    let read = project(
        r#"{"version": "2.0", "watchDirectories": [], "extensions": {"http": {}, "workflow": {"settings": {
            "Runtime.FlowRetentionThreshold": "7.00:00:00", "Jobs.BackgroundJobs.NumWorkersPerProcessorCount": "1"}}}}"#,
        r#"{"Workflows.Nightly.FlowState": "Disabled", "Workflows.Orders.FlowState": "Enabled", "Workflows.Odd.FlowState": "Paused",
            "Workflows.WebhookRedirectHostUri": "x", "KEY": "k"}"#,
    );
    assert_eq!(read.disabled().into_iter().collect::<Vec<_>>(), ["nightly"]);
    assert_eq!(
        read.not_honoured(),
        [
            "local.settings.json: `Workflows.Odd.FlowState` (must be `Enabled` or `Disabled`, got `Paused`)",
            "local.settings.json: `Workflows.WebhookRedirectHostUri`",
            "host.json: `watchDirectories`",
            "host.json: `extensions.http`",
            "host.json: `Jobs.BackgroundJobs.NumWorkersPerProcessorCount`",
        ]
    );
}

#[test]
fn a_misspelt_section_of_app_settings_is_an_error() {
    let read = |settings: &str| {
        let settings = Value::from_json_str(settings).expect("JSON");
        app_settings_in("local.settings.json", &settings).map(|(values, _)| values.len())
    };
    for misspelt in
        [r#"{"Vals": {}}"#, r#"{"IsEncrypted": false, "values": {"A": "1"}}"#, r#"{"Region": {"A": "1"}}"#]
    {
        let error = read(misspelt).expect_err(misspelt).to_string();
        assert!(error.contains("unknown section") && error.contains("did you mean `Values`?"), "{error}");
    }
    assert_eq!(read(r#"{"A": "1", "B": 2}"#).ok(), Some(2), "a plain list");
    assert_eq!(
        read(r#"{"Values": {"A": "1"}, "Notes": {"any": 1}}"#).ok(),
        Some(1),
        "another tool's section"
    );
}
