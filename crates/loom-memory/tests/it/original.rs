//! What users of the original library rely on, one test for each behaviour. `docs/guide/memory.md` lists them.

use std::sync::Arc;

use loom_expression::{Object, Value};
use loom_memory::{Expiry, Namespace, Operation, Request, SharedMemory, StoredMemory, contract::Time};
use loom_store::MemoryStore;

const GUIDE: &str = include_str!("../../../../docs/guide/memory.md");

struct World {
    memory: StoredMemory,
    time: Time,
}

impl World {
    fn new() -> World {
        let time = Time::default();
        World { memory: StoredMemory::new(Arc::new(MemoryStore::default()), time.clock()), time }
    }

    async fn run(&self, key: &str, operation: Operation) -> Value {
        self.run_with(key, operation, Expiry::Unchanged).await
    }

    async fn run_with(&self, key: &str, operation: Operation, expiry: Expiry) -> Value {
        let request = Request::new(key, operation).expect("the key is valid").expiring(expiry);
        self.memory
            .transact(&Namespace::Global, vec![request])
            .await
            .expect("the operation is allowed")
            .remove(0)
            .value
    }
}

fn json(text: &str) -> Value {
    Value::from_json_str(text).expect("it is JSON")
}

fn field(name: &str, value: Value) -> Operation {
    Operation::HashSet { fields: Object::single(name.into(), value) }
}

const ALL: Operation = Operation::Range { from: 0, to: -1 };

fn one_second() -> Expiry {
    Expiry::after_millis(1_000)
}

