//! Metrics in the text format that Prometheus reads. Every name of a metric stands in this file.

use std::{fmt::Write, sync::atomic::Ordering};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Response, header},
};
use loom_definition::RunStatus;
use loom_store::{BUCKET_MICROS, Condition, Histogram};

use crate::{server::Shared, telemetry::Exporter};

/// `GET /metrics`.
pub(crate) async fn page(State(shared): State<Shared>) -> Response<Body> {
    let mut response = Response::new(Body::from(text(&shared)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(shared: &Shared) -> String {
    let host = &shared.host;
    let mut page = Page::default();
    page.head("loom_runs_started_total", "counter", "Runs started since the process began.");
    page.sample("loom_runs_started_total", "", host.hub.started());
    page.head("loom_runs_ended_total", "counter", "Runs ended since the process began, by status.");
    for (status, count) in host.hub.ended().filter(|(status, _)| RunStatus::is_final(*status)) {
        page.sample("loom_runs_ended_total", &format!("status=\"{}\"", status.as_str()), count);
    }
    page.head("loom_runs_in_progress", "gauge", "Runs that this process carries on now.");
    page.sample("loom_runs_in_progress", "", host.engine.runs_in_progress());
    page.head("loom_workflows", "gauge", "Workflows deployed.");
    page.sample("loom_workflows", "", host.deployments.all().len());
    let (health, metrics) = (host.store.health(), host.store.metrics());
    page.head("loom_store_up", "gauge", "Whether the store takes commits in.");
    page.sample("loom_store_up", "", u8::from(matches!(health.condition, Condition::Running)));
    page.head("loom_store_queued_bytes", "gauge", "Bytes that wait for the writer.");
    page.sample("loom_store_queued_bytes", "", health.queued_bytes);
    for (name, help, value) in [
        ("loom_store_groups_total", "Transactions written.", metrics.groups),
        ("loom_store_commits_total", "Commits written.", metrics.commits),
        ("loom_store_refused_total", "Commits refused.", metrics.refused),
        ("loom_store_frames_total", "Journal frames written.", metrics.frames),
        ("loom_store_payload_bytes_total", "Payload bytes taken in.", metrics.bytes),
        ("loom_store_checkpoints_total", "Checkpoints run.", metrics.checkpoints),
        ("loom_store_pauses_total", "Times the store paused.", metrics.pauses),
    ] {
        page.head(name, "counter", help);
        page.sample(name, "", value);
    }
    page.histogram(
        "loom_store_commit_seconds",
        "From taking a commit in to its answer.",
        &metrics.wait_seconds,
    );
    page.histogram("loom_store_group_seconds", "Writing one transaction.", &metrics.group_seconds);
    page.histogram("loom_store_sync_seconds", "The sync that ends a transaction.", &metrics.sync_seconds);
    if let Some(recorder) = &host.hub.recorder {
        spans(&mut page, recorder.exporter());
    }
    let services = host.engine.registry().list();
    page.head("loom_circuit_state", "gauge", "1 for the state that a service's circuit is in.");
    for service in &services {
        let state = format!("{:?}", service.breaker.state);
        for known in ["Closed", "Open", "HalfOpen"] {
            let labels = format!("service=\"{}\",state=\"{known}\"", escaped(&service.name));
            page.sample("loom_circuit_state", &labels, u8::from(state == known));
        }
    }
    page.head("loom_service_in_flight", "gauge", "Calls in flight, where a bulkhead counts them.");
    for service in &services {
        let labels = format!("service=\"{}\"", escaped(&service.name));
        page.sample("loom_service_in_flight", &labels, service.in_flight);
    }
    page.0
}

/// What became of the spans of runs, where somebody wants them.
fn spans(page: &mut Page, exporter: &Exporter) {
    let counts = exporter.counts();
    page.head("loom_telemetry_spans_exported_total", "counter", "Spans that the collector took.");
    page.sample("loom_telemetry_spans_exported_total", "", counts.exported.load(Ordering::Relaxed));
    page.head("loom_telemetry_spans_dropped_total", "counter", "Spans that were lost, by why.");
    for (reason, count) in [
        ("queue_full", &counts.overflowed),
        ("refused", &counts.refused),
        ("undelivered", &counts.undelivered),
    ] {
        let labels = format!("reason=\"{reason}\"");
        page.sample("loom_telemetry_spans_dropped_total", &labels, count.load(Ordering::Relaxed));
    }
    page.head("loom_telemetry_queued_spans", "gauge", "Spans that wait to be sent.");
    page.sample("loom_telemetry_queued_spans", "", exporter.queued());
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        if labels.is_empty() {
            writeln!(self.0, "{name} {value}").ok();
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}").ok();
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut below = 0;
        for (end, count) in BUCKET_MICROS.iter().zip(&histogram.counts) {
            below += count;
            let labels = format!("le=\"{}\"", *end as f64 / 1e6);
            self.sample(&format!("{name}_bucket"), &labels, below);
        }
        self.sample(&format!("{name}_bucket"), "le=\"+Inf\"", histogram.count());
        self.sample(&format!("{name}_sum"), "", histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), "", histogram.count());
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
