//! `tower` layers: a policy around any tower service, for axum, tonic, hyper and their clients.
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
    verdict::Classifier,
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Guards each request as one attempt, without retries: for requests that cannot be cloned, and for servers.
#[derive(Clone, Debug)]
pub struct AttemptLayer<J> {
    service: Service,
    classifier: J,
}

/// Puts each request under the whole policy, retries included. Requests and the inner service must be `Clone`.
#[derive(Clone, Debug)]
pub struct PolicyLayer<J> {
    service: Service,
    classifier: J,
}

/// What [`AttemptLayer`] makes.
#[derive(Clone, Debug)]
pub struct AttemptService<S, J> {
    inner: S,
    layer: AttemptLayer<J>,
}

/// What [`PolicyLayer`] makes.
#[derive(Clone, Debug)]
pub struct PolicyService<S, J> {
    inner: S,
    layer: PolicyLayer<J>,
}

impl<J> AttemptLayer<J> {
    /// Guards requests by `service`, judging results by `classifier`.
    pub const fn new(service: Service, classifier: J) -> Self {
        Self { service, classifier }
    }
}

impl<J> PolicyLayer<J> {
    /// Guards requests by `service`, judging results by `classifier`.
    pub const fn new(service: Service, classifier: J) -> Self {
        Self { service, classifier }
    }
}

impl<S, J: Clone> Layer<S> for AttemptLayer<J> {
    type Service = AttemptService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptService { inner, layer: self.clone() }
    }
}

impl<S, J: Clone> Layer<S> for PolicyLayer<J> {
    type Service = PolicyService<S, J>;

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
        // The service that is ready is the one that was polled: it serves, and its clone stays for the next request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let AttemptLayer { service, classifier } = self.layer.clone();
        Box::pin(async move { service.attempt().classify(classifier).run(|| inner.call(request)).await })
    }
}

impl<S, J, R> tower_service::Service<R> for PolicyService<S, J>
where
    S: tower_service::Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Clone + Send + 'static,
    J: Classifier<S::Response, S::Error> + Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = BoxFuture<Result<S::Response, Self::Error>>;

    /// Always ready: each attempt waits until the inner service is, inside its own time limit.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let inner = self.inner.clone();
        let PolicyLayer { service, classifier } = self.layer.clone();
        Box::pin(async move {
            let attempt = move |_| {
                let (mut inner, request) = (inner.clone(), request.clone());
                async move {
                    std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(request).await
                }
            };
            service.call().classify(classifier).run(attempt).await
        })
    }
}
