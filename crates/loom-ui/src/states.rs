//! The states of a run's actions, read from the API's list of them.

use std::{collections::BTreeMap, time::Duration};

use loom_expression::Value;

use crate::document::{count, error, items, present, text};

/// The statuses of an execution in which something went wrong.
pub(crate) const FAILURES: [&str; 3] = ["Failed", "TimedOut", "Aborted"];

/// What an action of a run is doing, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not started.
    Waiting,
    /// In progress.
    Running,
    /// In progress, between two attempts.
    Retrying,
    /// Ended with this status.
    Succeeded,
    /// Ended with this status.
    Failed,
    /// Ended with this status.
    TimedOut,
    /// Ended with this status.
    Skipped,
    /// Ended with this status.
    Cancelled,
    /// Ended with this status.
    Aborted,
}

impl State {
    const ALL: [State; 9] = [
        State::Waiting,
        State::Running,
        State::Retrying,
        State::Succeeded,
        State::Failed,
        State::TimedOut,
        State::Skipped,
        State::Cancelled,
        State::Aborted,
    ];

    /// The name in API documents; `Retrying` exists only here.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "Waiting",
            State::Running => "Running",
            State::Retrying => "Retrying",
            State::Succeeded => "Succeeded",
            State::Failed => "Failed",
            State::TimedOut => "TimedOut",
            State::Skipped => "Skipped",
            State::Cancelled => "Cancelled",
            State::Aborted => "Aborted",
        }
    }

    fn parse(text: &str) -> Option<State> {
        // An agent that has handed over has done its part.
        let text = if text == "HandedOff" { "Succeeded" } else { text };
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether an action in this state was or is executed.
    pub const fn is_taken(self) -> bool {
        !matches!(self, State::Waiting | State::Skipped)
    }
}

/// How many calls an execution has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Turns of an agent, each of which is a call of the model.
    pub turns: u64,
    /// Attempts, of the turn that needed most.
    pub attempts: u64,
}

impl Calls {
    /// Reads the attempts of an execution, as the API lists them. Polls of one attempt have its number.
    pub(crate) fn of(execution: &Value) -> Calls {
        let most =
            |name| items(execution, "attempts").map(|attempt| count(attempt, name)).max().unwrap_or_default();
        Calls { turns: most("turn"), attempts: most("attempt") }
    }

    /// What is worth saying of it: nothing of a single call.
    pub(crate) fn note(self) -> Vec<String> {
        let mut parts = Vec::new();
        if self.turns > 1 {
            parts.push(format!("{} model calls", self.turns));
        }
        if self.attempts > 1 {
            parts.push(format!("{} attempts", self.attempts));
        }
        parts
    }
}

/// One action of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// The state of the action; of several executions, the worst one.
    pub state: State,
    /// How often it was executed; more than once in a loop.
    pub executions: u64,
    /// How many of the executions failed or timed out.
    pub failures: u64,
    /// How long the only execution took or has taken.
    pub duration: Option<Duration>,
    /// The calls of the only execution.
    pub calls: Calls,
    /// The error code or message.
    pub error: Option<String>,
}

/// The states of a run's actions, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States {
    by_name: BTreeMap<String, NodeState>,
}

impl States {
    /// Reads the response of `GET /api/v1/runs/{id}/actions`. What is not of the expected shape is ignored.
    pub fn from_actions(document: &Value) -> States {
        let actions = document.get("actions").and_then(Value::as_array);
        let named = actions.into_iter().flat_map(|actions| actions.iter()).filter_map(|action| {
            let name = action.get("name")?.as_str()?;
            Some((name.to_owned(), NodeState::from_action(action)?))
        });
        States { by_name: named.collect() }
    }

    /// The state of an action, if the run knows it.
    pub fn get(&self, name: &str) -> Option<&NodeState> {
        self.by_name.get(name)
    }