#[tokio::test]
async fn a_value_is_written_and_read() {
    let world = World::new();
    world.run("k", Operation::set(json(r#"{"name": "Ada", "tags": [1, 2]}"#))).await;
    assert_eq!(world.run("k", Operation::Get).await, json(r#"{"name": "Ada", "tags": [1, 2]}"#));
}

#[tokio::test]
async fn a_missing_key_reads_as_null() {
    assert_eq!(World::new().run("k", Operation::Get).await, Value::NULL);
}

#[tokio::test]
async fn a_second_write_replaces_the_first() {
    let world = World::new();
    world.run("k", Operation::set(1)).await;
    world.run("k", Operation::set("two")).await;
    assert_eq!(world.run("k", Operation::Get).await, Value::from("two"));
}

#[tokio::test]
async fn a_deleted_key_is_gone() {
    let world = World::new();
    world.run("k", Operation::set(1)).await;
    assert_eq!(world.run("k", Operation::Delete).await, Value::from(true));
    assert_eq!(world.run("k", Operation::Get).await, Value::NULL);
}

#[tokio::test]
async fn a_key_exists_from_its_first_write() {
    let world = World::new();
    assert_eq!(world.run("k", Operation::Exists).await, Value::from(false));
    world.run("k", Operation::set(1)).await;
    assert_eq!(world.run("k", Operation::Exists).await, Value::from(true));
}

#[tokio::test]
async fn a_value_expires_after_its_time_to_live() {
    let world = World::new();
    world.run_with("k", Operation::set(1), one_second()).await;
    world.time.advance(900);
    assert_eq!(world.run("k", Operation::Get).await, Value::from(1));
    world.time.advance(200);
    assert_eq!(world.run("k", Operation::Get).await, Value::NULL);
}

#[tokio::test]
async fn a_time_to_live_of_zero_means_none() {
    let world = World::new();
    world.run_with("k", Operation::set(1), Expiry::after_millis(0)).await;
    world.time.advance(i64::from(u32::MAX));
    assert_eq!(world.run("k", Operation::Get).await, Value::from(1));
}

#[tokio::test]
async fn items_are_appended_in_order() {
    let world = World::new();
    for number in 1..=3 {
        assert_eq!(world.run("l", Operation::append(number)).await, Value::from(number));
    }
    assert_eq!(world.run("l", ALL).await, json("[1, 2, 3]"));
}

#[tokio::test]
async fn an_item_can_be_any_json() {
    let world = World::new();
    world.run("l", Operation::append(json(r#"{"role": "user", "content": "Hello"}"#))).await;
    assert_eq!(world.run("l", ALL).await, json(r#"[{"role": "user", "content": "Hello"}]"#));
}

#[tokio::test]
async fn a_missing_list_is_empty() {
    assert_eq!(World::new().run("l", ALL).await, json("[]"));
}

#[tokio::test]
async fn a_list_expires_after_its_time_to_live() {
    let world = World::new();
    world.run_with("l", Operation::append(1), one_second()).await;
    world.time.advance(1_100);
    assert_eq!(world.run("l", ALL).await, json("[]"));
}

#[tokio::test]
async fn a_time_to_live_begins_again_with_each_append_that_has_one() {
    let world = World::new();
    world.run_with("l", Operation::append(1), one_second()).await;
    world.time.advance(800);
    world.run_with("l", Operation::append(2), one_second()).await;
    world.time.advance(800);
    assert_eq!(world.run("l", ALL).await, json("[1, 2]"));
}

#[tokio::test]
async fn a_field_of_a_hash_is_written_and_read() {
    let world = World::new();
    world.run("h", field("name", Value::from("Ada"))).await;
    assert_eq!(world.run("h", Operation::HashGet { field: "name".into() }).await, Value::from("Ada"));
}

#[tokio::test]
async fn a_missing_field_reads_as_null() {
    let world = World::new();
    world.run("h", field("name", Value::from("Ada"))).await;
    assert_eq!(world.run("h", Operation::HashGet { field: "age".into() }).await, Value::NULL);
}

#[tokio::test]
async fn all_fields_of_a_hash_are_read_at_once() {
    let world = World::new();
    world.run("h", field("a", Value::from(1))).await;
    world.run("h", field("b", json("[2]"))).await;
    assert_eq!(world.run("h", Operation::HashAll).await, json(r#"{"a": 1, "b": [2]}"#));
}

#[tokio::test]
async fn a_missing_hash_has_no_fields() {
    let world = World::new();
    assert_eq!(world.run("h", Operation::HashAll).await, json("{}"));
    assert_eq!(world.run("h", Operation::Get).await, Value::NULL);
}

#[tokio::test]
async fn members_are_added_to_a_set() {
    let world = World::new();
    for member in ["a", "b"] {
        world.run("s", Operation::SetAdd { members: vec![member.into()] }).await;
    }
    assert_eq!(world.run("s", Operation::SetMembers).await, json(r#"["a", "b"]"#));
}

#[tokio::test]
async fn a_set_has_each_member_once() {
    let world = World::new();
    let member = json(r#"{"id": 1}"#);
    world.run("s", Operation::SetAdd { members: vec![member.clone()] }).await;
    assert_eq!(world.run("s", Operation::SetAdd { members: vec![member] }).await, Value::from(0));
    assert_eq!(world.run("s", Operation::SetMembers).await, json(r#"[{"id": 1}]"#));
}

#[tokio::test]
async fn a_missing_set_is_empty() {
    assert_eq!(World::new().run("s", Operation::SetMembers).await, json("[]"));
}

#[tokio::test]
async fn a_counter_begins_at_zero_and_returns_the_sum() {
    let world = World::new();
    assert_eq!(world.run("n", Operation::increment(1)).await, Value::from(1));
    assert_eq!(world.run("n", Operation::increment(1)).await, Value::from(2));
}

#[tokio::test]
async fn a_counter_is_decremented() {
    let world = World::new();
    assert_eq!(world.run("n", Operation::increment(-1)).await, Value::from(-1));
}

#[tokio::test]
async fn ten_concurrent_increments_make_ten() {
    let world = Arc::new(World::new());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let world = Arc::clone(&world);
        tasks.spawn(async move { world.run("n", Operation::increment(1)).await });
    }
    tasks.join_all().await;
    assert_eq!(world.run("n", Operation::Get).await, Value::from(10));
}

#[test]
fn the_guide_lists_every_test_of_this_file() {
    let names: Vec<&str> = include_str!("original.rs")
        .split("#[tokio::test]\nasync fn ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next())
        .collect();
    assert_eq!(names.len(), 22);
    for name in names {
        assert!(GUIDE.contains(&format!("`{name}`")), "{name}");
    }
}
