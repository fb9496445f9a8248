//! The declarations of all settings; `config.rs` explains how to write a row.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use loom_definition::policy::RetryPolicy;
use loom_engine::JOURNAL_FORMAT;

use crate::logs::{LogFormat, LogLevel};

use super::{
    Effective, Setting,
    kind::{Kind, Typed},
    layers,
};

macro_rules! settings {
    ($($group:literal { $($(#[doc = $help:literal])+ $field:ident: $type:ty = $row:expr;)+ })+) => {
        /// All settings, in the order of the page.
        pub(crate) static TABLE: &[Setting] = &[$($(Setting {
            field: stringify!($field),
            group: $group,
            help: concat!($($help),+),
            check: |kind, texts| <$type as Typed>::read(kind, texts).map(drop),
            ..$row
        }),+),+];

        /// The values of all settings.
        #[derive(Clone, Debug)]
        pub(crate) struct Values {
            $($($(#[doc = $help])+ pub(crate) $field: $type,)+)+
        }

        impl Values {
            /// Parses the effective values, in the order of the table.
            pub(super) fn read(effective: &[Effective]) -> anyhow::Result<Values> {
                let mut rows = TABLE.iter().zip(effective);
                Ok(Values {
                    $($($field: {
                        let (setting, given) = rows.next().expect("there is a value for each row");
                        <$type as Typed>::read(&setting.kind, &given.texts)
                            .map_err(|why| layers::refused(setting, &given.origin, &why))?
                    },)+)+
                })
            }
        }
    };
}

settings! {
    "Workflows" {
        /// A directory of definitions (`*.json` and `NAME/workflow.json`). Changes are deployed automatically.
        workflows: Option<PathBuf> = directory();
        /// The app settings file, with Loom's settings under `Loom`. Defaults to the project's `local.settings.json`.
        settings: Option<PathBuf> = file().shared();
        /// The parameters of a deployment template: an ARM parameters file or an object of names and values.
        template_params: Option<PathBuf> = file().shared();
        /// The connections file, which maps names to URLs and credentials. Defaults to the project's `connections.json`.
        connections: Option<PathBuf> = file().shared();
        /// The file of `loom secrets`, which holds the values of `secret('NAME')`. Defaults to `secrets.json` in the data directory.
        secrets: Option<PathBuf> = file().shared();
        /// A directory with one file per additional secret, such as /run/secrets.
        secrets_dir: Option<PathBuf> = directory().shared();
        /// A file that describes further secret providers, such as HashiCorp Vault, and the order in which providers are asked.
        secret_providers: Option<PathBuf> = file().shared();
        /// Days for which the audit of secrets is kept. Entries keep the time that was set when they were written.
        secret_audit_days: u64 = count(1, 36_500).named("DAYS").default("365").shared();
        /// Warn of secrets that expire within this many days; 0 never warns.
        secret_expiry_days: u64 = count(0, 3_650).named("DAYS").default("14");
        /// A workflow that may call `declassify()`: its name, or a pattern such as `report-*`. May be repeated. Defaults to none.
        declassify: Vec<String> = list().named("WORKFLOW").shared();
    }
    "Listening" {
        /// The address and port to listen on; a port alone listens on 127.0.0.1, and port 0 takes a free port. Addresses other than
        /// loopback require a token.
        addr: SocketAddr = row(Kind::Address).default("127.0.0.1:7070");
        /// The URL under which other machines reach this server; used in trigger and callback URLs.
        public_url: Option<String> = url();
        /// A file whose first line is the token that callers must send as `Authorization: Bearer TOKEN`.
        token_file: Option<PathBuf> = file().live();
        /// The token itself. Prefer token-file: other users of this machine can see arguments in the process list.
        token: Option<String> = text().named("TOKEN").secret().live().excludes(&["token_file"]);
        /// The time a caller waits for a Response action before it gets 504; the run continues.
        response_timeout: Duration = duration(1, 86_400).default("120s").live();
        /// The time after which a connection is closed if its caller does not read any part of the response.
        write_timeout: Duration = duration(1, 86_400).default("30s");
        /// The time that calls in flight may take to finish at shutdown; `/readyz` returns 503 meanwhile.
        drain: Duration = duration(0, 3_600).default("20s").live();
    }
    "Storage" {
        /// The data directory, in which runs are stored.
        data: PathBuf = directory().default(".loom");
        /// Store runs in memory only; they are lost when the process ends.
        memory: bool = switch().excludes(&["data", "relaxed", "key_file"]);
        /// Do not wait for the disk: runs survive the process, but the most recent may be lost on power failure.
        relaxed: bool = switch();
        /// Encrypt the data of runs with the key in this file (64 hexadecimal digits). The key of a data directory cannot be changed.
        key_file: Option<PathBuf> = file();
        /// Store runs in this PostgreSQL database, which several nodes can share: `postgres://user@host:5432/database`. Several hosts may
        /// be given, separated by commas; the one that accepts writes is used.
        store: Option<String> = text().named("URL").secret().excludes(&["data", "memory"]);
        /// A file whose first line is the password of the database. Defaults to the variable `PGPASSWORD`.
        store_password_file: Option<PathBuf> = file();
        /// A PEM file with the certificates that may have signed that of the database. Defaults to those of the public authorities.
        store_ca: Option<PathBuf> = file();
        /// Days for which ended runs are kept with their history; they stay in lists for 60 more days.
        retain_days: u64 = count(0, 36_500).named("DAYS").default("30").live();
        /// The disk space for all runs; when it is exceeded, the runs that ended first are removed.
        retain_bytes: u64 = bytes(0, u64::MAX).default("10GiB").live();
        /// The number of ended runs that are kept with their history. Defaults to no limit.
        retain_runs: Option<u64> = count(0, u64::MAX).live();
        /// The number of removed runs that stay in lists. They also take at most a quarter of retain-bytes.
        retain_rows: u64 = count(0, u64::MAX).default("1000000").live();
    }
    "Cluster" {
        /// The name of this node in lists of nodes. Defaults to the name of the machine.
        node_name: Option<String> = text().named("NAME");
        /// Where other nodes reach this one, as `host:port`. Defaults to the address that it listens on.
        node_address: Option<String> = text().named("HOST:PORT");
        /// How long a node owns its runs without renewing its lease. Another node takes them over when it ends.
        lease: Duration = duration(1, 60).default("3s");
        /// The newest format of journals that this node reads and writes. Set it to the format of the version before to be able to return
        /// to that version after an upgrade. Defaults to the newest that the program knows.
        journal_format: Option<u64> = count(1, JOURNAL_FORMAT as u64).named("NUMBER");
    }
    "Limits" {
        /// The maximum number of runs in memory; further ones are rejected with 429. Runs resumed at a start, and those of a
        /// `splitOn` with more than 256 items, wait in a queue. Runs that only wait leave memory; see park-after.
        runs_max: u64 = count(1, 4_294_967_295).default("10000").live();
        /// How long a run stays in memory while it only waits for a signal, a callback or a child workflow. A run that waits for a
        /// timer leaves memory at once, if the timer is due later than that.
        park_after: Duration = duration(1, 86_400).default("10s");
        /// The evaluation steps of all expressions of one action. A function call is one step, plus more in proportion to the size of
        /// its inputs and result.
        evaluation_steps_max: u64 = count(1_000, u64::MAX).default("20000000").shared();
        /// The memory for the values of one run: variables, inputs, outputs and the results that loops collect.
        run_bytes_max: u64 = bytes(64 << 10, u64::MAX).default("256MiB").shared();
        /// The nodes that one JSON schema validation may visit; a value counts once for each schema it is checked against.
        schema_nodes_max: u64 = count(1_000, u64::MAX).default("1000000").shared();
        /// The number of values in one JSON document: arrays, objects and everything in them.
        json_values_max: u64 = count(1_000, u64::MAX).default("2000000").shared();
        /// The memory for the bodies of all requests in progress; further requests are rejected with 503.
        bodies_bytes_max: u64 = bytes(100 << 20, u64::MAX).default("512MiB");
        /// The maximum nesting depth of child workflows; 0 allows no child workflows.
        child_depth_max: u64 = count(0, 100).default("32").shared();
        /// The maximum duration of a run. Defaults to 90 days.
        run_duration_max: Option<Duration> = duration(0, 315_360_000).shared();
        /// The timeout of one request if its action does not set one. Defaults to 120 s.
        attempt_timeout: Option<Duration> = duration(0, 86_400).shared();
        /// The retry policy of requests whose action does not set one. Defaults to four retries with exponential backoff.
        default_retry_policy: Option<RetryPolicy> = row(Kind::Policy).shared();
        /// The file of named policies, which actions use by `policy`. Defaults to `resilience.json` of the project.
        resilience: Option<PathBuf> = file().shared().live();
    }
    "Outgoing requests" {
        /// A file that redirects requests: a JSON object that maps URLs to URLs.
        egress: Option<PathBuf> = file().shared();
        /// A host that actions may call: `example.com`, `example.com:8443`, `*.example.com`. May be repeated. Defaults to all hosts.
        allow_host: Vec<String> = list().named("HOST").shared();
        /// Reject requests that resolve to loopback, private or link-local addresses. Targets in the egress file are exempt, and so is
        /// the URL of a connection for requests through that connection.
        deny_private: bool = switch().shared();
        /// Forward credentials to another host that a response leads to, as in `api.example.com=*.files.example.com`. They are dropped by
        /// default. May be repeated.
        share_credentials: Vec<String> = list().named("FROM=TO").shared();
        /// Bodies up to this size are sent in one request even if their action sets `transferMode` to `Chunked`.
        chunk_threshold: u64 = bytes(0, u64::MAX).default("1MiB").shared();
        /// The URL of the OAuth authority, which overrides that of actions.
        authority: Option<String> = url().shared();
        /// The URL of the token endpoint for managed identities.
        identity_endpoint: Option<String> = url().shared();
    }
    "Logs" {
        /// The least severe level that is logged on standard error: `error`, `warn`, `info` or `debug`; also by module, as in
        /// `warn,loom_server=debug`. Defaults to the variable `RUST_LOG`, then to `info`.
        log_level: Option<LogLevel> = text().named("LEVEL");
        /// The format of the log: `text`, or `json` for one object per line with its time.
        log_format: LogFormat = text().named("FORMAT").default("text");
    }
    "Traces" {
        /// Send traces of runs to an OTLP/HTTP collector, such as http://127.0.0.1:4318. The `OTEL_*` variables of OpenTelemetry are
        /// also read.
        otlp: Option<String> = url();
    }
}

const fn row(kind: Kind) -> Setting {
    Setting {
        field: "",
        group: "",
        help: "",
        kind,
        default: None,
        value_name: None,
        shared: false,
        live: false,
        secret: false,
        excludes: &[],
        check: |_, _| Ok(()),
    }
}

const fn switch() -> Setting {
    row(Kind::Switch).default("false")
}

const fn count(min: u64, max: u64) -> Setting {
    row(Kind::Count { min, max })
}

/// The range is in seconds.
const fn duration(min: u64, max: u64) -> Setting {
    row(Kind::Duration { min, max })
}

const fn bytes(min: u64, max: u64) -> Setting {
    row(Kind::Bytes { min, max })
}

const fn url() -> Setting {
    row(Kind::Url)
}

const fn file() -> Setting {
    row(Kind::File)
}

const fn directory() -> Setting {
    row(Kind::Directory)
}

const fn text() -> Setting {
    row(Kind::Text)
}

const fn list() -> Setting {
    row(Kind::List)
}

impl Setting {
    const fn default(self, text: &'static str) -> Setting {
        Setting { default: Some(text), ..self }
    }

    const fn named(self, value_name: &'static str) -> Setting {
        Setting { value_name: Some(value_name), ..self }
    }

    const fn shared(self) -> Setting {
        Setting { shared: true, ..self }
    }

    const fn live(self) -> Setting {
        Setting { live: true, ..self }
    }

    const fn secret(self) -> Setting {
        Setting { secret: true, ..self }
    }

    const fn excludes(self, fields: &'static [&'static str]) -> Setting {
        Setting { excludes: fields, ..self }
    }
}
