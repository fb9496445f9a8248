//! Metrics in the Prometheus text format. All metric names are in this file.

mod text;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Response, header},
};
use loom_definition::{RunStatus, Status};
use loom_resilience::ServiceStatus;
use loom_store::{BUCKET_MICROS, Condition, Histogram, Upkeep};

use self::text::Page;
use crate::{
    circuit_names::{ISOLATED, state_name},
    host::Host,
    process_usage::ProcessUsage,
    shared::Shared,
    tally::{Durations, ENDS_MS, NAMES_MAX, Tally, lock},
    telemetry::Exporter,
};

/// `GET /metrics`.
pub(crate) async fn page(State(shared): State<Shared>) -> Response<Body> {
    let mut response = Response::new(Body::from(text(&shared.host)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(host: &Host) -> String {
    let mut page = Page::default();
    page.head("loom_build_info", "gauge", "The version of Loom; the value is always 1.");
    page.sample("loom_build_info", &[("version", &host.settings.version)], 1);
    runs(&mut page, host);
    requests(&mut page, &host.hub.tally);
    actions(&mut page, &host.hub.tally);
    services(&mut page, &host.hub.tally, host.engine.registry().list());
    store(&mut page, &*host.store);
    nodes(&mut page, host);
    if let Some(recorder) = &host.hub.recorder {
        spans(&mut page, recorder.exporter());
    }
    if let Some(usage) = host.settings.process {
        process(&mut page, &usage());
    }
    page.0
}

fn nodes(page: &mut Page, host: &Host) {
    let nodes = host.cluster.as_ref().map(|cluster| cluster.nodes()).unwrap_or_default();
    page.head(
        "loom_nodes",
        "gauge",
        "Live nodes of the cluster, as this one last saw them; 0 without a cluster.",
    );
    page.sample("loom_nodes", &[], nodes.len());
    page.head(
        "loom_shards_owned",
        "gauge",
        "Shards that any live node owns, as this one last saw them, of 1024.",
    );
    page.sample("loom_shards_owned", &[], nodes.iter().map(|node| node.shards.len()).sum::<usize>());
    page.head("loom_node_shards", "gauge", "Shards in which this node starts runs; 0 without a cluster.");
    let open = host.cluster.as_ref().map_or(0, |cluster| cluster.standing.open().len());
    page.sample("loom_node_shards", &[], open);
}

fn runs(page: &mut Page, host: &Host) {
    let workflows: Vec<_> = {
        let workflows = lock(&host.hub.tally.workflows);
        workflows.0.iter().map(|(name, counts)| (Arc::clone(name), Arc::clone(counts))).collect()
    };
    page.head("loom_runs_started_total", "counter", "Runs started since the process started, by workflow.");
    for (name, counts) in &workflows {
        page.sample("loom_runs_started_total", &[("workflow", name)], read(&counts.started));
    }
    page.head(
        "loom_runs_ended_total",
        "counter",
        "Runs ended since the process started, by workflow and status.",
    );
    for (name, counts) in &workflows {
        for (status, count) in
            RunStatus::ALL.iter().zip(&counts.ended).filter(|(status, _)| status.is_final())
        {
            let labels = [("workflow", &**name), ("status", status.as_str())];
            page.sample("loom_runs_ended_total", &labels, read(count));
        }
    }
    page.head("loom_run_duration_seconds", "histogram", "Duration of runs, by workflow.");
    for (name, counts) in &workflows {
        durations(page, "loom_run_duration_seconds", ("workflow", name), &counts.took);
    }
    page.head("loom_runs_in_progress", "gauge", "Runs in progress in the memory of this process.");
    page.sample("loom_runs_in_progress", &[], host.engine.runs_in_progress());
    page.head("loom_runs_parked", "gauge", "Runs in progress that only wait, and are not in memory.");
    page.sample("loom_runs_parked", &[], host.engine.runs_parked());
    page.head("loom_runs_held", "gauge", "Runs held because the store is unavailable.");
    page.sample("loom_runs_held", &[], host.engine.held().len());
    page.head(
        "loom_runs_waiting",
        "gauge",
        "Accepted runs waiting for the concurrency limit of their trigger.",
    );
    page.sample("loom_runs_waiting", &[], host.engine.runs_waiting());
    page.head("loom_secrets_expiring", "gauge", "Secrets in use that expire within `secret-expiry-days`.");
    page.sample("loom_secrets_expiring", &[], read(&host.hub.secrets_expiring));
    page.head("loom_workflows", "gauge", "Deployed workflows.");
    page.sample("loom_workflows", &[], host.deployments.all().len());
}

/// Requests that have come over connections.
fn requests(page: &mut Page, tally: &Tally) {
    let kinds: Vec<_> = lock(&tally.requests).0.clone().into_iter().collect();
    page.head(
        "loom_http_requests_total",
        "counter",
        "Requests answered, by what they are for and by the class of the status.",
    );
    for (kind, counts) in &kinds {
        for (class, number) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&counts.answered) {
            if read(number) > 0 {
                page.sample("loom_http_requests_total", &[("kind", kind), ("status", class)], read(number));
            }
        }
    }
    page.head(
        "loom_http_request_duration_seconds",
        "histogram",
        "Time until the head of the response, by what the request is for.",
    );
    for (kind, counts) in &kinds {
        durations(page, "loom_http_request_duration_seconds", ("kind", kind), &counts.took);
    }
}

fn actions(page: &mut Page, tally: &Tally) {
    let types: Vec<_> = {
        let types = lock(&tally.types);
        types.0.iter().map(|(name, counts)| (Arc::clone(name), Arc::clone(counts))).collect()
    };
    page.head(
        "loom_actions_ended_total",
        "counter",
        "Actions ended since the process started, by type and status.",
    );
    for (name, counts) in &types {
        for (status, count) in Status::ALL.iter().zip(&counts.ended) {
            let labels = [("type", &**name), ("status", status.as_str())];
            page.sample("loom_actions_ended_total", &labels, read(count));
        }
    }
    page.head("loom_action_duration_seconds", "histogram", "Duration of actions, by type.");
    for (name, counts) in &types {
        durations(page, "loom_action_duration_seconds", ("type", name), &counts.took);
    }
    page.head(
        "loom_attempts_total",
        "counter",
        "Attempts of actions, by type, including refused ones; polls within one call are not counted.",
    );
    for (name, counts) in types.iter().filter(|(_, counts)| read(&counts.attempts) > 0) {
        page.sample("loom_attempts_total", &[("type", name)], read(&counts.attempts));
    }
    page.head("loom_fallbacks_total", "counter", "Failed actions replaced by their fallback, by type.");
    for (name, counts) in types.iter().filter(|(_, counts)| read(&counts.attempts) > 0) {
        page.sample("loom_fallbacks_total", &[("type", name)], read(&counts.fallbacks));
    }
    page.head("loom_retries_total", "counter", "Failed attempts that are retried, by type.");
    for (name, counts) in types.iter().filter(|(_, counts)| read(&counts.attempts) > 0) {
        page.sample("loom_retries_total", &[("type", name)], read(&counts.retries));
    }
}

/// The states of a circuit.
const STATES: [&str; 4] = ["Closed", "Open", "HalfOpen", ISOLATED];

fn services(page: &mut Page, tally: &Tally, mut now: Vec<ServiceStatus>) {
    page.head("loom_services", "gauge", "Services that circuits, limiters or bulkheads guard.");
    page.sample("loom_services", &[], now.len());
    // Those that need to be looked at come first, should there be too many.
    now.sort_by_key(|service| state_name(&service.breaker) == "Closed");
    now.truncate(NAMES_MAX);
    now.sort_by(|left, right| left.name.cmp(&right.name));
    page.head("loom_circuit_state", "gauge", "1 for the state of a service's circuit: Closed, Open, HalfOpen, or Isolated (opened by an operator).");
    for service in &now {
        for state in STATES {
            let labels = [("service", service.name.as_str()), ("state", state)];
            page.sample("loom_circuit_state", &labels, u8::from(state_name(&service.breaker) == state));
        }
    }
    page.head("loom_service_in_flight", "gauge", "Calls in flight, where a bulkhead counts them.");
    for service in &now {
        page.sample("loom_service_in_flight", &[("service", &service.name)], service.in_flight);
    }
    page.head(
        "loom_service_waiting",
        "gauge",
        "Calls waiting for a permit of the rate limiter or a place in the bulkhead.",
    );
    for service in &now {
        for (on, waiting) in [("permit", service.limiter.waiting), ("place", service.bulkhead_waiting)] {
            page.sample("loom_service_waiting", &[("service", &service.name), ("on", on)], waiting);
        }
    }
    page.head(
        "loom_service_permits",
        "gauge",
        "Permits of the rate limit that can be taken now, by service.",
    );
    for service in &now {
        if let Some(available) = service.limiter.available {
            page.sample("loom_service_permits", &[("service", &service.name)], available);
        }
    }
    page.head("loom_service_frozen", "gauge", "1 while a service has asked all callers to pause.");
    for service in &now {
        let frozen = u8::from(!service.limiter.frozen_for.is_zero());
        page.sample("loom_service_frozen", &[("service", &service.name)], frozen);
    }
    page.head("loom_service_budget", "gauge", "Further copies that the budget of a service allows now.");
    for service in &now {
        if let Some(left) = service.retries_left {
            page.sample("loom_service_budget", &[("service", &service.name)], left);
        }
    }
    let counted: Vec<_> = {
        let services = lock(&tally.services);
        services.0.iter().map(|(name, counts)| (Arc::clone(name), Arc::clone(counts))).collect()
    };
    page.head(
        "loom_circuit_changes_total",
        "counter",
        "State changes of a service's circuit, by old and new state.",
    );
    for (name, counts) in &counted {
        for ((from, to), count) in &lock(counts).changes {
            let labels = [("service", &**name), ("from", from), ("to", to)];
            page.sample("loom_circuit_changes_total", &labels, count);
        }
    }
    page.head(
        "loom_calls_refused_total",
        "counter",
        "Calls rejected by a resilience policy, by service and rule.",
    );
    for (name, counts) in &counted {
        for (rule, count) in &lock(counts).refused {
            page.sample("loom_calls_refused_total", &[("service", name), ("rule", rule)], count);
        }
    }
    page.head(
        "loom_calls_observed_total",
        "counter",
        "Times that a policy in observe mode would have interfered, by service and part.",
    );
    for (name, counts) in &counted {
        for (part, count) in &lock(counts).observed {
            page.sample("loom_calls_observed_total", &[("service", name), ("part", part)], count);
        }
    }
    page.head("loom_hedges_total", "counter", "Further copies of slow calls, by service.");
    for (name, counts) in &counted {
        page.sample("loom_hedges_total", &[("service", name)], lock(counts).hedges);
    }
    page.head("loom_chaos_injected_total", "counter", "Faults injected by --chaos, by service and kind.");
    for (name, counts) in &counted {
        for (kind, count) in &lock(counts).injected {
            page.sample("loom_chaos_injected_total", &[("service", name), ("kind", kind)], count);
        }
    }
    page.head(
        "loom_service_waits_total",
        "counter",
        "Calls that waited for a permit or a place and then proceeded.",
    );
    for (name, counts) in &counted {
        for (on, (times, _)) in &lock(counts).waited {
            page.sample("loom_service_waits_total", &[("service", name), ("on", on)], times);
        }
    }
    page.head("loom_service_wait_seconds_total", "counter", "Total time that these calls waited.");
    for (name, counts) in &counted {
        for (on, (_, long)) in &lock(counts).waited {
            let labels = [("service", &**name), ("on", on)];
            page.sample("loom_service_wait_seconds_total", &labels, long.as_secs_f64());
        }
    }
}

fn store(page: &mut Page, store: &dyn Upkeep) {
    let (health, metrics) = (store.health(), store.metrics());
    page.head("loom_store_up", "gauge", "Whether the store accepts commits.");
    page.sample("loom_store_up", &[], u8::from(matches!(health.condition, Condition::Running)));
    page.head("loom_store_queued_bytes", "gauge", "Bytes waiting for the writer.");
    page.sample("loom_store_queued_bytes", &[], health.queued_bytes);
    for (name, help, value) in [
        ("loom_store_groups_total", "Transactions written.", metrics.groups),
        ("loom_store_commits_total", "Commits written.", metrics.commits),
        ("loom_store_refused_total", "Commits refused.", metrics.refused),
        ("loom_store_frames_total", "Journal frames written.", metrics.frames),
        ("loom_store_payload_bytes_total", "Payload bytes accepted.", metrics.bytes),
        ("loom_store_checkpoints_total", "Checkpoints run.", metrics.checkpoints),
        ("loom_store_pauses_total", "Times the store paused.", metrics.pauses),
    ] {
        page.head(name, "counter", help);
        page.sample(name, &[], value);
    }
    for (name, help, histogram) in [
        (
            "loom_store_commit_seconds",
            "Time from accepting a commit to acknowledging it.",
            &metrics.wait_seconds,
        ),
        ("loom_store_group_seconds", "Time to write one transaction.", &metrics.group_seconds),
        ("loom_store_sync_seconds", "Time to sync one transaction to disk.", &metrics.sync_seconds),
    ] {
        page.head(name, "histogram", help);
        let Histogram { counts, sum } = histogram;
        let ends = BUCKET_MICROS.iter().map(|end| *end as f64 / 1e6);
        page.histogram(name, None, ends, counts, *sum);
    }
}

/// The spans of the trace exporter.
fn spans(page: &mut Page, exporter: &Exporter) {
    let counts = exporter.counts();
    page.head("loom_telemetry_spans_exported_total", "counter", "Spans accepted by the collector.");
    page.sample("loom_telemetry_spans_exported_total", &[], read(&counts.exported));
    page.head("loom_telemetry_spans_dropped_total", "counter", "Spans that were lost, by reason.");
    for (reason, count) in [
        ("queue_full", &counts.overflowed),
        ("refused", &counts.refused),
        ("undelivered", &counts.undelivered),
    ] {
        page.sample("loom_telemetry_spans_dropped_total", &[("reason", reason)], read(count));
    }
    page.head("loom_telemetry_queued_spans", "gauge", "Spans waiting to be sent.");
    page.sample("loom_telemetry_queued_spans", &[], exporter.queued());
}

/// The standard metrics of a process, under the names that all Prometheus clients use.
fn process(page: &mut Page, usage: &ProcessUsage) {
    let mut sample = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            page.head(name, kind, help);
            page.sample(name, &[], value);
        }
    };
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    let (cpu, start) = (usage.cpu_seconds, usage.start_time_seconds);
    sample("process_cpu_seconds_total", "counter", "User and system CPU time, in seconds.", cpu);
    sample("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", start);
    let (resident, virtual_) = (whole(usage.resident_bytes), whole(usage.virtual_bytes));
    sample("process_resident_memory_bytes", "gauge", "Resident memory, in bytes.", resident);
    sample("process_virtual_memory_bytes", "gauge", "Virtual memory, in bytes.", virtual_);
    let (open, most) = (whole(usage.open_files), whole(usage.open_files_max));
    sample("process_open_fds", "gauge", "Open file descriptors.", open);
    sample("process_max_fds", "gauge", "The limit on open file descriptors.", most);
}

fn durations(page: &mut Page, name: &str, label: (&str, &str), durations: &Durations) {
    let counts: Vec<u64> = durations.counts.iter().map(read).collect();
    let sum = Duration::from_micros(read(&durations.sum_micros));
    page.histogram(name, Some(label), ENDS_MS.iter().map(|end| *end as f64 / 1e3), &counts, sum);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
