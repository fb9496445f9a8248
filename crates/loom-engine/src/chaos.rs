//! Chaos: injects faults, latency, outcomes and behaviour into calls, inside all policies, which treat them like those of the service.
//!
//! Which calls are affected depends on the seed of the plan, the name of the action, its iteration, and how often the same
//! call was made before, but not on run ids or times. The same runs, started in the same order, get the same faults.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use loom_definition::{
    Status,
    policy::{ChaosBehaviour, ChaosEffect, ChaosInjection, ChaosPlan},
};
use loom_expression::{Object, Value};
use loom_resilience::{
    Learned,
    chaos::{ChaosContext, Injection},
};

use crate::{
    event::{EffectResult, ErrorInfo, Note, Outcome, RetryHint},
    http_status,
    ports::Call,
};

/// Maximum number of calls that are counted; beyond it counting begins again.
const COUNTED_MAX: usize = 65_536;

/// A plan, and how often each call was made.
#[derive(Debug)]
pub(crate) struct Chaos {
    plan: Arc<ChaosPlan>,
    counts: Mutex<HashMap<u64, u64>>,
}

impl Chaos {
    pub(crate) fn new(plan: Arc<ChaosPlan>) -> Chaos {
        Chaos { plan, counts: Mutex::default() }
    }

    /// Makes a call with the injections that strike it. `service` is the service that the call addresses, if it is known.
    pub(crate) async fn inject<Fut: Future<Output = EffectResult>>(
        &self,
        call: &Call,
        service: Option<&str>,
        notes: &Mutex<Vec<Note>>,
        work: impl Fn() -> Fut,
    ) -> EffectResult {
        let seed = self.seed_of(call);
        let (mut copies, mut lost) = (0, None);
        for (index, injection) in self.plan.injections.iter().enumerate() {
            if !strikes(&self.plan, index, injection, call, service, seed) {
                continue;
            }
            let named = || Arc::from(service.unwrap_or(&call.definition().name));
            let (result, what) = match &injection.effect {
                ChaosEffect::Latency(delay) => (None, format!("{} ms", delay.as_millis())),
                ChaosEffect::Fault { code } => (Some(fault(code)), code.to_string()),
                ChaosEffect::Outcome { status, headers, body } => {
                    (Some(outcome(*status, headers, body)), format!("status {status}"))
                }
                ChaosEffect::Behaviour(ChaosBehaviour::Duplicate) => {
                    copies += 1;
                    (None, "the call is sent twice".to_owned())
                }
                ChaosEffect::Behaviour(ChaosBehaviour::LoseResponse { code }) => {
                    lost = Some(code);
                    (None, format!("the response is lost: {code}"))
                }
            };
            let kind = injection.effect.kind();
            tracing::warn!(
                run_id = %call.run,
                action = &*call.definition().name,
                kind,
                what = &*what,
                "CHAOS: a fault was injected, because --chaos is on"
            );
            let note = Note::Injected { service: named(), kind: kind.into(), what };
            notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
            match (result, &injection.effect) {
                (Some(result), _) => return result,
                (None, ChaosEffect::Latency(delay)) => tokio::time::sleep(*delay).await,
                (None, _) => {}
            }
        }
        for _ in 0..copies {
            drop(work().await);
        }
        let result = work().await;
        lost.map_or(result, |code| fault(code))
    }

    /// A seed for the next call of an action at this iteration.
    fn seed_of(&self, call: &Call) -> u64 {
        // The key begins with the id of the run, which is different every time.
        let place = call.idempotency_key.split_once('/').map_or(&*call.idempotency_key, |(_, place)| place);
        let hash = blake3::hash(format!("{}/{place}", call.workflow.name).as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_bytes()[..8]);
        let place = u64::from_le_bytes(bytes);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX && !counts.contains_key(&place) {
            counts.clear();
        }
        let count = counts.entry(place).or_default();
        *count += 1;
        place.wrapping_add(*count)
    }
}

fn strikes(
    plan: &ChaosPlan,
    index: usize,
    injection: &ChaosInjection,
    call: &Call,
    service: Option<&str>,
    seed: u64,
) -> bool {
    let is = |wanted: &Option<Arc<str>>, name: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let named = using(call).unwrap_or_default();
    let is_meant = is(&injection.workflow, &call.workflow.name)
        && is(&injection.action, &call.definition().name)
        && (is(&injection.service, named) || is(&injection.service, service.unwrap_or_default()))
        && injection.attempts_max.is_none_or(|most| call.attempt <= most);
    let context = ChaosContext::new(&call.definition().name, seed).attempt(call.attempt);
    // Injections of one plan are independent of each other.
    let own = plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index as u64);
    is_meant && Injection::new(injection.rate).seed(own).applies(&context)
}

/// The named policy of the action.
fn using(call: &Call) -> Option<&str> {
    let resilience = call.definition().resilience.as_deref()?;
    resilience.named.as_ref().map(|using| &*using.name)
}

fn fault(code: &str) -> EffectResult {
    let error = ErrorInfo::new(code.to_owned(), "A fault was injected into the call, because --chaos is on.");
    EffectResult::Done {
        outcome: Outcome::failed(code.to_owned(), error),
        hint: RetryHint { transient: true, ..RetryHint::default() },
    }
}

fn outcome(status: u16, headers: &Object, body: &Value) -> EffectResult {
    let mut outputs = Object::new();
    outputs.insert("statusCode", i64::from(status));
    outputs.insert("headers", headers.clone());
    if !body.is_null() {
        outputs.insert("body", body.clone());
    }
    let after = headers.get_ignore_case("retry-after").and_then(|value| value.text().trim().parse().ok());
    let after = after.map(Duration::from_secs);
    let learned = after.filter(|_| matches!(status, 429 | 503)).map(|after| Learned {
        remaining: Some(0),
        reset_after: Some(after),
        ..Learned::default()
    });
    let is_success = (200..300).contains(&status);
    let outcome = Outcome {
        status: if is_success { Status::Succeeded } else { Status::Failed },
        code: http_status::status_code(status),
        outputs: Some(outputs.into()),
        error: None,
    };
    let hint =
        RetryHint { transient: http_status::is_transient(status), after, learned, ..RetryHint::default() };
    EffectResult::Done { outcome, hint }
}