    /// Whether there are none, as for a definition without a run.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl NodeState {
    fn from_action(action: &Value) -> Option<NodeState> {
        // Of several executions, the first failure must not be hidden behind the last success.
        let status = Some(text(action, "worstStatus")).filter(|worst| !worst.is_empty());
        let mut state = State::parse(status.unwrap_or_else(|| text(action, "status")))?;
        let counts = action.get("occurrenceStatuses").cloned().unwrap_or_default();
        let waits = items(action, "attempts").last().is_some_and(|last| present(last, "nextDue").is_some());
        if state == State::Running && waits {
            state = State::Retrying;
        }
        let code = text(action, "code");
        let is_bad = !matches!(state, State::Waiting | State::Running | State::Succeeded | State::Skipped);
        let message = error(action).map(|(_, message)| message).filter(|message| !message.is_empty());
        Some(NodeState {
            state,
            executions: count(action, "occurrenceCount"),
            failures: FAILURES.map(|status| count(&counts, status)).iter().sum(),
            duration: present(action, "durationMs")
                .map(|_| Duration::from_millis(count(action, "durationMs"))),
            calls: Calls::of(action),
            error: message
                .or_else(|| Some(code).filter(|code| is_bad && !code.is_empty()))
                .map(str::to_owned),
        })
    }

    /// What a drawing says beside the type: how often, how long, and with how many attempts.
    pub fn note(&self) -> String {
        let mut parts = Vec::new();
        if self.executions > 1 {
            parts.push(format!("{}×", self.executions));
            if self.failures > 0 {
                parts.push(format!("{} failed", self.failures));
            }
        }
        parts.extend(self.calls.note());
        if let Some(duration) = self.duration.filter(|_| self.state.is_taken()) {
            parts.push(short(duration));
        }
        parts.join(" · ")
    }
}

/// A duration with two significant units at most: `0 ms`, `1.25 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`.
pub(crate) fn short(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    let two = |large: u64, unit: &str, small: u64, lesser: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {lesser}") }
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0, 950, 1250, 12_300, 60_000, 200_000, 7_500_000, 349_200_000];
        assert_eq!(
            shown.map(|millis| short(Duration::from_millis(millis))),
            ["0 ms", "950 ms", "1.25 s", "12.3 s", "1 min", "3 min 20 s", "2 h 5 min", "4 d 1 h"]
        );
    }

    #[test]
    fn actions_are_read_as_the_api_lists_them() {
        let document = r#"{"actions": [
          {"name": "Ask", "type": "Http", "status": "Running", "occurrenceCount": 1, "durationMs": 1250,
           "attempts": [{"attempt": 1, "nextDue": "2026-01-01T00:00:00Z"}]},
          {"name": "Each", "type": "Compose", "status": "Failed", "occurrenceCount": 37, "code": "ActionFailed",
           "worstStatus": "Failed", "occurrenceStatuses": {"Failed": 1, "Succeeded": 36}},
          {"name": "Last", "type": "Compose", "status": "Succeeded", "worstStatus": "TimedOut", "occurrenceCount": 2,
           "occurrenceStatuses": {"TimedOut": 1, "Succeeded": 1}},
          {"name": "Talk", "type": "Agent", "status": "Succeeded", "occurrenceCount": 1,
           "attempts": [{"attempt": 1, "turn": 1}, {"attempt": 1, "turn": 2}, {"attempt": 2, "turn": 2}]},
          {"name": "Polled", "type": "Http", "status": "Succeeded", "occurrenceCount": 1,
           "attempts": [{"attempt": 1}, {"attempt": 1}, {"attempt": 1}]},
          {"name": 7}, {"name": "Odd", "status": "Elsewhere"}]}"#;
        let states = States::from_actions(&Value::from_json_str(document).unwrap());
        let ask = states.get("Ask").unwrap();
        assert_eq!((ask.state, ask.note().as_str()), (State::Retrying, "1.25 s"));
        let each = states.get("Each").unwrap();
        assert_eq!((each.note().as_str(), each.error.as_deref()), ("37× · 1 failed", Some("ActionFailed")));
        let last = states.get("Last").unwrap();
        assert_eq!((last.state, last.note().as_str()), (State::TimedOut, "2× · 1 failed"));
        assert_eq!(states.get("Talk").unwrap().note(), "2 model calls · 2 attempts");
        assert_eq!(states.get("Polled").unwrap().note(), "", "polls are not attempts");
        assert!(states.get("Odd").is_none() && States::from_actions(&Value::default()).is_empty());
    }
}
