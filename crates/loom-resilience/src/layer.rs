//! `tower` layers: a policy around any tower service, such as those of axum, tonic and hyper.
//!
//! ```
//! # use loom_resilience::{AllTransient, Policy, Service, layer::PolicyLayer};
//! # use tower_layer::Layer;
//! # fn wrap<S>(inner: S) -> Result<(), Box<dyn std::error::Error>> {
//! let service = Service::standalone("billing", Policy::standard())?;
//! let guarded = PolicyLayer::new(service, AllTransient).layer(inner);
//! # Ok(()) }
//! ```

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;

use crate::{
    budget::Budget,
    fallback::{Fallback, NoFallback},
    hedge::Hedge,
    pipeline::{AttemptError, CallError, Service},
    verdict::{Classifier, Idempotency, Verdict},
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Guards each request as one attempt, without retries, for servers and for requests that cannot be cloned.
#[derive(Clone, Debug)]
pub struct AttemptLayer<J> {
    service: Service,
    classifier: J,
}

/// Applies the whole policy to each request, including retries. Requests and the inner service must be `Clone`.
///
/// Requests are not idempotent unless [`idempotency`](Self::idempotency) says so: set it once for all, or by a function of
/// the request.
#[derive(Clone, Debug)]
pub struct PolicyLayer<J, I = Idempotency, B = NoFallback> {
    service: Service,
    classifier: J,
    idempotency: I,
    fallback: B,
}

/// Decides whether a request may be sent twice. Implemented by [`Idempotency`] and by every `Fn(&R) -> Idempotency`.
pub trait RequestIdempotency<R> {
    /// Whether `request` may be sent twice.
    fn of(&self, request: &R) -> Idempotency;
}

impl<R> RequestIdempotency<R> for Idempotency {
    fn of(&self, _: &R) -> Idempotency {
        *self
    }
}

impl<R, F: Fn(&R) -> Idempotency> RequestIdempotency<R> for F {
    fn of(&self, request: &R) -> Idempotency {
        self(request)
    }
}

/// A service inside a layer of this module.
#[derive(Clone, Debug)]
pub struct Layered<S, L> {
    inner: S,
    layer: L,
}

impl<S: Clone, L> Layered<S, L> {
    /// The instance that was polled, which is the one that is ready. Its clone serves the next request.
    fn take_ready(&mut self) -> S {
        let clone = self.inner.clone();
        std::mem::replace(&mut self.inner, clone)
    }
}

/// Sends a request by an instance of a service that has not been polled.
async fn send_one<S, R>(mut service: S, request: R) -> Result<S::Response, S::Error>
where
    S: tower_service::Service<R>,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// The service that [`AttemptLayer`] produces.
pub type AttemptService<S, J> = Layered<S, AttemptLayer<J>>;

/// The service that [`PolicyLayer`] produces.
pub type PolicyService<S, J, I = Idempotency, B = NoFallback> = Layered<S, PolicyLayer<J, I, B>>;

impl<J> AttemptLayer<J> {
    /// Guards requests by `service` and classifies results by `classifier`.
    pub const fn new(service: Service, classifier: J) -> Self {
        Self { service, classifier }
    }
}

impl<J> PolicyLayer<J> {
    /// Guards requests by `service` and classifies results by `classifier`.
    pub const fn new(service: Service, classifier: J) -> Self {
        Self { service, classifier, idempotency: Idempotency::NonIdempotent, fallback: NoFallback }
    }
}

impl<J, I, B> PolicyLayer<J, I, B> {
    /// Whether requests may be sent twice: an [`Idempotency`], or a function of the request.
    pub fn idempotency<K>(self, idempotency: K) -> PolicyLayer<J, K, B> {
        let Self { service, classifier, fallback, .. } = self;
        PolicyLayer { service, classifier, idempotency, fallback }
    }

    /// The replacement for a request that finally failed: a [`FallbackValue`](crate::FallbackValue), or a function of the
    /// [`FailedCall`](crate::FailedCall).
    pub fn fallback<C>(self, fallback: C) -> PolicyLayer<J, I, C> {
        let Self { service, classifier, idempotency, .. } = self;
        PolicyLayer { service, classifier, idempotency, fallback }
    }
}

impl<S, J: Clone> Layer<S> for AttemptLayer<J> {
    type Service = AttemptService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Layered { inner, layer: self.clone() }
    }
}

