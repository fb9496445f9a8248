-- Every table is in one schema, which is the search path of every connection. Texts that callers choose are compared byte by
-- byte, whatever the locale of the database.

CREATE TABLE meta (name text PRIMARY KEY, number bigint NOT NULL);
INSERT INTO meta VALUES ('application', 1282371437), ('format', 1), ('shards', 1024), ('writers_removed', 0);

-- A process that owns shards. Its id is never used again, so it is the fencing token.
CREATE TABLE node (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    address text NOT NULL,
    lease interval NOT NULL,
    lease_until timestamptz NOT NULL,
    fenced boolean NOT NULL DEFAULT false,
    registered timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What statements of a node lock in share mode, and only who fences it writes. One row for each connection that writes for the
-- node: 0 for its commits, 1 for its claims, so that no two of its statements share a lock.
CREATE TABLE fence (node bigint NOT NULL, lane smallint NOT NULL, fenced boolean NOT NULL DEFAULT false, PRIMARY KEY (node, lane));

CREATE TABLE shard (id int PRIMARY KEY, owner bigint, since timestamptz) WITH (fillfactor = 50);
CREATE INDEX shard_owner ON shard (owner);
INSERT INTO shard (id) SELECT generate_series(0, 1023);

-- Numbers that are assigned in the order of commits, because their rows stay locked until the commit.
CREATE TABLE counter (name text PRIMARY KEY, number bigint NOT NULL) WITH (fillfactor = 20);
INSERT INTO counter VALUES ('inbox', 0);

CREATE TABLE definition (hash bytea PRIMARY KEY, codec smallint NOT NULL, body bytea NOT NULL);
ALTER TABLE definition ALTER body SET STORAGE EXTERNAL;

CREATE TABLE run (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    definition bytea NOT NULL,
    status int NOT NULL,
    started bigint,
    ended bigint,
    origin bigint,
    attempt bigint NOT NULL,
    parent bigint,
    parent_path text COLLATE "C",
    idempotency_key text COLLATE "C",
    wake_at bigint,
    error text COLLATE "C",
    error_text text COLLATE "C",
    trigger_name text COLLATE "C",
    tracking_id text COLLATE "C",
    flags int NOT NULL,
    details bytea NOT NULL,
    crc bigint NOT NULL,
    purged smallint NOT NULL DEFAULT 0,
    -- The payload of its frames, snapshots and blobs, in bytes.
    bytes bigint NOT NULL DEFAULT 0,
    -- Its last change in the feed.
    writer bigint NOT NULL,
    change bigint NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX run_shard ON run (shard, id);
CREATE INDEX run_unfinished ON run (id) WHERE ended IS NULL;
CREATE INDEX run_open ON run (shard, id) WHERE ended IS NULL;
CREATE INDEX run_ended ON run (purged, ended, id) INCLUDE (bytes) WHERE ended IS NOT NULL;
CREATE INDEX run_workflow ON run (workflow, id);
CREATE INDEX run_status ON run (status, id);
CREATE INDEX run_error ON run (error, id) WHERE error IS NOT NULL;
CREATE INDEX run_parent ON run (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX run_tracking ON run (tracking_id, id) WHERE tracking_id IS NOT NULL;
CREATE INDEX run_flagged ON run (id) WHERE flags <> 0;
CREATE UNIQUE INDEX run_idempotency ON run (workflow, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- By run id, which is by the time of acceptance: one partition a week.
CREATE TABLE frame (
    run bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    node bigint NOT NULL,
    codec smallint NOT NULL,
    payload bytea NOT NULL,
    crc bigint NOT NULL,
    PRIMARY KEY (run, seq)
) PARTITION BY RANGE (run);
-- Payloads are compressed or sealed already.
ALTER TABLE frame ALTER payload SET STORAGE EXTERNAL;

CREATE TABLE snapshot (
    run bigint PRIMARY KEY, upto bigint NOT NULL, codec smallint NOT NULL, state bytea NOT NULL, crc bigint NOT NULL
) WITH (fillfactor = 70);
ALTER TABLE snapshot ALTER state SET STORAGE EXTERNAL;

CREATE TABLE timer (
    run bigint NOT NULL, number bigint NOT NULL, shard int NOT NULL, due bigint NOT NULL, kind int NOT NULL, PRIMARY KEY (run, number)
);
CREATE INDEX timer_due ON timer (due, run, number);

CREATE TABLE inbox (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    run bigint,
    kind int NOT NULL,
    at bigint NOT NULL,
    idempotency_key text COLLATE "C",
    payload bytea NOT NULL,
    crc bigint NOT NULL,
    -- The run that consumed it; -1 when something else did.
    taken_by bigint
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX inbox_pending ON inbox (id) WHERE taken_by IS NULL;
CREATE INDEX inbox_run ON inbox (run, id);
CREATE INDEX inbox_taken ON inbox (taken_by) WHERE taken_by IS NOT NULL;
CREATE UNIQUE INDEX inbox_idempotency ON inbox ((coalesce(run, -1)), idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Codecs 0 and 1 have a body; 2 has its content in parts; 3 is being uploaded.
CREATE TABLE blob (
    hash bytea PRIMARY KEY, size bigint NOT NULL, codec smallint NOT NULL, body bytea, made timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE blob ALTER body SET STORAGE EXTERNAL;
CREATE INDEX blob_uploaded ON blob (made) WHERE codec >= 2;
CREATE TABLE blob_part (hash bytea NOT NULL, part int NOT NULL, body bytea NOT NULL, PRIMARY KEY (hash, part));
ALTER TABLE blob_part ALTER body SET STORAGE EXTERNAL;
CREATE TABLE blob_ref (run bigint NOT NULL, hash bytea NOT NULL, PRIMARY KEY (run, hash));
CREATE INDEX blob_ref_hash ON blob_ref (hash);
-- Uploaded content that a commit is about to refer to.
CREATE TABLE blob_pin (hash bytea NOT NULL, holder bigint NOT NULL, made timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (hash, holder));

CREATE SEQUENCE named_version CACHE 1;
CREATE TABLE named (
    namespace text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value bytea NOT NULL,
    expires bigint,
    run bigint,
    crc bigint NOT NULL,
    PRIMARY KEY (namespace, key)
) WITH (fillfactor = 70);
CREATE INDEX named_expires ON named (expires) WHERE expires IS NOT NULL;
CREATE INDEX named_run ON named (run) WHERE run IS NOT NULL;

-- Connections whose commits take effect one after the other. Positions up to `forgotten` may be incomplete.
CREATE TABLE writer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    forgotten bigint NOT NULL DEFAULT 0,
    seen timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- One row for each statement that wrote: what it changed, and what it returned. The key decides the fate of a statement whose
-- answer was lost.
CREATE TABLE change (
    writer bigint NOT NULL,
    number bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused int[] NOT NULL DEFAULT '{}',
    runs bigint[] NOT NULL DEFAULT '{}',
    messages bigint[] NOT NULL DEFAULT '{}',
    recipients bigint[] NOT NULL DEFAULT '{}',
    posted bigint[] NOT NULL DEFAULT '{}',
    namespaces text[] NOT NULL DEFAULT '{}',
    keys text[] NOT NULL DEFAULT '{}',
    versions bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (writer, number)
);
CREATE INDEX change_at ON change (at);
