//! The trace exporter's settings: `--otlp` and the environment variables that OpenTelemetry defines.
//!
//! | variable | meaning |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | the full URL |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | the URL to which `/v1/traces` is appended, as for `--otlp` |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `…_TRACES_HEADERS` | `name=value,…`, percent-encoded |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT`, `…_TRACES_TIMEOUT` | timeout of one request, in milliseconds |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | the resource that spans are attributed to |
//! | `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, `OTEL_BSP_SCHEDULE_DELAY` | the queue |
//! | `OTEL_SDK_DISABLED=true`, `OTEL_TRACES_EXPORTER=none` | no traces, unless `--otlp` is given |

use std::time::Duration;

use anyhow::{Result, bail};
use loom_expression::percent;
use loom_server::TelemetrySettings;

/// The settings of the exporter, or None if no traces are sent. `variable` reads the environment.
pub(super) fn settings(
    otlp: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<TelemetrySettings>> {
    let set = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let is_off = |name: &str, word: &str| set(name).is_some_and(|text| text.eq_ignore_ascii_case(word));
    let below = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
    let address = match otlp {
        Some(base) => Some(below(base)),
        None if is_off("OTEL_SDK_DISABLED", "true") || is_off("OTEL_TRACES_EXPORTER", "none") => None,
        None => set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| below(&base))),
    };
    let Some(address) = address else { return Ok(None) };
    let either = |name: &str| {
        let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        set(&own).map(|text| (own, text)).or_else(|| {
            let common = format!("OTEL_EXPORTER_OTLP_{name}");
            set(&common).map(|text| (common, text))
        })
    };
    let attributes = match set("OTEL_RESOURCE_ATTRIBUTES") {
        Some(text) => pairs("OTEL_RESOURCE_ATTRIBUTES", &text)?,
        None => Vec::new(),
    };
    let named = |(name, _): &&(String, String)| name == "service.name";
    let service =
        set("OTEL_SERVICE_NAME").or_else(|| attributes.iter().find(named).map(|(_, name)| name.clone()));
    let mut settings = TelemetrySettings::new(address, service.unwrap_or_else(|| "loom".to_owned()));
    settings.resource.extend(attributes.into_iter().filter(|pair| !named(&pair)));
    if let Some((name, text)) = either("HEADERS") {
        settings.headers = pairs(&name, &text)?;
    }
    if let Some((name, text)) = either("TIMEOUT") {
        settings.timeout = Duration::from_millis(number(&name, &text)?);
    }
    let count = |name: &str| set(name).map(|text| number(name, &text)).transpose();
    if let Some(most) = count("OTEL_BSP_MAX_QUEUE_SIZE")? {
        settings.queue_max = most as usize;
    }
    if let Some(most) = count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")? {
        settings.batch_max = most as usize;
    }
    if let Some(delay) = count("OTEL_BSP_SCHEDULE_DELAY")? {
        settings.delay = Duration::from_millis(delay);
    }
    if let Some((name, asked)) = either("PROTOCOL")
        && !asked.starts_with("http/")
    {
        bail!(
            "{name} must be http/json (got `{asked}`): traces are sent as JSON over HTTP; the endpoint must be the collector's HTTP \
             port (usually 4318)"
        );
    }
    Ok(Some(settings))
}

/// Parses `name=value,name=value`, percent-encoded. The values may be secret, so errors do not quote them.
fn pairs(variable: &str, text: &str) -> Result<Vec<(String, String)>> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pair = |member: &str| {
        let (name, value) = member.split_once('=')?;
        let name = percent::decode_strictly(name.trim())?;
        (!name.is_empty()).then_some((name, percent::decode_strictly(value.trim())?))
    };
    let pairs: Option<Vec<_>> = members.map(pair).collect();
    match pairs {
        Some(pairs) => Ok(pairs),
        None => bail!("{variable} must have the form name=value,name=value, percent-encoded"),
    }
}

/// Parses a whole number from 1 to 10⁹, which is more than any of these settings needs.
fn number(variable: &str, text: &str) -> Result<u64> {
    match text.parse() {
        Ok(number @ 1..=1_000_000_000) => Ok(number),
        _ => bail!("{variable} must be a whole number between 1 and 1000000000 (got `{text}`)"),
    }
}

#[cfg(test)]
mod tests;
