//! The management API of nodes.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use loom_expression::{Object, Value};
use loom_store::Node;

use super::forward;
use crate::{
    cluster::Cluster,
    host::Host,
    listing::list,
    path::Path,
    request,
    response::{Answer, Problem, json},
    shared::Shared,
};

/// `GET /api/v1/nodes`: the live nodes and what they own. Empty for a server that is no node.
pub(crate) async fn nodes(State(shared): State<Shared>) -> Answer {
    let Some(cluster) = &shared.host.cluster else { return Ok(list("nodes", Vec::new(), None)) };
    let nodes = shared.host.store.nodes().await?;
    Ok(list("nodes", nodes.iter().map(|node| shown(cluster, node).into()).collect(), None))
}

fn shown(cluster: &Cluster, node: &Node) -> Object {
    let mut object = Object::new();
    object.insert("id", node.id.to_string());
    object.insert("name", Arc::clone(&node.name));
    object.insert("address", Arc::clone(&node.address));
    object.insert("shards", node.shards.len() as i64);
    object.insert("version", Arc::clone(&node.version));
    object.insert("journalFormat", i64::from(node.reads));
    let differences = cluster.differences(node).into_iter().map(Value::from);
    object.insert("differsIn", differences.collect::<Vec<Value>>());
    object.insert("isThisNode", Some(node.id) == cluster.standing.node());
    object
}

/// `POST /api/v1/nodes/{node}/drain`: lets a node give its shards to the others. It still serves requests, and passes them on.
pub(crate) async fn drain(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    request::only(request.uri(), &[])?;
    let unknown = || Problem::not_found("NodeNotFound", format!("There is no live node '{name}'."));
    let cluster = shared.host.cluster.as_ref().ok_or_else(unknown)?;
    let nodes = shared.host.store.nodes().await?;
    let named = |node: &&Node| node.id.to_string() == name || *node.name == *name;
    let mut found = nodes.iter().filter(named);
    let node = found.next().ok_or_else(unknown)?;
    if found.next().is_some() {
        let message = format!("Several live nodes have the name '{name}'; use the id of one of them.");
        return Err(Problem::new(StatusCode::CONFLICT, "NodeNameAmbiguous", message));
    }
    if Some(node.id) == cluster.standing.node() {
        cluster.drain();
        return Ok(json(StatusCode::OK, &shown(cluster, node).into()));
    }
    forward::to_node(&shared, &node.address, request).await
}

/// What `/healthz` and `/readyz` say of the cluster.
pub(crate) fn summary(host: &Host) -> Option<Value> {
    let cluster = host.cluster.as_ref()?;
    let mut object = Object::new();
    object.insert("name", Arc::clone(&cluster.settings.name));
    object.insert("node", cluster.standing.node().map(|node| node.to_string()));
    object.insert("shards", cluster.standing.owned().len() as i64);
    let nodes = cluster.nodes();
    object.insert("nodes", nodes.len() as i64);
    let owned: usize = nodes.iter().map(|node| node.shards.len()).sum();
    object.insert("shardsOwned", owned as i64);
    let different = nodes.iter().filter(|node| !cluster.differences(node).is_empty());
    let different = different.map(|node| Value::from(Arc::clone(&node.name)));
    object.insert("nodesThatDiffer", different.collect::<Vec<Value>>());
    Some(object.into())
}
