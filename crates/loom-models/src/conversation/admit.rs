//! Limits: what is used up, and what a call may use.

use super::{
    spec::{Limit, LimitKind, ParticipantKind, Spec},
    state::{State, Turn, TurnStatus},
};
use crate::{answer::Usage, request::Request};

/// What is set aside for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) tokens: u64,
    pub(super) micros: u64,
    /// The most tokens of the answer, if a limit sets them.
    pub(super) max_tokens: Option<u32>,
}

/// The limit that is used up, after which nothing more is begun.
pub(super) fn exhausted(spec: &Spec, state: &State, at_ms: u64) -> Option<LimitKind> {
    let limit = &spec.limit;
    let spent = &state.spent;
    if limit.timeout_ms.is_some_and(|timeout| at_ms.saturating_sub(state.started_ms) >= timeout) {
        return Some(LimitKind::Timeout);
    }
    if limit.tokens.is_some_and(|tokens| spent.usage.total() >= tokens) {
        return Some(LimitKind::Tokens);
    }
    if limit.cost_micros.is_some_and(|micros| spent.cost_micros >= micros) {
        return Some(LimitKind::Cost);
    }
    if limit.calls.is_some_and(|calls| spent.calls >= calls) {
        return Some(LimitKind::Calls);
    }
    (state.rounds >= spec.rounds_max()).then_some(LimitKind::Rounds)
}

/// The limits of which four fifths are used.
pub(super) fn nearly_used(limit: &Limit, state: &State) -> Vec<LimitKind> {
    let spent = &state.spent;
    let parts = [
        (LimitKind::Tokens, limit.tokens, spent.usage.total()),
        (LimitKind::Cost, limit.cost_micros, spent.cost_micros),
        (LimitKind::Calls, limit.calls.map(u64::from), u64::from(spent.calls)),
    ];
    let used = parts
        .into_iter()
        .filter(|(_, limit, used)| limit.is_some_and(|limit| u128::from(*used) * 5 >= u128::from(limit) * 4));
    used.map(|(kind, ..)| kind).collect()
}

/// Whether a call may be made, with what is in flight counted by what was set aside for it.
pub(super) fn admit(
    spec: &Spec,
    state: &State,
    request: &Request,
    at_ms: u64,
) -> Result<Admitted, LimitKind> {
    let limit = &spec.limit;
    if limit.timeout_ms.is_some_and(|timeout| at_ms.saturating_sub(state.started_ms) >= timeout) {
        return Err(LimitKind::Timeout);
    }
    let in_flight = u32::try_from(state.calls.len()).unwrap_or(u32::MAX);
    if limit.calls.is_some_and(|calls| state.spent.calls.saturating_add(in_flight) >= calls) {
        return Err(LimitKind::Calls);
    }
    let input = request.estimated_tokens();
    // Speakers of one round share what is left, since none of them is to go without.
    let ready = state.turns().iter().filter(|turn| turn.status == TurnStatus::Ready).count().max(1) as u64;
    let mut room: Option<u64> = None;
    if let Some(tokens) = limit.tokens {
        let reserved: u64 = state.calls.values().map(|call| call.reserved_tokens).sum();
        let left = tokens.saturating_sub(state.spent.usage.total()).saturating_sub(reserved);
        let answer = (left / ready).saturating_sub(input);
        if answer == 0 {
            return Err(LimitKind::Tokens);
        }
        room = Some(answer);
    }
    let price = spec.prices.price(&request.model);
    if let (Some(micros), Some(price)) = (limit.cost_micros, price) {
        let reserved: u64 = state.calls.values().map(|call| call.reserved_micros).sum();
        let left = micros.saturating_sub(state.spent.cost_micros).saturating_sub(reserved);
        let left = (left / ready).saturating_sub(price.cost_micros(Usage::new(input, 0)));
        let answer = match price.output.0 {
            0 => u64::MAX,
            output => u64::try_from(u128::from(left) * 1_000_000 / u128::from(output)).unwrap_or(u64::MAX),
        };
        if left == 0 || answer == 0 {
            return Err(LimitKind::Cost);
        }
        room = Some(room.map_or(answer, |room| room.min(answer)));
    }
    let wanted = request.sampling.max_tokens;
    let max_tokens = room.map(|room| wanted.unwrap_or(u32::MAX).min(u32::try_from(room).unwrap_or(u32::MAX)));
    let answer = u64::from(max_tokens.or(wanted).unwrap_or(0));
    let micros = price.map_or(0, |price| price.cost_micros(Usage::new(input, answer)));
    Ok(Admitted { tokens: input.saturating_add(answer), micros, max_tokens })
}

/// When a person must have replied.
pub(super) fn reply_deadline(spec: &Spec, turn: &Turn) -> Option<u64> {
    let TurnStatus::Asked { at_ms } = turn.status else { return None };
    match &spec.participant(&turn.speaker)?.kind {
        ParticipantKind::Human(human) => Some(at_ms.saturating_add(human.timeout_ms?)),
        ParticipantKind::Agent(_) | ParticipantKind::Workflow => None,
    }
}
