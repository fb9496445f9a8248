//! The contract of shared memory, as tests that each backend's own tests call.
//!
//! [`CASES`] are the guarantees, one per function, each run on an empty memory. Every check panics with what differed.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use loom_expression::{Object, Value};
use loom_store::{RunId, UnixMillis};

use crate::{
    Clock, Condition, Error, Expiry, ListQuery, Namespace, NamespacesQuery, Notice, Operation, Outcome,
    Position, Request, Revision, SharedMemory, Type, Watch, WatchFrom, WatchQuery,
};

/// A guarantee: its name, and its check on an empty memory.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The guarantee, in words.
    pub name: &'static str,
    /// Checks the guarantee, and panics when it does not hold.
    pub check: fn(Subject) -> Checked,
}

/// A check in progress.
pub type Checked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is checked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The memory, empty, which reads its time from `time`.
    pub memory: Arc<dyn SharedMemory>,
    /// The clock.
    pub time: Time,
}

/// A clock that shows the same time until it is set.
#[derive(Clone, Debug)]
pub struct Time(Arc<AtomicI64>);

impl Default for Time {
    fn default() -> Time {
        Time(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }
}

impl Time {
    /// The clock for a backend.
    pub fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Arc::new(move || UnixMillis(now.load(Ordering::Relaxed)))
    }

    /// The current time.
    pub fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }

    /// Moves the clock.
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

macro_rules! cases {
    ($($check:ident: $name:literal,)*) => {
        /// Every guarantee.
        pub const CASES: &[Case] = &[$(Case { name: $name, check: |subject| Box::pin($check(subject)) },)*];
    };
}

cases! {
    values: "values are written, read and deleted",
    lists: "lists are appended to, capped, read by range and trimmed",
    hashes: "hashes have fields",
    sets: "sets have each member once",
    counters: "counters count, and do not overflow",
    one_type: "a key has one type until it is deleted",
    revisions: "every write has a revision that was never used",
    conditions: "a write with a condition is made only when it holds",
    expiry: "a key is absent once it has expired",
    transactions: "a transaction takes effect as a whole or not at all",
    namespaces: "namespaces have nothing in common",
    lists_of_keys: "keys are listed by prefix, in pages",
    labels: "what was secret when it was written is secret when it is read",
    large_contents: "large contents read back",
    compare_and_set: "100 parallel compare-and-set loops lose nothing",
    increments: "parallel increments, appends and set operations lose nothing",
    transfers: "parallel transactions never show half of another",
    watches: "a watcher sees every key that changes, and continues after a position",
    watched_keys: "a watcher that asks for all keys receives those that exist, and then what changes",
}

impl Subject {
    async fn all(&self, requests: Vec<Request>) -> Result<Vec<Outcome>, Error> {
        self.memory.transact(&Namespace::Global, requests).await
    }

    async fn outcome(&self, request: Request) -> Result<Outcome, Error> {
        Ok(self.all(vec![request]).await?.remove(0))
    }

    async fn run(&self, key: &str, operation: Operation) -> Value {
        self.outcome(request(key, operation)).await.expect("the operation is allowed").value
    }

    async fn get(&self, key: &str) -> Value {
        self.run(key, Operation::Get).await
    }

    async fn revision(&self, key: &str) -> Option<Revision> {
        self.outcome(request(key, Operation::Get)).await.expect("a key can be read").revision
    }
}

fn request(key: &str, operation: Operation) -> Request {
    Request::new(key, operation).expect("the key is valid")
}

fn json(text: &str) -> Value {
    Value::from_json_str(text).expect("it is JSON")
}

fn append(text: &str, max: Option<u64>) -> Operation {
    let values = json(text).into_array().expect("an array").into_vec();
    Operation::Append { values, max: max.and_then(std::num::NonZeroU64::new) }
}

fn add(text: &str) -> Operation {
    Operation::SetAdd { members: json(text).into_array().expect("an array").into_vec() }
}

fn fields(text: &str) -> Object {
    json(text).into_object().expect("an object")
}