impl<S, J: Clone, I: Clone, B: Clone> Layer<S> for PolicyLayer<J, I, B> {
    type Service = PolicyService<S, J, I, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Layered { inner, layer: self.clone() }
    }
}

impl<S, J, R> tower_service::Service<R> for AttemptService<S, J>
where
    S: tower_service::Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Send + 'static,
    J: Classifier<S::Response, S::Error> + Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = AttemptError<S::Error>;
    type Future = BoxFuture<Result<S::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(AttemptError::Failed)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut inner = self.take_ready();
        let AttemptLayer { service, classifier } = self.layer.clone();
        Box::pin(async move { service.attempt().classify(classifier).run(|| inner.call(request)).await })
    }
}

impl<S, J, I, B, R> tower_service::Service<R> for PolicyService<S, J, I, B>
where
    S: tower_service::Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Clone + Send + 'static,
    I: RequestIdempotency<R> + Clone,
    B: Fallback<S::Response, S::Error> + Clone + Send + 'static,
    J: Classifier<S::Response, S::Error> + Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = BoxFuture<Result<S::Response, Self::Error>>;

    /// Always ready: each attempt waits for the inner service, within its own timeout.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let inner = self.inner.clone();
        let PolicyLayer { service, classifier, idempotency, fallback } = self.layer.clone();
        let idempotency = idempotency.of(&request);
        Box::pin(async move {
            let attempt = move |_| send_one(inner.clone(), request.clone());
            service.call().idempotency(idempotency).classify(classifier).fallback(fallback).run(attempt).await
        })
    }
}

/// Hedges requests, without any other part. Requests and the inner service must be `Clone`.
///
/// A request is hedged only when the layer's [`idempotency`](Self::idempotency) allows it to be sent twice. Within a
/// [`PolicyLayer`], use [`Policy::hedge`](crate::Policy::hedge) instead.
#[derive(Clone, Debug)]
pub struct HedgeLayer<I = Idempotency> {
    hedge: Hedge,
    budget: Arc<Budget>,
    idempotency: I,
}

/// The service that [`HedgeLayer`] produces.
pub type HedgeService<S, I = Idempotency> = Layered<S, HedgeLayer<I>>;

impl HedgeLayer {
    /// Hedges by `hedge`; each copy is charged to `budget`. No request is hedged before [`idempotency`](Self::idempotency) is
    /// set.
    pub const fn new(hedge: Hedge, budget: Arc<Budget>) -> Self {
        Self { hedge, budget, idempotency: Idempotency::NonIdempotent }
    }
}

impl<I> HedgeLayer<I> {
    /// Whether requests may be sent twice: an [`Idempotency`], or a function of the request.
    pub fn idempotency<K>(self, idempotency: K) -> HedgeLayer<K> {
        HedgeLayer { hedge: self.hedge, budget: self.budget, idempotency }
    }
}

impl<S, I: Clone> Layer<S> for HedgeLayer<I> {
    type Service = HedgeService<S, I>;

    fn layer(&self, inner: S) -> Self::Service {
        Layered { inner, layer: self.clone() }
    }
}

