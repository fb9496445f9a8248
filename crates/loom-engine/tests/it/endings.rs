//! The end of runs: subscriptions that still have to be ended, commands that arrive too late, waits that outlive the process.

use std::{sync::Arc, time::Duration};

use loom_definition::{RunStatus, model::EffectKind};
use loom_engine::{
    Command, EffectId, Engine, RunHandle, RunRequest, Started,
    clock::TokioClock,
    event::Phase,
    ports::{ActionHandler, Clock},
};
use loom_store::MemoryStore;

use crate::support::{Service, engine, json, now, ok, workflow};

const HOOK: &str = r#"{"Hook": {"type": "HttpWebhook", "runAfter": {}, "inputs": {
    "subscribe": {"method": "POST", "uri": "http://s/on"}, "unsubscribe": {"method": "POST", "uri": "http://s/off"}}}}"#;

/// Responds to a subscription immediately, and to its end after `off`.
fn hooks(off: Duration) -> Arc<Service> {
    Service::new(move |call, _| {
        (if call.phase == Phase::Unsubscribe { off } else { Duration::ZERO }, ok(r#"{"statusCode": 200}"#))
    })
}

fn open(service: &Arc<Service>, store: &Arc<MemoryStore>) -> Engine {
    let handler = Arc::clone(service) as Arc<dyn ActionHandler>;
    engine(service).handler(EffectKind::HttpWebhook, handler).store(Arc::clone(store) as _).build()
}

fn begin(engine: &Engine) -> RunHandle {
    let request = RunRequest::manual(workflow(HOOK), Vec::new(), None);
    let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
    runs.remove(0)
}

fn callback() -> Command {
    Command::Callback { effect: EffectId(0), payload: json(r#"{"body": "done"}"#) }
}

fn unsubscribed(service: &Service) -> Vec<String> {
    service.by_key().into_keys().filter(|key| key.contains("/unsubscribe/")).collect()
}

/// The process ends after the run, before the service has confirmed the end of the subscription.
#[tokio::test(start_paused = true)]
async fn a_pending_unsubscribe_survives_the_process() {
    let store = Arc::new(MemoryStore::default());
    let slow = hooks(Duration::from_hours(1));
    let first = open(&slow, &store);
    let mut run = begin(&first);
    while slow.count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(first.command(run.id, callback()).await);
    assert_eq!(run.ended().await.map(|report| report.status), Some(RunStatus::Succeeded));
    first.shut_down().await;
    let before = unsubscribed(&slow);
    assert_eq!(before.len(), 1);

    // The next process repeats the request with the same key, and records its completion.
    let quick = hooks(Duration::from_secs(5));
    let second = open(&quick, &store);
    assert!(second.recover(None).await.unwrap().runs.is_empty(), "the run has ended");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(unsubscribed(&quick), before);
    assert_eq!(quick.count(), 1);
    second.shut_down().await;

    let third = open(&quick, &store);
    third.recover(None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(quick.count(), 1, "a completed unsubscribe is not repeated");
    third.shut_down().await;
}

/// The service has subscribed, but its response has not arrived when the action ends: because of a callback, a timeout, or the
/// cancellation of the run.
#[tokio::test(start_paused = true)]
async fn a_subscription_without_a_response_is_ended() {
    for (why, limit) in [("callback", ""), ("cancel", ""), ("limit", r#","limit": {"timeout": "PT1M"}"#)] {
        let service = Service::new(|call, _| {
            let wait = if call.phase == Phase::Subscribe { Duration::from_hours(1) } else { Duration::ZERO };
            (wait, ok(r#"{"statusCode": 200}"#))
        });
        let engine = open(&service, &Arc::new(MemoryStore::default()));
        let hook = HOOK.strip_suffix("}}").unwrap();
        let hook = format!("{hook}{limit}}}}}");
        let request = RunRequest::manual(workflow(&hook), Vec::new(), None);
        let Ok(Started::Runs(mut runs)) = engine.start(request, None) else { panic!("no run started") };
        let mut run = runs.remove(0);
        while service.count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match why {
            "callback" => assert!(engine.command(run.id, callback()).await),
            "cancel" => assert!(engine.command(run.id, Command::Cancel).await),
            _ => {}
        }
        run.ended().await.unwrap();
        while engine.runs_in_progress() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(unsubscribed(&service).len(), 1, "{why}");
        engine.shut_down().await;
    }
}

/// Without a crash, nothing remains for the next process.
#[tokio::test(start_paused = true)]
async fn a_subscription_is_not_ended_twice() {
    let store = Arc::new(MemoryStore::default());
    let service = hooks(Duration::from_secs(5));
    let first = open(&service, &store);
    let mut run = begin(&first);
    while service.count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(first.command(run.id, callback()).await);
    run.ended().await.unwrap();
    // Its task still waits for the service, but the sender of a command does not.
    assert_eq!(first.runs_in_progress(), 1);
    let now = tokio::time::Instant::now();
    assert!(!first.command(run.id, Command::Cancel).await);
    assert_eq!(now.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((first.runs_in_progress(), service.count()), (0, 2));
    first.shut_down().await;

    let second = open(&service, &store);
    second.recover(None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(service.count(), 2);
    second.shut_down().await;
}

/// The caller has received a confirmation, and will not call again.
#[tokio::test(start_paused = true)]
async fn a_callback_to_a_suspended_run_is_kept() {
    let store = Arc::new(MemoryStore::default());
    let service = hooks(Duration::ZERO);
    let first = open(&service, &store);
    let run = begin(&first);
    while service.count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(first.command(run.id, Command::Suspend).await);
    assert!(first.command(run.id, callback()).await);
    first.shut_down().await;

    let second = open(&service, &store);
    let mut recovered = second.recover(None).await.unwrap();
    let mut run = recovered.runs.remove(0);
    assert!(second.command(run.id, Command::Resume).await);
    let report = run.ended().await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded);
    let (_, history) = second.history(run.id).await.unwrap().unwrap();
    let hook = history.workflow().find_action("Hook").unwrap();
    assert_eq!(history.occurrences(hook)[0].outputs, Some(json(r#"{"body": "done"}"#)));
    second.shut_down().await;
}

/// A wait of a week, during which the server is down for three days, or for longer than the week.
#[tokio::test(start_paused = true)]
async fn a_wait_of_a_week_ends_in_time_despite_downtime() {
    const DAY: Duration = Duration::from_hours(24);
    let service = hooks(Duration::ZERO);
    let week = workflow(
        r#"{"Wait": {"type": "Wait", "inputs": {"interval": {"count": 7, "unit": "Day"}}, "runAfter": {}},
            "Call": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {"Wait": ["Succeeded"]}}}"#,
    );
    for (gone_days, then_days) in [(3, 4), (8, 0)] {
        let before = service.count();
        // One clock for both processes.
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now()));
        let store = Arc::new(MemoryStore::default());
        let open = || engine(&service).clock(Arc::clone(&clock)).store(Arc::clone(&store) as _).build();
        let first = open();
        let Ok(Started::Runs(mut runs)) =
            first.start(RunRequest::manual(Arc::clone(&week), Vec::new(), None), None)
        else {
            panic!("no run started")
        };
        assert!(runs[0].accepted().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.shut_down().await;
        tokio::time::sleep(DAY * gone_days).await;

        let second = open();
        let mut run = second.recover(None).await.unwrap().runs.remove(0);
        let began = tokio::time::Instant::now();
        if then_days > 0 {
            tokio::time::sleep((DAY * then_days).saturating_sub(Duration::from_mins(1))).await;
            assert_eq!(service.count(), before, "it is not over yet");
        }
        assert_eq!(run.ended().await.map(|report| report.status), Some(RunStatus::Succeeded));
        // The time that passed in the first process counts.
        assert!(began.elapsed() <= DAY * then_days, "{:?}", began.elapsed());
        assert_eq!(service.count(), before + 1);
        second.shut_down().await;
    }
}

/// A process that ends while a run is suspended leaves a call in flight and a timer. The next process starts neither the call nor
/// anything else before the run is resumed, however often it restarts.
#[tokio::test(start_paused = true)]
async fn a_suspended_run_repeats_no_call_until_it_is_resumed() {
    let service = Service::new(|_, _| (Duration::from_hours(1), ok("{}")));
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(now()));
    let store = Arc::new(MemoryStore::default());
    let open = || engine(&service).clock(Arc::clone(&clock)).store(Arc::clone(&store) as _).build();
    let both = workflow(
        r#"{"Slow": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {}},
            "Wait": {"type": "Wait", "inputs": {"interval": {"count": 1, "unit": "Minute"}}, "runAfter": {}},
            "Then": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s"}, "runAfter": {"Wait": ["Succeeded"]}}}"#,
    );
    let first = open();
    let Ok(Started::Runs(runs)) = first.start(RunRequest::manual(both, Vec::new(), None), None) else {
        panic!("no run started")
    };
    while service.count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(first.command(runs[0].id, Command::Suspend).await);
    first.shut_down().await;

    for _ in 0..2 {
        let next = open();
        next.recover(None).await.unwrap();
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(service.count(), 1, "nothing starts while the run is suspended");
        next.shut_down().await;
    }

    let last = open();
    let mut run = last.recover(None).await.unwrap().runs.remove(0);
    assert!(last.command(run.id, Command::Resume).await);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(service.count(), 3, "the call is repeated, and the timer fires");
    assert_eq!(run.ended().await.unwrap().status, RunStatus::Succeeded);
    last.shut_down().await;
}