async fn values(on: Subject) {
    assert_eq!(on.get("k").await, Value::NULL);
    assert_eq!(on.run("k", Operation::Exists).await, Value::from(false));
    assert_eq!(on.run("k", Operation::Delete).await, Value::from(false));
    assert_eq!(on.run("k", Operation::set(json(r#"{"a":[1,1.5,null]}"#))).await, Value::NULL);
    assert_eq!(on.get("k").await, json(r#"{"a":[1,1.5,null]}"#));
    assert_eq!(on.run("k", Operation::set("text")).await, Value::NULL);
    assert_eq!(on.get("k").await, Value::from("text"));
    assert_eq!(on.run("k", Operation::set(Value::NULL)).await, Value::NULL);
    assert_eq!(on.run("k", Operation::Exists).await, Value::from(true), "null is a value");
    assert_eq!(on.run("k", Operation::Delete).await, Value::from(true));
    assert_eq!(on.run("k", Operation::Exists).await, Value::from(false));
}

async fn lists(on: Subject) {
    let range = |from, to| Operation::Range { from, to };
    assert_eq!(on.run("l", range(0, -1)).await, json("[]"));
    assert_eq!(on.run("l", Operation::Length).await, Value::from(0));
    assert_eq!(on.run("l", append("[1,2]", None)).await, Value::from(2));
    assert_eq!(on.run("l", append("[3,4,5]", None)).await, Value::from(5));
    for (from, to, expected) in [
        (0, -1, "[1,2,3,4,5]"),
        (1, 2, "[2,3]"),
        (-2, -1, "[4,5]"),
        (3, 99, "[4,5]"),
        (-99, 0, "[1]"),
        (3, 1, "[]"),
        (9, 12, "[]"),
        (i64::MIN, i64::MAX, "[1,2,3,4,5]"),
    ] {
        assert_eq!(on.run("l", range(from, to)).await, json(expected), "{from} to {to}");
    }
    assert_eq!(on.run("l", append("[6]", Some(4))).await, Value::from(4));
    assert_eq!(on.get("l").await, json("[3,4,5,6]"), "the newest items are kept");
    assert_eq!(on.run("l", Operation::Trim { from: 1, to: -2 }).await, Value::from(2));
    assert_eq!(on.get("l").await, json("[4,5]"));
    assert_eq!(on.run("l", Operation::Trim { from: 5, to: 9 }).await, Value::from(0));
    assert_eq!(on.run("l", Operation::Exists).await, Value::from(false), "an empty list is absent");
}

async fn hashes(on: Subject) {
    let field = |name: &str| Operation::HashGet { field: name.into() };
    assert_eq!(on.run("h", Operation::HashAll).await, json("{}"));
    assert_eq!(on.run("h", field("a")).await, Value::NULL);
    assert_eq!(on.run("h", Operation::HashSet { fields: fields(r#"{"a":1,"b":2}"#) }).await, Value::from(2));
    assert_eq!(on.run("h", Operation::HashSet { fields: fields(r#"{"b":3,"c":[]}"#) }).await, Value::from(1));
    assert_eq!(on.run("h", field("b")).await, Value::from(3));
    assert_eq!(on.run("h", Operation::Length).await, Value::from(3));
    assert_eq!(on.run("h", Operation::HashAll).await, json(r#"{"a":1,"b":3,"c":[]}"#));
    let delete =
        |names: &[&str]| Operation::HashDelete { fields: names.iter().map(|name| (*name).into()).collect() };
    assert_eq!(on.run("h", delete(&["a", "x"])).await, Value::from(1));
    assert_eq!(on.run("h", delete(&["b", "c"])).await, Value::from(2));
    assert_eq!(on.run("h", Operation::Exists).await, Value::from(false), "an empty hash is absent");
}

async fn sets(on: Subject) {
    assert_eq!(on.run("s", Operation::SetMembers).await, json("[]"));
    assert_eq!(on.run("s", add(r#"["a",1,"a"]"#)).await, Value::from(2));
    assert_eq!(on.run("s", add(r#"[1,1.0,{"x":1}]"#)).await, Value::from(2), "1 and 1.0 differ as JSON text");
    assert_eq!(on.run("s", Operation::SetMembers).await, json(r#"["a",1,1.0,{"x":1}]"#));
    assert_eq!(on.run("s", Operation::Length).await, Value::from(4));
    let has = |text: &str| Operation::SetHas { member: json(text) };
    assert_eq!(on.run("s", has(r#"{"x":1}"#)).await, Value::from(true));
    assert_eq!(on.run("s", has("2")).await, Value::from(false));
    let remove =
        |text: &str| Operation::SetRemove { members: json(text).into_array().expect("an array").into_vec() };
    assert_eq!(on.run("s", remove(r#"["a",2]"#)).await, Value::from(1));
    assert_eq!(on.run("s", remove(r#"[1,1.0,{"x":1}]"#)).await, Value::from(3));
    assert_eq!(on.run("s", Operation::Exists).await, Value::from(false), "an empty set is absent");
}

async fn counters(on: Subject) {
    assert_eq!(on.run("c", Operation::increment(2)).await, Value::from(2));
    assert_eq!(on.run("c", Operation::increment(-5)).await, Value::from(-3));
    assert_eq!(on.get("c").await, Value::from(-3));
    let why = on.outcome(request("c", Operation::increment(i64::MIN))).await.expect_err("it overflows");
    assert!(matches!(why, Error::Overflow { value: -3, by: i64::MIN, .. }), "{why}");
    assert_eq!(on.get("c").await, Value::from(-3), "a counter that would overflow is unchanged");
    on.run("c", Operation::increment(3)).await;
    assert_eq!(on.run("c", Operation::Exists).await, Value::from(true), "0 is a value");
}

async fn one_type(on: Subject) {
    let writes: [(Type, Operation); 5] = [
        (Type::Value, Operation::set(1)),
        (Type::List, Operation::append(1)),
        (Type::Hash, Operation::HashSet { fields: fields(r#"{"a":1}"#) }),
        (Type::Set, add("[1]")),
        (Type::Counter, Operation::increment(1)),
    ];
    for (kind, first) in &writes {
        let outcome = on.outcome(request("k", first.clone())).await.expect("the key is absent");
        assert_eq!(outcome.kind, Some(*kind));
        let before = on.get("k").await;
        for (other, second) in &writes {
            if other == kind {
                continue;
            }
            let why = on.outcome(request("k", second.clone())).await.expect_err("another type");
            assert_eq!(
                why.to_string(),
                format!("the key `k` holds a {kind}, but `{}` needs a {other}", second.name())
            );
        }
        assert_eq!(on.get("k").await, before);
        assert_eq!(on.run("k", Operation::Delete).await, Value::from(true));
    }
    on.run("k", Operation::increment(1)).await;
    let why = on.outcome(request("k", Operation::Length)).await.expect_err("a counter has no length");
    assert_eq!(why.to_string(), "the key `k` holds a counter, but `length` needs a list, hash or set");
}

async fn revisions(on: Subject) {
    let mut given = Vec::new();
    for _ in 0..3 {
        for operation in [Operation::append(1), Operation::append(2)] {
            let outcome = on.outcome(request("k", operation)).await.expect("a list");
            assert_eq!(
                outcome.revision,
                on.revision("k").await,
                "a write answers the revision that a read finds"
            );
            given.extend(outcome.revision);
        }
        let deleted = on.outcome(request("k", Operation::Delete)).await.expect("a key can be deleted");
        assert_eq!(deleted.revision, None);
    }
    assert_eq!(given.len(), 6);
    assert!(given.is_sorted_by(|one, two| one < two), "{given:?}");
    // A write that changes nothing keeps the revision.
    let one = on.outcome(request("s", add("[1]"))).await.expect("a set").revision;
    assert_eq!(on.outcome(request("s", add("[1]"))).await.expect("a set").revision, one);
}

async fn conditions(on: Subject) {
    let set = |condition| request("k", Operation::set(1)).if_only(condition);
    let first = on
        .outcome(set(Condition::Absent))
        .await
        .expect("the key is absent")
        .revision
        .expect("it was written");
    let refused = |why: Error| match why {
        Error::RevisionMismatch { found, .. } => found,
        why => panic!("{why}"),
    };
    assert_eq!(refused(on.outcome(set(Condition::Absent)).await.expect_err("it exists")), Some(first));
    let second = on.outcome(set(Condition::Revision(first))).await.expect("unchanged").revision;
    assert_eq!(refused(on.outcome(set(Condition::Revision(first))).await.expect_err("it changed")), second);
    on.run("k", Operation::Delete).await;
    let third = set(Condition::Revision(second.expect("it was written")));
    assert_eq!(refused(on.outcome(third).await.expect_err("it is absent")), None);
    // A read may have a condition, too.
    let read = request("k", Operation::Get).if_only(Condition::Revision(first));
    assert_eq!(refused(on.outcome(read).await.expect_err("it is absent")), None);
}

async fn expiry(on: Subject) {
    let lasting = |key, operation, millis| request(key, operation).expiring(Expiry::after_millis(millis));
    let set = on.outcome(lasting("k", Operation::set(1), 1_000)).await.expect("a value");
    assert_eq!(set.expires, Some(on.time.now().plus(1_000)));
    on.outcome(lasting("l", Operation::append(1), 1_000)).await.expect("a list");
    on.outcome(lasting("forever", Operation::set(1), 0)).await.expect("a value");
    on.time.advance(999);
    assert_eq!(on.get("k").await, Value::from(1));
    // Every write but `set` keeps the expiry unless it has one of its own.
    on.run("l", Operation::append(2)).await;
    on.time.advance(1);
    assert_eq!(on.get("k").await, Value::NULL);
    assert_eq!(on.run("k", Operation::Exists).await, Value::from(false));
    assert_eq!(on.get("l").await, Value::NULL);
    let listed = on.memory.list(ListQuery {
        namespace: Namespace::Global,
        prefix: String::new(),
        after: None,
        limit: 9,
    });
    let listed: Vec<_> = listed
        .await
        .expect("keys can be listed")
        .keys
        .into_iter()
        .map(|listed| listed.key.to_string())
        .collect();
    assert_eq!(listed, ["forever"]);
    // An expired key may have another type afterwards, and satisfies `Absent`.
    let write = request("l", Operation::increment(1)).if_only(Condition::Absent);
    assert_eq!(on.outcome(write).await.expect("it is absent").expires, None);
    // An append with an expiry starts it again, and a `set` without one removes it.
    on.outcome(lasting("m", Operation::append(1), 1_000)).await.expect("a list");
    on.outcome(lasting("v", Operation::set(1), 1_000)).await.expect("a value");
    on.time.advance(900);
    on.outcome(lasting("m", Operation::append(2), 1_000)).await.expect("a list");
    on.run("v", Operation::set(2)).await;
    on.time.advance(900);
    assert_eq!(on.get("m").await, json("[1,2]"));
    on.time.advance(1_000_000);
    assert_eq!(on.get("m").await, Value::NULL);
    assert_eq!((on.get("v").await, on.get("forever").await), (Value::from(2), Value::from(1)));
    let half = request("k", Operation::set(1)).expiring(Expiry::After(Duration::from_micros(1_500)));
    let rounded = on.outcome(half).await.expect("a value").expires;
    assert_eq!(rounded, Some(on.time.now().plus(2)), "rounded up");
}

async fn transactions(on: Subject) {
    let outcomes = on
        .all(vec![
            request("a", Operation::increment(1)),
            request("b", append("[1]", None)),
            request("a", Operation::increment(1)),
            request("a", Operation::Get),
            request("c", Operation::set(1)),
            request("c", Operation::Delete),
        ])
        .await
        .expect("all are allowed");
    let values: Vec<_> = outcomes.iter().map(|outcome| outcome.value.to_json_text()).collect();
    assert_eq!(values, ["1", "1", "2", "2", "null", "true"], "each sees what the earlier ones left");
    assert_eq!(outcomes[0].revision, outcomes[1].revision, "a transaction has one revision");
    assert_eq!(outcomes[4].revision, None);
    // The last one fails, and nothing has changed.
    let why = on
        .all(vec![
            request("a", Operation::increment(1)),
            request("d", Operation::set(1)),
            request("b", Operation::set(1)),
        ])
        .await
        .expect_err("`b` is a list");
    assert!(matches!(why, Error::WrongType { .. }), "{why}");
    assert_eq!((on.get("a").await, on.get("d").await), (Value::from(2), Value::NULL));
    // Conditions are about the state before the transaction.
    let revision = on.revision("a").await.expect("it was written");
    on.all(vec![
        request("a", Operation::increment(1)),
        request("a", Operation::increment(1)).if_only(Condition::Revision(revision)),
    ])
    .await
    .expect("the condition held before");
    assert_eq!(on.get("a").await, Value::from(4));
}

async fn namespaces(on: Subject) {
    let all = [
        Namespace::Global,
        Namespace::Workflow("a".into()),
        Namespace::Workflow("b".into()),
        Namespace::Chat("a".into()),
        Namespace::Agent("a".into()),
        Namespace::Run(RunId::MIN),
    ];
    for (number, namespace) in all.iter().enumerate() {
        let write = vec![request("k", Operation::set(number as i64))];
        on.memory.transact(namespace, write).await.expect("a value");
    }
    for (number, namespace) in all.iter().enumerate() {
        let read = on.memory.transact(namespace, vec![request("k", Operation::Get)]).await.expect("a value");
        assert_eq!(read[0].value, Value::from(number as i64), "{namespace}");
    }
    // All that have keys are listed in the order of their texts, in pages.
    let list = async |prefix: &str, after: Option<Namespace>, limit| {
        let query = NamespacesQuery { prefix: prefix.to_owned(), after, limit };
        let page = on.memory.namespaces(query).await.expect("a list");
        (page.namespaces.iter().map(ToString::to_string).collect::<Vec<_>>(), page.next)
    };
    let names = ["agent:a", "chat:a", "global", "run:0000000000000", "workflow:a", "workflow:b"];
    assert_eq!(list("", None, 6).await, (names.map(str::to_owned).to_vec(), None));
    assert_eq!(list("workflow:", None, 9).await.0, names[4..]);
    assert_eq!(list("chat:a", None, 9).await.0, ["chat:a"]);
    assert_eq!(list("chat:b", None, 9).await.0, [""; 0]);
    let (first, next) = list("", None, 4).await;
    assert_eq!((&first[..], next.as_ref()), (&names.map(str::to_owned)[..4], Some(&all[5])));
    assert_eq!(list("", next, 4).await, (names[4..].iter().map(ToString::to_string).collect(), None));
}

async fn lists_of_keys(on: Subject) {
    let names = ["a", "a/1", "a/2", "a/\u{10ffff}", "b"];
    for name in names {
        on.run(name, Operation::append(1)).await;
    }
    on.memory
        .transact(&Namespace::Chat("1".into()), vec![request("a/3", Operation::set(1))])
        .await
        .expect("a value");
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let query = ListQuery {
            namespace: Namespace::Global,
            prefix: prefix.into(),
            after: after.map(Into::into),
            limit,
        };
        let page = on.memory.list(query).await.expect("keys can be listed");
        let keys: Vec<String> = page.keys.iter().map(|listed| listed.key.to_string()).collect();
        (keys, page.next.map(|next| next.to_string()))
    };
    assert_eq!(list("", None, 9).await, (names.map(String::from).to_vec(), None));
    assert_eq!(list("a/", None, 2).await, (vec!["a/1".into(), "a/2".into()], Some("a/2".into())));
    assert_eq!(list("a/", Some("a/2"), 2).await, (vec!["a/\u{10ffff}".into()], None));
    assert_eq!(list("c", None, 2).await, (vec![], None));
    let query = ListQuery { namespace: Namespace::Global, prefix: "b".into(), after: None, limit: 1 };
    let listed = on.memory.list(query).await.expect("keys can be listed").keys.remove(0);
    assert_eq!((listed.kind, Some(listed.revision)), (Type::List, on.revision("b").await));
}

async fn labels(on: Subject) {
    let secret = |text: &str| Value::from(text).into_secret();
    on.run("v", Operation::set(secret("x"))).await;
    assert!(on.get("v").await.is_secret());
    on.run("l", Operation::append(secret("x"))).await;
    on.run("l", Operation::append("open")).await;
    let list = on.get("l").await;
    let items = list.as_array().expect("a list");
    assert!(items[0].is_secret() && !items[1].contains_secret() && !list.is_secret());
    let mut fields = Object::new();
    fields.insert("token", secret("x"));
    fields.insert("open", 1);
    on.run("h", Operation::HashSet { fields }).await;
    assert!(on.run("h", Operation::HashGet { field: "token".into() }).await.is_secret());
    assert!(!on.run("h", Operation::HashGet { field: "open".into() }).await.contains_secret());
    on.run("c", Operation::increment(1)).await;
    let added = Operation::Increment { by: 1, labels: loom_expression::Labels::SECRET };
    assert!(on.run("c", added).await.is_secret());
    assert!(
        on.run("c", Operation::increment(1)).await.is_secret(),
        "what was computed from a secret is secret"
    );
    // A set reveals whether it has a secret member.
    assert!(!on.run("s", add(r#"["x"]"#)).await.is_secret());
    assert!(on.run("s", Operation::SetHas { member: secret("x") }).await.is_secret());
    assert!(on.run("s", Operation::SetAdd { members: vec![secret("x")] }).await.is_secret());
    assert!(on.get("s").await.contains_secret());
}

async fn large_contents(on: Subject) {
    let large = |letter: &str| Value::from(letter.repeat(300 * 1024));
    for letter in ["a", "b", "b"] {
        on.run("k", Operation::set(large(letter))).await;
        assert_eq!(on.get("k").await, large(letter));
    }
    on.run("k", Operation::set(large("c").into_secret())).await;
    let read = on.get("k").await;
    assert!(read == large("c") && read.is_secret());
    on.run("k", Operation::set("small")).await;
    assert_eq!(on.get("k").await, Value::from("small"));
    for _ in 0..3 {
        on.run("l", Operation::append(large("a"))).await;
    }
    assert_eq!(on.run("l", Operation::Length).await, Value::from(3));
    on.run("l", Operation::Delete).await;
    let why = on.outcome(request("k", Operation::set("x".repeat(17 << 20)))).await.expect_err("too large");
    assert!(matches!(why, Error::TooLarge { .. }), "{why}");
    assert_eq!(on.get("k").await, Value::from("small"));
}

/// Runs `count` tasks on the threads of the runtime, and waits for all.
async fn parallel<F: Future<Output = ()> + Send + 'static>(count: i64, task: impl Fn(i64) -> F) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        tasks.spawn(task(number));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task fails");
    }
}

async fn compare_and_set(on: Subject) {
    parallel(100, |_| {
        let on = on.clone();
        async move {
            loop {
                let read = on.outcome(request("n", Operation::Get)).await.expect("a value");
                let condition = read.revision.map_or(Condition::Absent, Condition::Revision);
                let next = read.value.as_i64().unwrap_or(0) + 1;
                match on.outcome(request("n", Operation::set(next)).if_only(condition)).await {
                    Ok(_) => return,
                    Err(Error::RevisionMismatch { .. }) => {}
                    Err(why) => panic!("{why}"),
                }
            }
        }
    })
    .await;
    assert_eq!(on.get("n").await, Value::from(100));
}

async fn increments(on: Subject) {
    parallel(20, |number| {
        let on = on.clone();
        async move {
            on.run("c", Operation::increment(1)).await;
            on.run("l", Operation::append(number)).await;
            on.run("s", Operation::SetAdd { members: vec![Value::from(number / 2)] }).await;
            let mut fields = Object::new();
            fields.insert(number.to_string(), number);
            on.run("h", Operation::HashSet { fields }).await;
        }
    })
    .await;
    assert_eq!(on.get("c").await, Value::from(20));
    let mut items: Vec<_> =
        on.get("l").await.into_array().expect("a list").iter().filter_map(Value::as_i64).collect();
    items.sort_unstable();
    assert_eq!(items, (0..20).collect::<Vec<_>>());
    assert_eq!(on.run("s", Operation::Length).await, Value::from(10));
    assert_eq!(on.run("h", Operation::Length).await, Value::from(20));
}

async fn transfers(on: Subject) {
    on.all(vec![request("a", Operation::increment(50)), request("b", Operation::increment(50))])
        .await
        .expect("two counters");
    parallel(16, |number| {
        let on = on.clone();
        async move {
            // Half of them name the keys in the other order.
            let (from, to) = if number % 2 == 0 { ("a", "b") } else { ("b", "a") };
            let transfer =
                vec![request(from, Operation::increment(-number)), request(to, Operation::increment(number))];
            on.all(transfer).await.expect("two counters");
            let seen = on
                .all(vec![request("a", Operation::Get), request("b", Operation::Get)])
                .await
                .expect("two counters");
            let sum: i64 = seen.iter().filter_map(|outcome| outcome.value.as_i64()).sum();
            assert_eq!(sum, 100);
        }
    })
    .await;
    assert_eq!(on.get("a").await, Value::from(58));
}

/// The next notice of a watcher, written as `key=value` or `-key`, and its position.
async fn noticed(watch: &mut Box<dyn Watch>) -> (Position, String) {
    let (position, notice) = watch.next().await.expect("the memory can be watched");
    let shown = match notice {
        Notice::Reset => "reset".to_owned(),
        Notice::Written { key, value, .. } => format!("{key}={}", value.to_json_text()),
        Notice::Deleted { key, .. } => format!("-{key}"),
    };
    (position, shown)
}

async fn watching(on: &Subject, prefix: &str, from: WatchFrom) -> Box<dyn Watch> {
    let query = WatchQuery { namespace: Namespace::Global, prefix: prefix.to_owned(), from };
    on.memory.watch(query).await.expect("the memory can be watched")
}

async fn watches(on: Subject) {
    on.run("a1", Operation::set(0)).await;
    let mut watch = watching(&on, "a", WatchFrom::Now).await;
    on.run("a1", Operation::set(1)).await;
    let (first, shown) = noticed(&mut watch).await;
    assert_eq!(shown, "a1=1");
    on.run("b1", Operation::set(1)).await;
    on.memory
        .transact(&Namespace::Chat("a".into()), vec![request("a1", Operation::set(9))])
        .await
        .expect("a value");
    on.run("a2", Operation::append("x")).await;
    assert_eq!(noticed(&mut watch).await.1, r#"a2=["x"]"#, "other keys and namespaces are not reported");
    on.run("a1", Operation::Delete).await;
    assert_eq!(noticed(&mut watch).await.1, "-a1");
    on.outcome(request("a3", Operation::set(3)).expiring(Expiry::after_millis(50))).await.expect("a value");
    assert_eq!(noticed(&mut watch).await.1, "a3=3");
    drop(watch);
    // From the first position, everything after it is seen again, in the state that it has now.
    let mut again = watching(&on, "a", WatchFrom::After(first)).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(noticed(&mut again).await.1);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["-a1", r#"a2=["x"]"#, "a3=3"]);
    let invalid = WatchQuery {
        namespace: Namespace::Global,
        prefix: String::new(),
        from: WatchFrom::After(Position("somewhere".into())),
    };
    assert!(on.memory.watch(invalid).await.is_err());
    // A watcher that waits is woken by the next write.
    let mut waiting = watching(&on, "w", WatchFrom::Now).await;
    let (noticed, ()) = tokio::join!(noticed(&mut waiting), async {
        tokio::task::yield_now().await;
        on.run("w", Operation::increment(2)).await;
    });
    assert_eq!(noticed.1, "w=2");
}

async fn watched_keys(on: Subject) {
    for number in 0..250 {
        on.run(&format!("k{number:03}"), Operation::set(number)).await;
    }
    on.run("other", Operation::set(1)).await;
    let mut watch = watching(&on, "k", WatchFrom::Keys).await;
    assert_eq!(noticed(&mut watch).await.1, "reset");
    for number in 0..250 {
        assert_eq!(noticed(&mut watch).await.1, format!("k{number:03}={number}"));
    }
    on.run("k000", Operation::set("new")).await;
    assert_eq!(noticed(&mut watch).await.1, r#"k000="new""#);
}
