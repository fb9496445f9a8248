//! Registers processes as nodes, and says which shards each of them owns.
//!
//! A node has a row with its lease, which only its renewals write, and a row for each of its writing connections in `fence`, which
//! only who fences it writes. The statement of a group locks the latter in share mode, so a fence waits for the statements in
//! progress, and those that come later read that the node is fenced. Claims depend on evidence that a node was fenced, never on the
//! absence of a row, so that an old snapshot cannot make a shard look free.

use std::{sync::Arc, time::Duration};

use loom_store::{Answer, Conflict, Error, NewNode, Node, NodeId, Ownership, Shard, Shards};
use tokio_postgres::Row;

use crate::{
    connect::{Role, Session},
    rows,
    store::PostgresStore,
};

const REGISTER: &str = "WITH n AS (INSERT INTO node (name, address, lease, lease_until, version, reads, settings)
        VALUES ($1, $2, make_interval(secs => $3), clock_timestamp() + make_interval(secs => $3), $4, $5, $6) RETURNING id),
    f AS (INSERT INTO fence (node, lane) SELECT n.id, lane FROM n, generate_series(0, 1) AS lane)
    SELECT id FROM n";

/// The row of the node itself says whether it was fenced: after a wait for its lock, only this row is read again.
const RENEW: &str = "UPDATE node SET lease_until = clock_timestamp() + lease WHERE id = $1 AND NOT fenced";

const CLAIM: &str = "WITH me AS MATERIALIZED (SELECT 1 FROM fence WHERE node = $1 AND lane = 1 AND NOT fenced FOR SHARE),
    free AS MATERIALIZED (SELECT s.id FROM shard s WHERE EXISTS (SELECT 1 FROM me)
            AND s.format <= (SELECT reads FROM node WHERE id = $1)
            AND (s.owner IS NULL OR EXISTS (SELECT 1 FROM fence f WHERE f.node = s.owner AND f.lane = 0 AND f.fenced))
        ORDER BY s.id LIMIT $2 FOR UPDATE OF s SKIP LOCKED),
    claimed AS (UPDATE shard SET owner = $1, since = clock_timestamp() FROM free WHERE shard.id = free.id RETURNING shard.id)
    SELECT (SELECT count(*) FROM me) > 0, ARRAY(SELECT id FROM claimed)";

const RELEASE: &str =
    "UPDATE shard SET owner = NULL, since = clock_timestamp() WHERE id = ANY($2) AND owner = $1";

const FENCE: &str =
    "WITH me AS MATERIALIZED (SELECT 1 FROM fence WHERE node = $1 AND lane = 1 AND NOT fenced FOR SHARE),
    dead AS (UPDATE node SET fenced = true WHERE id = $2 AND NOT fenced AND EXISTS (SELECT 1 FROM me)
        AND (id = $1 OR lease_until < clock_timestamp()) RETURNING id),
    cut AS (UPDATE fence SET fenced = true FROM dead WHERE fence.node = dead.id RETURNING 1)
    SELECT (SELECT count(*) FROM me) > 0, (SELECT count(*) FROM cut) > 0";

/// The owner of a shard changes only after a fence, which waits for the lock of this statement.
const RAISE: &str =
    "WITH me AS MATERIALIZED (SELECT 1 FROM fence WHERE node = $1 AND lane = 1 AND NOT fenced FOR SHARE),
    raised AS (UPDATE shard SET format = $3 FROM me WHERE shard.id = ANY($2) AND shard.owner = $1 AND shard.format < $3 RETURNING shard.id)
    SELECT (SELECT count(*) FROM me) > 0,
        ARRAY(SELECT id FROM raised UNION SELECT id FROM shard WHERE owner = $1 AND format >= $3)";

const NODES: &str =
    "SELECT n.id, n.name, n.address, n.version, n.reads, n.settings, coalesce((SELECT max(s.format) FROM shard s WHERE s.owner = n.id), 0) AS format, ARRAY(SELECT s.id FROM shard s WHERE s.owner = n.id) AS shards
    FROM node n WHERE NOT n.fenced ORDER BY n.id";

fn failed(source: tokio_postgres::Error) -> Error {
    Error::io("use the leases of nodes", source)
}

fn shards(numbers: Vec<i32>) -> Shards {
    numbers.into_iter().filter_map(|number| u16::try_from(number).ok()).map(Shard::new).collect()
}

/// The database has the form of 64 bits with a sign. A node with a larger id was never registered.
fn id(node: NodeId) -> i64 {
    i64::try_from(node.0).unwrap_or(i64::MAX)
}

