//! Signed addresses: callbacks of actions, and signatures of triggers.

use hyper::Method;
use loom_expression::Value;
use loom_server::ServerSettings;
use loom_testkit::mock::Mock;

use crate::support::{Plan, Reply, World, json, list, on_disk, requested, text};

/// A service that accepts everything.
async fn service() -> Mock {
    Mock::start(&json(r#"[{"path": "/*", "response": {"body": {"ok": true}}}]"#)).await.unwrap()
}

/// The callback address, below the server, in the request to `path`; waits for the request.
async fn address_in(mock: &Mock, world: &World, path: &str) -> String {
    loop {
        if let Some(request) = mock.requests().iter().find(|request| request.path == path) {
            let address = String::from_utf8(request.body.clone()).unwrap();
            return address.split_once(&world.address.to_string()).unwrap().1.to_owned();
        }
        tokio::task::yield_now().await;
    }
}

/// Asks a service for a webhook, and for an ordinary call before it; then waits for a day.
fn hooked(mock: &Mock) -> String {
    let base = mock.base_url();
    requested(&format!(
        r#"{{"Call": {{"type": "Http", "runAfter": {{}}, "inputs": {{"method": "POST", "uri": "{base}/call",
                "body": "@listCallbackUrl()"}}}},
            "Hook": {{"type": "HttpWebhook", "runAfter": {{"Call": ["Succeeded"]}}, "inputs": {{"subscribe":
                {{"method": "POST", "uri": "{base}/subscribe", "body": "@listCallbackUrl()"}}, "unsubscribe": {{}}}}}},
            "Rest": {{"type": "Wait", "runAfter": {{"Hook": ["Succeeded"]}},
                "inputs": {{"interval": {{"count": 1, "unit": "Day"}}}}}}}}"#
    ))
}

#[tokio::test]
async fn a_callback_that_is_not_awaited_is_rejected() {
    let mock = service().await;
    let world = World::new().await;
    world.deploy("w", &hooked(&mock)).await;
    world.invoke("w", "{}").await;
    let hook = address_in(&mock, &world, "/subscribe").await;
    let call = address_in(&mock, &world, "/call").await;
    let refused = world.post(&call, "{}").await;
    assert_eq!((refused.status, refused.error().as_str()), (410, "CallbackNotAwaited"));
    // The control: the run accepts the callback that it waits for, once.
    assert_eq!(world.post(&hook, "{}").await.status, 200);
    let again = world.post(&hook, "{}").await;
    assert_eq!((again.status, again.error().as_str()), (410, "CallbackNotAwaited"));
}

