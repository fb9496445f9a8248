//! Seven demonstrations, in real and short time: `cargo run --example resilience -p loom-resilience`.
#![expect(clippy::print_stdout, reason = "an example is there to be read on a terminal")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use loom_resilience::{
    AllTransient, Backoff, BreakerConfig, Clock, Event, Jitter, Limit, OpenDuration, Pipeline, Policy,
    RetryConfig, Timeout,
};
use tokio::time::{Instant, sleep};

/// Prints what the parts do, as it happens.
fn narrator(event: &Event<'_>) {
    match event {
        Event::StateChanged { from, to, cause, .. } => match cause {
            Some(cause) => println!("      circuit {from} -> {to}: {cause}"),
            None => println!("      circuit {from} -> {to}"),
        },
        Event::Retry { delay, .. } => println!("      next attempt in {} ms", delay.as_millis()),
        Event::Waited { waited, .. } => println!("      waited {} ms for a permit", waited.as_millis()),
        Event::GaveUp { attempts, why, .. } => println!("      gave up after {attempts}: {why}"),
        _ => {}
    }
}

fn pipeline(name: &str, policy: Policy) -> Pipeline {
    Pipeline::new(name, policy, Clock::system(), Some(Arc::new(narrator))).expect("the policy is sound")
}

fn title(number: u32, text: &str) {
    println!("\n{number}. {text}");
}

/// Doubling pauses without jitter, so that the times are easy to follow.
fn retry(attempts: u32, initial: Duration) -> RetryConfig {
    RetryConfig::attempts(attempts)
        .backoff(Backoff::Exponential { initial, factor: 2.0 })
        .jitter(Jitter::None)
}

/// A service that answers 503 so many times before it works.
struct Flaky {
    failures: u32,
    calls: AtomicU32,
}

impl Flaky {
    const fn new(failures: u32) -> Self {
        Self { failures, calls: AtomicU32::new(0) }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn answer(&self) -> Result<&'static str, String> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(Duration::from_millis(5)).await;
        if call <= self.failures {
            println!("      call {call}: 503");
            return Err("503 Service Unavailable".to_owned());
        }
        println!("      call {call}: 200");
        Ok("hello")
    }
}

async fn retry_with_exponential_backoff() {
    title(1, "Retry with exponential backoff: 503 twice, then it works");
    let service = Flaky::new(2);
    let pipeline = pipeline("greeter", Policy::none().retry(retry(3, Duration::from_millis(100))));
    let result = pipeline.call().idempotent().classify(AllTransient).run(|_| service.answer()).await;
    println!("   => {result:?} after {} calls", service.calls());
}

async fn an_action_with_a_retry_policy() {
    title(2, "An action with a retry policy: only what may pass is retried");
    let judge = |result: &Result<&str, &str>| match result {
        Ok(_) => loom_resilience::Verdict::Ok,
        Err(text) if text.starts_with("503") => loom_resilience::Verdict::Transient,
        Err(_) => loom_resilience::Verdict::Rejected,
    };
    let pipeline = pipeline("orders", Policy::none().retry(retry(5, Duration::from_millis(50))));
    let order = |info: loom_resilience::AttemptInfo| async move {
        let answer = if info.number == 1 { "503 Service Unavailable" } else { "404 Not Found" };
        println!("      attempt {}: {answer}", info.number);
        Err::<&str, _>(answer)
    };
    match pipeline.call().idempotent().classify(judge).run(order).await {
        Ok(value) => println!("   => {value}"),
        Err(stop) => println!("   => {stop}"),
    }
}

async fn timeout() {
    title(3, "Timeout: five seconds of work, 200 ms of patience");
    let start = Instant::now();
    let result = Timeout::new(Duration::from_millis(200)).run(sleep(Duration::from_secs(5))).await;
    let text = result.map_or_else(|error| error.to_string(), |()| "done".to_owned());
    println!("   => {text} (measured: {} ms)", start.elapsed().as_millis());
}

async fn circuit_breaker() {
    title(4, "Circuit breaker: three failures, then the service is spared, then it is probed");
    let open = OpenDuration::fixed(Duration::from_millis(300));
    let breaker = BreakerConfig::new().failure_threshold(3).open_for(open);
    let service = Flaky::new(3);
    let pipeline = pipeline("external-service", Policy::none().breaker(breaker));
    for call in 1..=5 {
        match pipeline.attempt().classify(AllTransient).run(|| service.answer()).await {
            Ok(text) => println!("   {call}: {text}"),
            Err(error) => println!("   {call}: {error}"),
        }
    }
    println!("   => five calls were asked for, the service was called {} times", service.calls());
    sleep(Duration::from_millis(310)).await;
    let result = pipeline.attempt().classify(AllTransient).run(|| service.answer()).await;
    println!("   => after 310 ms: {result:?}");
}

async fn rate_limiting() {
    title(5, "Rate limit: three a second, five calls");
    let pipeline = pipeline("search", Policy::none().limit(Limit::per_second(3).burst(3)));
    let start = Instant::now();
    for call in 1..=5 {
        let result = pipeline.attempt().classify(AllTransient).run(|| async { Ok::<_, String>(()) }).await;
        let left = pipeline.limiter().available(pipeline.clock().now()).unwrap_or_default();
        let word = if result.is_ok() { "granted" } else { "refused" };
        println!("   call {call}: {word} at {:>3} ms, tokens left {left}", start.elapsed().as_millis());
    }
}

async fn error_scope() {
    title(6, "A scope of steps: the third fails, the cleanup runs all the same");
    let scope = pipeline("scope", Policy::none().attempt_timeout(Duration::from_secs(1)));
    let steps = || async {
        for step in ["reserve", "charge", "ship"] {
            if step == "ship" {
                println!("      {step}: failed");
                return Err("no carrier");
            }
            println!("      {step}: done");
        }
        Ok(())
    };
    let result = scope.attempt().classify(AllTransient).run(steps).await;
    println!("      cleanup: done");
    println!("   => {result:?}");
}

async fn all_combined() {
    title(7, "All of it around one call");
    let policy = Policy::none()
        .total_timeout(Duration::from_secs(10))
        .retry(retry(3, Duration::from_millis(500)))
        .limit(Limit::per_second(5).burst(5))
        .breaker(
            BreakerConfig::new().failure_threshold(5).open_for(OpenDuration::fixed(Duration::from_secs(30))),
        );
    for line in policy.describe().lines() {
        println!("      {line}");
    }
    let service = Flaky::new(2);
    let pipeline = pipeline("everything", policy);
    let start = Instant::now();
    let result = pipeline.call().idempotent().classify(AllTransient).run(|_| service.answer()).await;
    println!("   => {result:?} in {} ms, {}", start.elapsed().as_millis(), pipeline.status());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    retry_with_exponential_backoff().await;
    an_action_with_a_retry_policy().await;
    timeout().await;
    circuit_breaker().await;
    rate_limiting().await;
    error_scope().await;
    all_combined().await;
}
