//! Named values.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Commit, Conflict, KeyExpectation, KeyQuery, KeyWrite, Retention, RunRow, Seq, Store};

use super::{T0, WORKS, conflict, frame, row, run, write};
use crate::contract::NAMESPACE;

pub(super) fn put(key: &str, expect: KeyExpectation, value: &str) -> KeyWrite {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    KeyWrite { namespace: NAMESPACE.into(), key: key.into(), expect, value, ..KeyWrite::default() }
}

fn keys(writes: &[KeyWrite]) -> Commit {
    Commit { keys: writes.to_vec(), ..Commit::new() }
}

pub(super) async fn named_values_change_only_as_expected(store: Arc<dyn Store>) {
    use KeyExpectation::{Absent, Any, Version};
    let refusal = |actual| Conflict::Key { namespace: NAMESPACE.into(), key: "k".into(), actual };
    assert_eq!(conflict(&*store, keys(&[put("k", Version(1), "x")])).await, refusal(None));
    let versions = write(&*store, keys(&[put("k", Absent, "one")])).await.versions;
    let first = versions[0].expect("a value has a version");
    assert_eq!(conflict(&*store, keys(&[put("k", Absent, "x")])).await, refusal(Some(first)));
    let second =
        write(&*store, keys(&[put("k", Version(first), "two")])).await.versions[0].expect("as before");
    assert!(second > first);
    assert_eq!(conflict(&*store, keys(&[put("k", Version(first), "x")])).await, refusal(Some(second)));
    let value = store.key(NAMESPACE, "k").await.expect(WORKS).expect("it was written");
    assert_eq!((value.version, &value.value[..]), (second, &b"two"[..]));
    assert_eq!(store.key("another", "k").await.expect(WORKS), None);
    // Later writes of a commit see the earlier ones.
    let delete = KeyWrite { value: None, ..put("k", Version(second), "") };
    let versions =
        write(&*store, keys(&[delete, put("k", Absent, "three"), put("l", Any, "")])).await.versions;
    assert!(versions[0].is_none() && versions[1] > Some(second) && versions[2] > versions[1]);
    // Namespaces that have a value are found in byte order.
    let elsewhere = |namespace: &str| KeyWrite { namespace: namespace.into(), ..put("k", Any, "here") };
    let lesser = format!("{NAMESPACE}/");
    let greater = format!("{NAMESPACE}0");
    write(&*store, keys(&[elsewhere(&greater), elsewhere(&lesser), elsewhere(&lesser)])).await;
    let (mut found, mut start) = (Vec::new(), String::new());
    while let Some(next) = store.namespace_from(&start).await.expect(WORKS) {
        start = format!("{next}\0");
        // A store may have namespaces of its own.
        if next.starts_with(NAMESPACE) {
            found.push(next.to_string());
        }
    }
    assert_eq!(found, [NAMESPACE, &lesser, &greater]);
    let same = store.namespace_from(&lesser).await.expect(WORKS);
    assert_eq!(same.as_deref(), Some(&*lesser), "the start is included");
    // Lists are filtered by prefix, in byte order, in pages.
    let names = ["k", "ka", "kb", "k\u{10ffff}", "l"];
    let writes: Vec<_> = names.iter().map(|name| put(name, Any, name)).collect();
    write(&*store, keys(&writes)).await;
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let query = KeyQuery {
            namespace: NAMESPACE.into(),
            prefix: prefix.into(),
            after: after.map(Into::into),
            limit,
        };
        let page = store.keys(query).await.expect(WORKS);
        let names: Vec<String> = page.values.iter().map(|value| value.key.to_string()).collect();
        (names, page.next.map(|next| next.to_string()))
    };
    assert_eq!(list("", None, 9).await, (names.map(String::from).to_vec(), None));
    assert_eq!(list("k", None, 4).await, (names[..4].iter().map(ToString::to_string).collect(), None));
    assert_eq!(list("k", None, 2).await, (vec!["k".into(), "ka".into()], Some("ka".into())));
    assert_eq!(list("k", Some("ka"), 1).await, (vec!["kb".into()], Some("kb".into())));
    assert_eq!(list("k", Some("a"), 1).await, (vec!["k".into()], Some("k".into())));
    assert_eq!(list("m", None, 9).await, (vec![], None));
}

pub(super) async fn versions_are_never_reused(store: Arc<dyn Store>) {
    let mut given = Vec::new();
    for _ in 0..3 {
        given.extend(write(&*store, keys(&[put("k", KeyExpectation::Any, "")])).await.versions);
        let delete = KeyWrite { value: None, ..put("k", KeyExpectation::Any, "") };
        assert_eq!(write(&*store, keys(&[delete])).await.versions, [None]);
    }
    assert!(given.is_sorted_by(|one, two| one < two));
}

pub(super) async fn named_values_end_with_their_time_or_their_run(store: Arc<dyn Store>) {
    let with = |key: &str, expires: Option<i64>, owner: Option<i64>| KeyWrite {
        expires: expires.map(|at| T0.plus(at)),
        run: owner.map(run),
        ..put(key, KeyExpectation::Any, "value")
    };
    for number in [1, 2] {
        let mut accept = Commit::to_run(run(number), Seq::FIRST, vec![frame("accepted")]);
        accept.row = Some(RunRow { ended: (number == 1).then_some(T0), ..row(number, "w") });
        write(&*store, accept).await;
    }
    write(
        &*store,
        keys(&[with("a", Some(10), None), with("b", Some(20), Some(2)), with("c", None, Some(1))]),
    )
    .await;
    // The last write decides.
    write(&*store, keys(&[with("d", Some(10), Some(1)), with("d", Some(30), None)])).await;
    let found = store.key(NAMESPACE, "b").await.expect(WORKS).expect("it is there");
    assert_eq!((found.expires, found.run), (Some(T0.plus(20)), Some(run(2))));

    let names = async || {
        let all = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after: None, limit: 9 };
        let page = store.keys(all).await.expect(WORKS);
        page.values.iter().map(|value| value.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["a", "b", "c", "d"], "a value that has expired is there until a sweep");
    let swept = store.sweep(Retention::default(), T0.plus(10)).await.expect(WORKS);
    assert_eq!(swept.values, 1);
    assert_eq!(names().await, ["b", "c", "d"]);
    // The run takes its values with it, and only those.
    let policy = Retention { age_max_ms: Some(5), ..Retention::default() };
    assert_eq!(store.sweep(policy, T0.plus(10)).await.expect(WORKS).purged, 1);
    assert_eq!(names().await, ["b", "d"]);
    assert_eq!(store.sweep(Retention::default(), T0.plus(30)).await.expect(WORKS).values, 2);
    assert_eq!(names().await, Vec::<String>::new());
    let again = write(&*store, keys(&[put("a", KeyExpectation::Absent, "new")])).await;
    assert!(again.versions[0] > Some(found.version), "a version is never used twice");
}