/// The old, invertible derivation of callback addresses: SplitMix64.
mod before {
    pub(super) fn mix(state: u64) -> u64 {
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unmix(mut z: u64) -> u64 {
        let unshift = |z: u64, by: u32| (0..64 / by).fold(z, |found, _| z ^ (found >> by));
        z = unshift(z, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
        z = unshift(z, 27).wrapping_mul(0x96de_1b17_3f11_9089);
        unshift(z, 30).wrapping_sub(0x9e37_79b9_7f4a_7c15)
    }

    /// The seeds from which a tracking id may have been derived.
    pub(super) fn seeds(tracking_id: &str) -> Vec<u64> {
        let bits = u128::from_str_radix(&tracking_id.replace('-', ""), 16).unwrap();
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        let seeds = (0..16).map(|hidden| unmix(high & !0xf000 | hidden << 12));
        seeds.filter(|seed| mix(seed ^ 1) << 2 == low << 2).collect()
    }

    pub(super) fn token(run: &str, seed: u64, effect: u64) -> String {
        let signature = mix(mix(seed ^ 0x63_616c_6c62_6163) ^ effect);
        format!("/callbacks/{run}-{effect:x}-{signature:016x}")
    }
}

#[tokio::test]
async fn the_caller_who_starts_a_run_cannot_forge_callbacks() {
    let mock = service().await;
    let world = World::new().await;
    world.deploy("w", &hooked(&mock)).await;
    let started = world.post("/workflows/w/triggers/manual/invoke", "{}").await;
    let hook = address_in(&mock, &world, "/subscribe").await;
    // Everything that the trigger's caller and the called service learn about the run.
    let run = started.header("x-ms-workflow-run-id").unwrap();
    let asked = mock.requests();
    let shown = ["x-ms-tracking-id", "x-ms-correlation-id"].map(|name| started.header(name).unwrap());
    let sent = asked.iter().filter_map(|request| request.header("x-ms-action-tracking-id"));
    for id in shown.into_iter().chain(sent) {
        assert!(before::seeds(id).is_empty(), "{id} reveals the seed of the run");
        for seed in [0, 1, 7] {
            let forged = world.post(&before::token(run, seed, 1), "{}").await;
            assert_eq!((forged.status, forged.error().as_str()), (404, "CallbackNotFound"));
        }
    }
    // An address of this run does not lead to that of another call or run either.
    let signature = hook.rsplit_once('-').unwrap().1;
    for effect in 0..4 {
        let forged = format!("/callbacks/{run}-{effect:x}-{signature}");
        assert!(forged == hook || world.post(&forged, "{}").await.status == 404);
    }
    assert_eq!(world.post(&hook, "{}").await.status, 200);
}

/// The address at which a trigger is fired, below its server.
fn trigger_address(world: &World, workflow: &Value) -> String {
    let url = text(&list(workflow, "triggers")[0], "url");
    url.split_once(&world.address.to_string()).unwrap().1.to_owned()
}

/// Fires a trigger as a caller who only knows its address.
async fn fire(world: &World, address: &str) -> u16 {
    let reply: Reply = world.send(Method::POST, address, &[], "").await.whole().await;
    reply.status
}

#[tokio::test]
async fn signatures_can_be_rotated_and_end_with_a_deletion() {
    let directory = tempfile::tempdir().unwrap();
    let guarded = || Plan {
        store: on_disk(directory.path()),
        settings: ServerSettings { token: Some("a token of the test".into()), ..ServerSettings::default() },
        ..Plan::default()
    };
    let world = World::start(guarded()).await;
    let definition =
        |n: u32| requested(&format!(r#"{{"N": {{"type": "Compose", "inputs": {n}, "runAfter": {{}}}}}}"#));
    let put = async |world: &World, n: u32| {
        let reply = world.call(Method::PUT, "/api/v1/workflows/Orders", &definition(n)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        trigger_address(world, &reply.json())
    };
    let first = put(&world, 1).await;
    assert_eq!(fire(&world, &first).await, 202);
    // A new version keeps the address.
    assert_eq!(put(&world, 2).await, first);

    let rotated = world.post("/api/v1/workflows/orders/triggers/MANUAL/rotate-signature", "").await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let second = trigger_address(&world, &rotated.json());
    assert_eq!((fire(&world, &first).await, fire(&world, &second).await), (401, 202));
    let unknown = world.post("/api/v1/workflows/orders/triggers/other/rotate-signature", "").await;
    assert_eq!(unknown.error(), "WorkflowTriggerNotFound");
    let anonymous = world.send(Method::POST, "/api/v1/workflows/orders/rotate-signature", &[], "").await;
    assert_eq!(anonymous.whole().await.status, 401);

    let rotated = world.post("/api/v1/workflows/orders/rotate-signature", "").await;
    let third = trigger_address(&world, &rotated.json());
    assert_eq!((fire(&world, &second).await, fire(&world, &third).await), (401, 202));
    let spelled = third.replace("/Orders/", "/oRDERS/");
    assert_eq!(fire(&world, &spelled).await, 202, "names are not case-sensitive");

    // It survives a restart and a new version.
    world.stop().await;
    let world = World::start(guarded()).await;
    assert_eq!((fire(&world, &second).await, fire(&world, &third).await), (401, 202));
    assert_eq!(put(&world, 3).await, third);

    // A new workflow with the same name has new addresses.
    assert_eq!(world.call(Method::DELETE, "/api/v1/workflows/orders", "").await.status, 204);
    let fourth = put(&world, 3).await;
    assert_eq!((fire(&world, &third).await, fire(&world, &fourth).await), (401, 202));
    world.stop().await;
    let world = World::start(guarded()).await;
    assert_eq!((fire(&world, &third).await, fire(&world, &fourth).await), (401, 202));
    world.stop().await;
}
