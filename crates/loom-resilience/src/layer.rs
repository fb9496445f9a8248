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
    task::{Context, Poll},
};

use tower_layer::Layer;

use crate::{
    pipeline::{AttemptError, CallError, Service},
    verdict::{Classifier, Idempotency},
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
pub struct PolicyLayer<J, I = Idempotency> {
    service: Service,
    classifier: J,
    idempotency: I,
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

/// The service that [`AttemptLayer`] produces.
#[derive(Clone, Debug)]
pub struct AttemptService<S, J> {
    inner: S,
    layer: AttemptLayer<J>,
}

/// The service that [`PolicyLayer`] produces.
#[derive(Clone, Debug)]
pub struct PolicyService<S, J, I = Idempotency> {
    inner: S,
    layer: PolicyLayer<J, I>,
}

impl<J> AttemptLayer<J> {
    /// Guards requests by `service` and classifies results by `classifier`.
    pub const fn new(service: Service, classifier: J) -> Self {
        Self { service, classifier }
    }
}

impl<J> PolicyLayer<J> {
    /// Guards requests by `service` and classifies results by `classifier`.
    pub const fn new(service: Service, classifier: J) -> Self {
        Self { service, classifier, idempotency: Idempotency::NonIdempotent }
    }
}

impl<J, I> PolicyLayer<J, I> {
    /// Whether requests may be sent twice: an [`Idempotency`], or a function of the request.
    pub fn idempotency<K>(self, idempotency: K) -> PolicyLayer<J, K> {
        PolicyLayer { service: self.service, classifier: self.classifier, idempotency }
    }
}

impl<S, J: Clone> Layer<S> for AttemptLayer<J> {
    type Service = AttemptService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptService { inner, layer: self.clone() }
    }
}

impl<S, J: Clone, I: Clone> Layer<S> for PolicyLayer<J, I> {
    type Service = PolicyService<S, J, I>;

    fn layer(&self, inner: S) -> Self::Service {
        PolicyService { inner, layer: self.clone() }
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
        // The instance that was polled is the one that is ready, so it serves this request; its clone serves the next.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let AttemptLayer { service, classifier } = self.layer.clone();
        Box::pin(async move { service.attempt().classify(classifier).run(|| inner.call(request)).await })
    }
}

impl<S, J, I, R> tower_service::Service<R> for PolicyService<S, J, I>
where
    S: tower_service::Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Clone + Send + 'static,
    I: RequestIdempotency<R> + Clone,
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
        let PolicyLayer { service, classifier, idempotency } = self.layer.clone();
        let idempotency = idempotency.of(&request);
        Box::pin(async move {
            let attempt = move |_| {
                let (mut inner, request) = (inner.clone(), request.clone());
                async move {
                    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(request).await
                }
            };
            service.call().idempotency(idempotency).classify(classifier).run(attempt).await
        })
    }
}