/// Formats are small numbers.
fn format(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl PostgresStore {
    /// Uses a connection for leases or for claims. A statement is not repeated: whether it took effect is asked with the next one.
    fn lease<T, F>(&self, role: Role, ask: impl FnOnce(Session) -> F + Send + 'static) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let backend = self.backend();
        Box::pin(async move {
            let session = backend.session(role).await?;
            let answer = session.within(ask(session.clone())).await.and_then(|answer| answer);
            backend.unless_closed(answer)
        })
    }
}

impl Ownership for PostgresStore {
    fn register(&self, node: NewNode) -> Answer<NodeId> {
        self.lease(Role::Lease, move |session| async move {
            let (name, address) = (crate::text::stored(&node.name), crate::text::stored(&node.address));
            let lease = node.lease.as_secs_f64();
            let (version, settings) =
                (crate::text::stored(&node.version), crate::text::stored(&node.settings));
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&name, &address, &lease, &version, &format(node.reads), &settings];
            let row = session.query_opt(REGISTER, &values).await.map_err(failed)?;
            let id: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
            Ok(NodeId(id.cast_unsigned()))
        })
    }

    fn renew(&self, node: NodeId) -> Answer<()> {
        self.lease(Role::Lease, move |session| async move {
            match session.execute(RENEW, &[&id(node)]).await.map_err(failed)? {
                0 => Err(Conflict::Fenced { node }.into()),
                _ => Ok(()),
            }
        })
    }

    fn claim(&self, node: NodeId, shards_max: usize) -> Answer<Shards> {
        let most = i64::try_from(shards_max).unwrap_or(i64::MAX);
        self.lease(Role::Claims, move |session| async move {
            let row = session.query_opt(CLAIM, &[&id(node), &most]).await.map_err(failed)?;
            let (is_live, claimed): (bool, Vec<i32>) = pair(row.as_ref())?;
            if is_live { Ok(shards(claimed)) } else { Err(Conflict::Fenced { node }.into()) }
        })
    }

    fn release(&self, node: NodeId, shards: Shards) -> Answer<()> {
        let numbers = rows::shard_numbers(&shards);
        self.lease(Role::Claims, move |session| async move {
            session.execute(RELEASE, &[&id(node), &numbers]).await.map(drop).map_err(failed)
        })
    }

    fn owned(&self, node: NodeId) -> Answer<Shards> {
        self.lease(Role::Claims, move |session| async move {
            let sql = "SELECT ARRAY(SELECT id FROM shard WHERE owner = $1)";
            let row = session.query_opt(sql, &[&id(node)]).await.map_err(failed)?;
            row.map_or(Ok(Shards::NONE), |row| row.try_get(0).map(shards).map_err(failed))
        })
    }

    fn fence(&self, by: NodeId, node: NodeId) -> Answer<bool> {
        self.lease(Role::Claims, move |session| async move {
            let row = session.query_opt(FENCE, &[&id(by), &id(node)]).await.map_err(failed)?;
            let (is_live, is_fenced) = pair(row.as_ref())?;
            if is_live { Ok(is_fenced) } else { Err(Conflict::Fenced { node: by }.into()) }
        })
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        self.lease(Role::Claims, |session| async move {
            let found = session.query(NODES, &[]).await.map_err(failed)?;
            found.iter().map(node).collect()
        })
    }

    fn describe(&self, node: NodeId, settings: Arc<str>) -> Answer<()> {
        self.lease(Role::Claims, move |session| async move {
            let sql = "UPDATE node SET settings = $2 WHERE id = $1";
            session
                .execute(sql, &[&id(node), &crate::text::stored(&settings)])
                .await
                .map(drop)
                .map_err(failed)
        })
    }

    fn raise(&self, node: NodeId, shards: Shards, format: u32) -> Answer<Shards> {
        let numbers = rows::shard_numbers(&shards);
        self.lease(Role::Claims, move |session| async move {
            let format = self::format(format);
            let row = session.query_opt(RAISE, &[&id(node), &numbers, &format]).await.map_err(failed)?;
            let (is_live, raised): (bool, Vec<i32>) = pair(row.as_ref())?;
            if is_live { Ok(self::shards(raised)) } else { Err(Conflict::Fenced { node }.into()) }
        })
    }

    fn time(&self) -> Answer<Duration> {
        self.lease(Role::Claims, |session| async move {
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
            let row = session.query_opt(sql, &[]).await.map_err(failed)?;
            let micros: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
            Ok(Duration::from_micros(micros.cast_unsigned()))
        })
    }
}

fn pair<'r, T: tokio_postgres::types::FromSql<'r> + Default>(
    row: Option<&'r Row>,
) -> Result<(bool, T), Error> {
    let Some(row) = row else { return Ok((false, T::default())) };
    Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?))
}

fn node(row: &Row) -> Result<Node, Error> {
    Ok(Node {
        id: NodeId(rows::get::<i64>(row, "id")?.cast_unsigned()),
        name: rows::name(row, "name")?,
        address: rows::name(row, "address")?,
        version: rows::name(row, "version")?,
        reads: rows::get::<i32>(row, "reads")?.cast_unsigned(),
        settings: rows::name(row, "settings")?,
        shards: shards(rows::get(row, "shards")?),
        format: rows::get::<i32>(row, "format")?.cast_unsigned(),
    })
}
