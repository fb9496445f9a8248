//! The declaration of every setting; see the head of `config.rs` for how a row is written.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use loom_definition::policy::RetryPolicy;

use super::{
    Effective, Setting,
    kind::{Kind, Typed},
    layers,
};

macro_rules! settings {
    ($($group:literal { $($(#[doc = $help:literal])+ $field:ident: $type:ty = $row:expr;)+ })+) => {
        /// Every setting, in the order of the page.
        pub(crate) static TABLE: &[Setting] = &[$($(Setting {
            field: stringify!($field),
            group: $group,
            help: concat!($($help),+),
            check: |kind, texts| <$type as Typed>::read(kind, texts).map(drop),
            ..$row
        }),+),+];

        /// What the settings are.
        #[derive(Clone, Debug)]
        pub(crate) struct Values {
            $($($(#[doc = $help])+ pub(crate) $field: $type,)+)+
        }

        impl Values {
            /// Reads what stands in the places of the table.
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
        /// A folder of definitions: `*.json`, and `NAME/workflow.json`. Changes are deployed as they happen.
        workflows: Option<PathBuf> = directory();
        /// App settings, and settings of the host under `Loom`. Without it `local.settings.json` of the project.
        settings: Option<PathBuf> = file().shared();
        /// Values for the parameters of a deployment template: its parameters file, or only names to values.
        template_params: Option<PathBuf> = file().shared();
        /// Connections: names to addresses and credentials. Without it `connections.json` of the project.
        connections: Option<PathBuf> = file().shared();
        /// The file in which `loom secrets` keeps what `secret('name')` gives. Without it `secrets.json` in the data folder.
        secrets: Option<PathBuf> = file().shared();
        /// A folder that holds a file for each further secret, such as /run/secrets.
        secrets_dir: Option<PathBuf> = directory().shared();
    }
    "Listening" {
        /// Where to listen: an address and a port, or a port of this machine alone. Any but a loopback address needs a token.
        /// Port 0 takes a free one.
        addr: SocketAddr = row(Kind::Address).default("127.0.0.1:7070");
        /// The address at which others reach this server; callbacks and answers are sent there.
        public_url: Option<String> = url();
        /// A file whose first line is the token that callers must send as `Authorization: Bearer …`.
        token_file: Option<PathBuf> = file().live();
        /// The token itself; other users of this machine may see it in the list of processes.
        token: Option<String> = text().named("TOKEN").secret().live().excludes(&["token_file"]);
        /// How long a caller waits for a Response before it is answered 504; the run continues.
        response_timeout: Duration = duration(1, 86_400).default("120s").live();
        /// How long a response may wait for its caller to take any of it, before the connection is closed.
        write_timeout: Duration = duration(1, 86_400).default("30s");
        /// How long calls in flight may take to end when the server is asked to stop; meanwhile `/readyz` answers 503.
        drain: Duration = duration(0, 3_600).default("20s").live();
    }
    "Storage" {
        /// The folder in which runs are kept.
        data: PathBuf = directory().default(".loom");
        /// Keep runs in memory only; they end with the process.
        memory: bool = switch().excludes(&["data", "relaxed", "key_file"]);
        /// Do not wait for the disk: runs survive the process, but the most recent may be lost on power failure.
        relaxed: bool = switch();
        /// Encrypt what runs hold, with the key in this file: 64 hexadecimal digits. A folder keeps the key it was created with.
        key_file: Option<PathBuf> = file();
        /// Days for which ended runs are kept with their history; their rows in lists stay 60 days longer.
        retain_days: u64 = count(0, 36_500).named("DAYS").default("30").live();
        /// Space that all runs may take; beyond that, those that ended first are forgotten.
        retain_bytes: u64 = bytes(0, u64::MAX).default("10GiB").live();
        /// Ended runs that are kept with their history. Without it their number does not matter.
        retain_runs: Option<u64> = count(0, u64::MAX).live();
        /// Rows of forgotten runs that stay in lists. They take a quarter of retain-bytes at most, too.
        retain_rows: u64 = count(0, u64::MAX).default("1000000").live();
    }
    "Limits" {
        /// Runs in progress at once; more are refused with 429. Runs from a restart, and from a `splitOn` with more than 256 items, wait for their turn.
        runs_max: u64 = count(1, 4_294_967_295).default("10000").live();
        /// Steps that the expressions of one action may take together. A function call is a step, and it takes more in proportion to
        /// what it reads and makes.
        evaluation_steps_max: u64 = count(1_000, u64::MAX).default("20000000").shared();
        /// Memory that the values of one run may take: variables, inputs, outputs and what loops collect.
        run_bytes_max: u64 = bytes(64 << 10, u64::MAX).default("256MiB").shared();
        /// Nodes that one validation against a JSON schema may visit; a value counts once for each schema it is checked against.
        schema_nodes_max: u64 = count(1_000, u64::MAX).default("1000000").shared();
        /// Values that one JSON text may hold: arrays, objects and everything in them.
        json_values_max: u64 = count(1_000, u64::MAX).default("2000000").shared();
        /// Memory that the bodies of all requests in progress may take together; more are refused with 503.
        bodies_bytes_max: u64 = bytes(100 << 20, u64::MAX).default("512MiB");
        /// The longest chain of child workflows below a run; 0 allows no child workflows.
        child_depth_max: u64 = count(0, 100).default("32").shared();
        /// The longest a run may take. Without it 90 days.
        run_duration_max: Option<Duration> = duration(0, 315_360_000).shared();
        /// The longest one request may take when its action does not say. Without it 120 s.
        attempt_timeout: Option<Duration> = duration(0, 86_400).shared();
        /// The retry policy of requests that name none. Without it four retries with growing waits.
        default_retry_policy: Option<RetryPolicy> = row(Kind::Policy).shared();
    }
    "Requests of actions" {
        /// Where requests really go: a JSON object of address to address.
        egress: Option<PathBuf> = file().shared();
        /// A host that actions may send requests to: `example.com`, `example.com:8443`, `*.example.com`. May be repeated;
        /// without it every host is allowed.
        allow_host: Vec<String> = list().named("HOST").shared();
        /// Refuse requests to loopback, private and link-local addresses, whatever name leads to them. Places that egress names are
        /// excepted, and the address of a connection for what goes through that connection.
        deny_private: bool = switch().shared();
        /// Let the credentials of requests to one host go along when its answer leads on to another, as in
        /// `api.example.com=*.files.example.com`. Without it they stay behind. May be repeated.
        share_credentials: Vec<String> = list().named("FROM=TO").shared();
        /// Bodies up to this size are sent in one request, also when their action asks for pieces (`transferMode: Chunked`).
        chunk_threshold: u64 = bytes(0, u64::MAX).default("1MiB").shared();
        /// Where tokens come from, whatever an action says.
        authority: Option<String> = url().shared();
        /// Where tokens of managed identities come from.
        identity_endpoint: Option<String> = url().shared();
    }
    "Traces" {
        /// Send traces of runs to a collector that speaks OTLP over HTTP, such as http://127.0.0.1:4318. The `OTEL_…` variables
        /// of OpenTelemetry are read, too.
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
