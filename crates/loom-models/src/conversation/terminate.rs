//! Whether a conversation has reached its end, as far as is known.

use super::{
    spec::{Spec, Termination, TextRule},
    state::State,
};

/// What a termination is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The entry of the list with this index is met.
    Met(u32),
    NotMet,
    /// The host must evaluate a part.
    Evaluate {
        part: u32,
        expression: String,
    },
    /// The coordinator must say whether the goal is reached, for a part.
    AskCoordinator {
        part: u32,
    },
}

/// What is not known yet. An expression is asked before a coordinator, because it costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
    Expression(u32, String),
    Coordinator(u32),
}

/// Checks the list in order. A part that decides nothing (beside a met one of `any`, or an unmet one of `all`) is not asked.
pub(super) fn verdict(spec: &Spec, state: &State, at_ms: u64) -> Verdict {
    let mut part = 0;
    let mut unknown: Option<Known> = None;
    for (index, termination) in spec.termination.iter().enumerate() {
        match known(termination, state, at_ms, &mut part) {
            Known::Yes => return Verdict::Met(index as u32),
            Known::No => {}
            other => unknown = Some(sooner(unknown, other)),
        }
    }
    match unknown {
        Some(Known::Expression(part, expression)) => Verdict::Evaluate { part, expression },
        Some(Known::Coordinator(part)) => Verdict::AskCoordinator { part },
        _ => Verdict::NotMet,
    }
}

fn sooner(known: Option<Known>, other: Known) -> Known {
    match (known, other) {
        (None, other) => other,
        (Some(Known::Coordinator(_)), other @ Known::Expression(..)) => other,
        (Some(known), _) => known,
    }
}

/// `part` counts all entries, those inside others too, so that a part has the same number at each check.
fn known(termination: &Termination, state: &State, at_ms: u64, part: &mut u32) -> Known {
    let this = *part;
    *part += 1;
    let of = |met: bool| if met { Known::Yes } else { Known::No };
    let checked = |unknown: Known| match state.checked.get(&this) {
        Some(met) => of(*met),
        None => unknown,
    };
    match termination {
        Termination::Rounds(rounds) => of(state.rounds >= *rounds),
        Termination::Messages(messages) => of(state.entries.len() >= *messages as usize),
        Termination::Tokens(tokens) => of(state.spent.usage.total() >= *tokens),
        Termination::CostMicros(micros) => of(state.spent.cost_micros >= *micros),
        Termination::TimeoutMs(millis) => of(at_ms.saturating_sub(state.started_ms) >= *millis),
        Termination::Text(rule) => of(said(rule, state)),
        Termination::ToolCalled(name) => of(state.last_tools.contains(name)),
        Termination::HandoffTo(name) => of(state.handoff.as_ref() == Some(name)),
        Termination::Speaker(name) => {
            of(state.entries.last().is_some_and(|entry| entry.speaker.as_ref() == Some(name)))
        }
        Termination::Expression(expression) => checked(Known::Expression(this, expression.clone())),
        Termination::Coordinator => checked(Known::Coordinator(this)),
        Termination::LegacyKeywords => of(legacy_keywords(state)),
        Termination::Any(inner) | Termination::All(inner) => {
            let all = matches!(termination, Termination::All(_));
            // What decides: one that is met for `any`, one that is not for `all`.
            let decisive = of(!all);
            let mut decided = false;
            let mut unknown = None;
            // Every entry is visited, because each has its number.
            for termination in inner {
                match known(termination, state, at_ms, part) {
                    found if found == decisive => decided = true,
                    Known::Yes | Known::No => {}
                    other => unknown = Some(sooner(unknown, other)),
                }
            }
            match unknown {
                _ if decided => decisive,
                Some(unknown) => unknown,
                None => of(all),
            }
        }
    }
}

fn said(rule: &TextRule, state: &State) -> bool {
    let Some(entry) = state.entries.last() else { return false };
    let Some(speaker) = &entry.speaker else { return false };
    let listed = rule.speakers.is_empty() || rule.speakers.contains(speaker);
    listed && has_word(&entry.message.text(), &rule.text)
}

/// Whether a text has another that does not continue as a word before or after it.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            let within = |outer: Option<char>, inner: Option<char>| {
                outer.is_some_and(char::is_alphanumeric) && inner.is_some_and(char::is_alphanumeric)
            };
            !within(before, word.chars().next()) && !within(after, word.chars().next_back())
        })
}

/// The rule of the first Loom: one of the last three messages says that it is complete, once there are more than three.
fn legacy_keywords(state: &State) -> bool {
    let spoken: Vec<_> = state.entries.iter().filter(|entry| entry.is_spoken()).collect();
    spoken.len() > 3
        && spoken.iter().rev().take(3).any(|entry| {
            let text = entry.message.text().to_lowercase();
            ["complete", "done", "finished"].iter().any(|word| text.contains(word))
        })
}