impl<S, I, R> tower_service::Service<R> for HedgeService<S, I>
where
    S: tower_service::Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Clone + Send + 'static,
    I: RequestIdempotency<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<S::Response, S::Error>>;

    /// Always ready: each copy waits for the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let inner = self.inner.clone();
        let may_repeat = self.layer.idempotency.of(&request).may_repeat();
        let (hedge, budget) = (self.layer.hedge.clone(), Arc::clone(&self.layer.budget));
        let send = move |_| send_one(inner.clone(), request.clone());
        Box::pin(async move { if may_repeat { hedge.run(&budget, send).await } else { send(1).await } })
    }
}

/// Replaces failed responses of any inner service, without any other part.
#[derive(Clone, Debug)]
pub struct FallbackLayer<J, F> {
    classifier: J,
    fallback: F,
}

/// The service that [`FallbackLayer`] produces.
pub type FallbackService<S, J, F> = Layered<S, FallbackLayer<J, F>>;

impl<J, F> FallbackLayer<J, F> {
    /// Returns `fallback(result)` instead of every result whose verdict by `classifier` is neither [`Verdict::Ok`] nor
    /// [`Verdict::Cancelled`].
    pub const fn new(classifier: J, fallback: F) -> Self {
        Self { classifier, fallback }
    }
}

impl<S, J: Clone, F: Clone> Layer<S> for FallbackLayer<J, F> {
    type Service = FallbackService<S, J, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Layered { inner, layer: self.clone() }
    }
}

impl<S, J, F, R> tower_service::Service<R> for FallbackService<S, J, F>
where
    S: tower_service::Service<R>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
    J: Classifier<S::Response, S::Error> + Clone + Send + 'static,
    F: FnOnce(Result<S::Response, S::Error>) -> Result<S::Response, S::Error> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let response = self.inner.call(request);
        let FallbackLayer { classifier, fallback } = self.layer.clone();
        Box::pin(async move {
            let result = response.await;
            match classifier.classify(&result) {
                Verdict::Ok | Verdict::Cancelled => result,
                _ => fallback(result),
            }
        })
    }
}

#[cfg(feature = "chaos")]
pub use chaotic::{ChaosLayer, ChaosService};

#[cfg(feature = "chaos")]
mod chaotic {
    use std::task::{Context, Poll};

    use tower_layer::Layer;

    use super::{BoxFuture, Layered};
    use crate::{chaos::Chaos, pipeline::Service};

    /// Injects chaos into requests. Add it innermost, next to the service that it disturbs.
    #[derive(Clone, Debug)]
    pub struct ChaosLayer<T, E> {
        service: Service,
        chaos: Chaos<T, E>,
    }

    /// The service that [`ChaosLayer`] produces.
    pub type ChaosService<S, T, E> = Layered<S, ChaosLayer<T, E>>;

    impl<T, E> ChaosLayer<T, E> {
        /// Injects `chaos`. Its delays use the clock of `service`, and its injections are reported to the observer of it.
        pub const fn new(service: Service, chaos: Chaos<T, E>) -> Self {
            Self { service, chaos }
        }
    }

    impl<S, T, E> Layer<S> for ChaosLayer<T, E> {
        type Service = ChaosService<S, T, E>;

        fn layer(&self, inner: S) -> Self::Service {
            let layer = Self { service: self.service.clone(), chaos: self.chaos.clone() };
            Layered { inner, layer }
        }
    }

    impl<S, R> tower_service::Service<R> for ChaosService<S, S::Response, S::Error>
    where
        S: tower_service::Service<R> + Clone + Send + 'static,
        S::Future: Send,
        S::Response: Send + 'static,
        S::Error: Send + 'static,
        R: Send + 'static,
    {
        type Response = S::Response;
        type Error = S::Error;
        type Future = BoxFuture<Result<S::Response, S::Error>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.inner.poll_ready(cx)
        }

        fn call(&mut self, request: R) -> Self::Future {
            let mut inner = self.take_ready();
            let (service, chaos) = (self.layer.service.clone(), self.layer.chaos.clone());
            Box::pin(async move { chaos.run_next(&service, || inner.call(request)).await })
        }
    }
}
