//! The optional features: saved configurations, tower layers, tracing.

#[cfg(feature = "serde")]
mod saved {
    use std::time::Duration;

    use loom_resilience::{
        Backoff, BreakerConfig, CircuitState, Idempotency, Jitter, Limit, LimitSnapshot, LimiterConfig, Mode,
        OpenDuration, Policy, RegistrySnapshot, ResilienceRegistry, RetryConfig, Rule, StopReason, TripCause,
        Verdict, WaitFor, Window,
    };

    #[test]
    fn a_policy_and_a_snapshot_survive_serialization() {
        let policy = Policy::standard().limit(Limit::per_minute(600).burst(20));
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        let registry = ResilienceRegistry::builder().defaults(policy).build().unwrap();
        let service = registry.service("a");
        let now = service.clock().now();
        service.try_admit(now).unwrap().failure(now);
        let saved = registry.snapshot();
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<RegistrySnapshot>(&text).unwrap(), saved);
    }

    #[test]
    fn durations_are_written_as_strings() {
        let policy = Policy::none().attempt_timeout(Duration::from_millis(2_250)).breaker(
            BreakerConfig::new()
                .failure_rate(0.5, 10, Window::Time(Duration::from_secs(90)))
                .open_for(OpenDuration::fixed(Duration::from_secs(30))),
        );
        let value = serde_json::to_value(&policy).unwrap();
        assert_eq!(value["attempt_timeout"], "2s250ms");
        assert_eq!(value["breaker"]["failure_rate"]["window"]["time"], "1m30s");
        assert_eq!(value["breaker"]["open_for"]["initial"], "30s");
        assert_eq!(value["breaker"]["mode"], "enforce");
        assert!(value["total_timeout"].is_null());
    }

    #[test]
    fn durations_are_read_in_both_forms() {
        for text in [r#""1m30s""#, r#"{"secs": 90, "nanos": 0}"#, r#""90s""#, r#""1.5m""#] {
            let policy: Policy = serde_json::from_str(&format!(r#"{{"total_timeout": {text}}}"#)).unwrap();
            assert_eq!(policy.total_timeout, Some(Duration::from_secs(90)), "{text}");
        }
        let error = serde_json::from_str::<Policy>(r#"{"total_timeout": "soon"}"#).unwrap_err();
        let expected =
            r#"invalid value: string "soon", expected a duration such as "30s", "1m30s" or "250ms""#;
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    /// Every enum is written in snake case; the spellings that earlier versions wrote are read.
    #[test]
    fn enums_have_one_case_and_old_spellings_are_read() {
        fn check<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
            value: &T,
            written: &str,
            old: &str,
        ) {
            assert_eq!(serde_json::to_string(value).unwrap(), written);
            assert_eq!(&serde_json::from_str::<T>(written).unwrap(), value);
            assert_eq!(&serde_json::from_str::<T>(old).unwrap(), value, "{old}");
        }
        check(&CircuitState::HalfOpen, r#""half_open""#, r#""HalfOpen""#);
        check(&Mode::Observe, r#""observe""#, r#""Observe""#);
        check(&Rule::CircuitOpen, r#""circuit_open""#, r#""CircuitOpen""#);
        check(&StopReason::OpenedManually, r#""opened_manually""#, r#""OpenedByHand""#);
        check(&WaitFor::Bulkhead, r#""bulkhead""#, r#""Place""#);
        check(&Jitter::Decorrelated, r#""decorrelated""#, r#""decorrelated""#);
        check(&Window::Calls(5), r#"{"calls":5}"#, r#"{"Calls":5}"#);
        check(&Idempotency::NonIdempotent, r#""non_idempotent""#, r#""Unsafe""#);
        check(&Verdict::Rejected, r#""rejected""#, r#""Answered""#);
        check(
            &Verdict::Throttled { after: Some(Duration::from_secs(2)) },
            r#"{"throttled":{"after":"2s"}}"#,
            r#"{"Throttled":{"after":{"secs":2,"nanos":0}}}"#,
        );
        check(
            &TripCause::FailureRate { failures: 3, calls: 4 },
            r#"{"failure_rate":{"failures":3,"calls":4}}"#,
            r#"{"FailureRate":{"failures":3,"calls":4}}"#,
        );
        check(
            &Backoff::Constant { delay: Duration::from_millis(250) },
            r#"{"constant":{"delay":"250ms"}}"#,
            r#"{"constant":{"delay":{"secs":0,"nanos":250000000}}}"#,
        );
    }

    /// What a version before duration strings and snake case stored, to the letter.
    #[test]
    fn a_snapshot_of_an_earlier_version_is_restored() {
        let text = r#"{"taken_at_unix_ms":1000,"services":[{"name":"a",
            "breaker":{"state":"Open","isolated":false,"consecutive_failures":5,"openings":2,
                "open_for":{"secs":29,"nanos":500000000},"opened_ago":{"secs":0,"nanos":500000000},
                "closed_ago":{"secs":60,"nanos":0},"cause":{"Consecutive":{"failures":5}}},
            "limiter":{"limits":[{"Bucket":{"full_after":{"secs":7,"nanos":0}}},
                {"Window":{"granted":[[{"secs":3,"nanos":0},2]]}}],"frozen_for":{"secs":1,"nanos":0}},
            "budget":{"calls":10,"retries":1}}]}"#;
        let saved: RegistrySnapshot = serde_json::from_str(text).unwrap();
        let service = &saved.services[0];
        assert_eq!(service.breaker.state, CircuitState::Open);
        assert_eq!(service.breaker.cause, Some(TripCause::Consecutive { failures: 5 }));
        assert_eq!(service.breaker.open_for, Duration::from_millis(29_500));
        assert_eq!(
            service.limiter.limits,
            [
                LimitSnapshot::Bucket { full_after: Duration::from_secs(7) },
                LimitSnapshot::Window { granted: vec![(Duration::from_secs(3), 2)] }
            ]
        );
        // What this version writes is read as the same.
        let again = serde_json::to_string(&saved).unwrap();
        assert!(again.contains(r#""state":"open""#) && again.contains(r#""open_for":"29s500ms""#), "{again}");
        assert_eq!(serde_json::from_str::<RegistrySnapshot>(&again).unwrap(), saved);

        let limiter =
            LimiterConfig::new(Limit::per_minute(60).burst(60)).and(Limit::window(5, Duration::from_mins(1)));
        let policy = Policy::none().breaker(BreakerConfig::standard()).limiter(limiter);
        let time = loom_resilience::ManualClock::new();
        time.set_unix_start(Duration::from_secs(2));
        let clock = loom_resilience::Clock::manual(&time);
        let registry = ResilienceRegistry::builder().defaults(policy).clock(clock).build().unwrap();
        registry.restore(&saved);
        let status = registry.service("a").status();
        assert_eq!(status.breaker.retry_after, Some(Duration::from_millis(28_500)), "a second has passed");
        assert_eq!(status.limiter.available, Some(3), "two of five were granted");
    }

    #[test]
    fn a_retry_configuration_is_read_with_defaults() {
        let text = r#"{"max_attempts": 5, "backoff": {"exponential": {"initial": "100ms", "factor": 2.0}}}"#;
        let backoff = Backoff::Exponential { initial: Duration::from_millis(100), factor: 2.0 };
        assert_eq!(
            serde_json::from_str::<RetryConfig>(text).unwrap(),
            RetryConfig::attempts(5).backoff(backoff)
        );
    }

    #[test]
    fn a_misspelt_field_is_an_error() {
        assert!(serde_json::from_str::<Policy>(r#"{"bulkhed": null}"#).is_err());
    }
}

#[cfg(feature = "tower")]
mod tower_layers {
    use std::{
        future::{Ready, ready},
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Context, Poll},
        time::Duration,
    };

    use loom_resilience::{
        AllTransient, AttemptError, Backoff, BreakerConfig, Budget, BudgetConfig, CallError, Clock,
        FallbackValue, Hedge, HedgeConfig, Idempotency, Jitter, Pipeline, Policy, RetryConfig, Service,
        layer::{AttemptLayer, FallbackLayer, HedgeLayer, PolicyLayer},
    };
    use tower_layer::Layer;
    use tower_service::Service as _;

    /// Fails `failures` times, then doubles the request.
    #[derive(Clone)]
    struct Doubler {
        failures: u32,
        calls: Arc<AtomicU32>,
    }

    impl tower_service::Service<u32> for Doubler {
        type Response = u32;
        type Error = &'static str;
        type Future = Ready<Result<u32, &'static str>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: u32) -> Self::Future {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            ready(if call < self.failures { Err("503") } else { Ok(request * 2) })
        }
    }

    fn service(policy: Policy) -> Service {
        Pipeline::new("inner", policy, Clock::tokio(), None).unwrap().into()
    }

    fn doubler(failures: u32) -> Doubler {
        Doubler { failures, calls: Arc::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_layer_retries_a_clone_of_the_request() {
        let retry = RetryConfig::attempts(3)
            .backoff(Backoff::Constant { delay: Duration::from_secs(1) })
            .jitter(Jitter::None);
        let layer = PolicyLayer::new(service(Policy::none().retry(retry)), AllTransient)
            .idempotency(Idempotency::Idempotent);
        assert_eq!(layer.layer(doubler(2)).call(21).await, Ok(42));
        let stop: CallError<&str> = layer.layer(doubler(3)).call(21).await.unwrap_err();
        assert_eq!(stop.attempts(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_layer_checks_whether_each_request_may_be_repeated() {
        let policy = || Policy::none().retry(RetryConfig::attempts(3));
        let odd_may_repeat = |request: &u32| match request % 2 {
            0 => Idempotency::NonIdempotent,
            _ => Idempotency::Idempotent,
        };
        let layer = || PolicyLayer::new(service(policy()), AllTransient).idempotency(odd_may_repeat);
        assert_eq!(layer().layer(doubler(1)).call(21).await, Ok(42));
        let error = layer().layer(doubler(1)).call(20).await.unwrap_err();
        assert_eq!(error.attempts(), 1);
        // Without a declaration, a request is sent once.
        let error = PolicyLayer::new(service(policy()), AllTransient).layer(doubler(1)).call(21).await;
        assert_eq!(error.unwrap_err().attempts(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_layer_falls_back() {
        let policy = Policy::none().retry(RetryConfig::attempts(2));
        let layer = PolicyLayer::new(service(policy), AllTransient)
            .idempotency(Idempotency::Idempotent)
            .fallback(FallbackValue(7));
        let inner = doubler(2);
        let calls = Arc::clone(&inner.calls);
        assert_eq!(layer.layer(inner).call(21).await, Ok(7));
        assert_eq!(calls.load(Ordering::Relaxed), 2, "after all attempts");
        assert_eq!(layer.layer(doubler(0)).call(21).await, Ok(42));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fallback_layer_works_alone() {
        let fallback = |result: Result<u32, &'static str>| match result {
            Err("503") => Ok(7),
            other => other,
        };
        let layer = FallbackLayer::new(AllTransient, fallback);
        assert_eq!(layer.layer(doubler(1)).call(21).await, Ok(7));
        assert_eq!(layer.layer(doubler(0)).call(21).await, Ok(42));
    }

    /// Responds after as many seconds as the first copies are slow, and counts its calls.
    #[derive(Clone)]
    struct Slow(Arc<AtomicU32>);

    impl tower_service::Service<u32> for Slow {
        type Response = u32;
        type Error = &'static str;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: u32) -> Self::Future {
            let copy = self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(if copy == 0 { 100 } else { 1 })).await;
                Ok(copy)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedge_layer_hedges_only_what_may_be_repeated() {
        let layer = || {
            let budget = Arc::new(Budget::new(BudgetConfig::default()).unwrap());
            HedgeLayer::new(Hedge::new(Duration::from_secs(1), Clock::tokio()), budget)
        };
        let start = tokio::time::Instant::now();
        let hedged = layer().idempotency(|request: &u32| match request {
            1 => Idempotency::Safe,
            _ => Idempotency::NonIdempotent,
        });
        assert_eq!(hedged.layer(Slow(Arc::default())).call(1).await, Ok(1));
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(hedged.layer(Slow(Arc::default())).call(2).await, Ok(0));
        // Without a declaration, a request is sent once.
        let calls = Arc::new(AtomicU32::new(0));
        assert_eq!(layer().layer(Slow(Arc::clone(&calls))).call(1).await, Ok(0));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_layer_hedges() {
        let policy = Policy::none().hedge(HedgeConfig::new(Duration::from_secs(1)));
        let layer = PolicyLayer::new(service(policy), AllTransient).idempotency(Idempotency::Safe);
        assert_eq!(layer.layer(Slow(Arc::default())).call(1).await, Ok(1));
    }

    #[cfg(feature = "chaos")]
    #[tokio::test(start_paused = true)]
    async fn a_chaos_layer_sits_innermost() {
        use loom_resilience::{
            chaos::{Chaos, Injection},
            layer::ChaosLayer,
        };
        let service = service(Policy::none().breaker(BreakerConfig::new().failure_threshold(1)));
        let chaos = Chaos::new().fault(Injection::new(1.0), |_| "injected");
        let inner = doubler(0);
        let calls = Arc::clone(&inner.calls);
        let disturbed = ChaosLayer::new(service.clone(), chaos).layer(inner);
        let mut guarded = AttemptLayer::new(service, AllTransient).layer(disturbed);
        assert_eq!(guarded.call(1).await, Err(AttemptError::Failed("injected")));
        assert!(matches!(guarded.call(1).await, Err(AttemptError::Refused(_))), "the breaker saw the fault");
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_layer_guards_without_repeating() {
        let guard = service(Policy::none().breaker(BreakerConfig::new().failure_threshold(1)));
        let inner = doubler(9);
        let calls = Arc::clone(&inner.calls);
        let mut guarded = AttemptLayer::new(guard, AllTransient).layer(inner);
        assert_eq!(guarded.call(1).await, Err(AttemptError::Failed("503")));
        assert!(matches!(guarded.call(1).await, Err(AttemptError::Refused(_))));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}

#[cfg(feature = "tracing")]
mod traced {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use loom_resilience::{BreakerConfig, Clock, ManualClock, Pipeline, Policy, Service, TracingObserver};
    use tracing::{Event, Metadata, Subscriber, span};

    struct Counter(Arc<AtomicU32>);

    impl Subscriber for Counter {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "loom_resilience"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            assert!(event.fields().any(|field| field.name() == "service"));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn events_become_records() {
        let records = Arc::new(AtomicU32::new(0));
        tracing::subscriber::with_default(Counter(Arc::clone(&records)), || {
            let policy = Policy::none().breaker(BreakerConfig::new().failure_threshold(1));
            let clock = Clock::manual(&ManualClock::new());
            let service: Service =
                Pipeline::new("a", policy, clock, Some(Arc::new(TracingObserver))).unwrap().into();
            let now = service.clock().now();
            service.try_admit(now).unwrap().failure(now);
            service.try_admit(now).unwrap_err();
        });
        // The trip and the refusal.
        assert_eq!(records.load(Ordering::Relaxed), 2);
    }
}
