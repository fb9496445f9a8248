//! The optional faces: saved configurations, tower layers, tracing.

#[cfg(feature = "serde")]
mod saved {
    use loom_resilience::{Limit, Policy, RegistrySnapshot, ResilienceRegistry};

    #[test]
    fn a_policy_and_a_snapshot_survive_text() {
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
        AllTransient, AttemptError, Backoff, BreakerConfig, CallError, Clock, Jitter, Pipeline, Policy,
        RetryConfig, Service,
        layer::{AttemptLayer, PolicyLayer},
    };
    use tower_layer::Layer;
    use tower_service::Service as _;

    /// Fails so many times, then doubles what it is asked.
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
        let layer = PolicyLayer::new(service(Policy::none().retry(retry)), AllTransient);
        assert_eq!(layer.layer(doubler(2)).call(21).await, Ok(42));
        let stop: CallError<&str> = layer.layer(doubler(3)).call(21).await.unwrap_err();
        assert_eq!(stop.attempts(), 3);
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
