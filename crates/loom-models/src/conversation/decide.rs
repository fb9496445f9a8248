//! What a command means for a conversation, and what is to be done next. Synchronous, and without a clock.

use super::{
    admit,
    event::{
        Command, Coordination, End, Evaluation, Event, OpenTool, Purpose, SelectedBy, ToolStatus, Warning,
    },
    select,
    spec::{Agent, LimitKind, Mode, ParticipantKind, Spec, SpecError, TERMINATE, Termination},
    state::{Stage, State, Turn, TurnStatus, apply},
    terminate::{self, Verdict},
    view,
};
use crate::{
    answer::{Answer, StopReason},
    error::ModelError,
    json::Json,
    message::{Message, Part, Role, ToolResult},
    request::OutputFormat,
    tokens::of_message,
};

/// How often a speaker, or the final answer, may have the wrong form.
const FORM_ATTEMPTS: u32 = 3;

/// A command that does not fit the state. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The definition is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The conversation has not started.
    #[error("the conversation has not started")]
    NotStarted,
    /// The conversation has started already.
    #[error("the conversation has already started")]
    AlreadyStarted,
    /// The conversation has ended.
    #[error("the conversation has ended")]
    Ended,
    /// Nothing waits for this; it may be a repetition.
    #[error("the conversation does not wait for {0}")]
    Unexpected(String),
}

/// Decides what a command means. The caller makes the events durable, applies them, and then does what
/// [`effects`](super::effects) returns.
///
/// # Errors
/// [`Refused`] when the command does not fit the state.
pub fn decide(spec: &Spec, state: &State, command: &Command) -> Result<Vec<Event>, Refused> {
    let mut decider = Decider { spec, state: state.clone(), events: Vec::new(), at_ms: command.at_ms() };
    decider.take(command)?;
    while decider.advance() {}
    Ok(decider.events)
}

pub(super) struct Decider<'a> {
    pub(super) spec: &'a Spec,
    /// The state after `events`. Its messages are shared with the caller's.
    pub(super) state: State,
    events: Vec<Event>,
    pub(super) at_ms: u64,
}

impl Decider<'_> {
    fn emit(&mut self, event: Event) {
        apply(&mut self.state, &event);
        self.events.push(event);
    }

    fn warn(&mut self, warning: Warning) {
        self.emit(Event::Warned { warning });
    }

    /// Ends the conversation, after its final answer if it has one.
    fn end(&mut self, end: End) {
        let concludes = self.spec.response.is_some() && end.concludes();
        self.emit(if concludes { Event::Concluding { end } } else { Event::Ended { end } });
    }

    fn take(&mut self, command: &Command) -> Result<(), Refused> {
        if let Command::Start { messages, at_ms } = command {
            self.spec.validate()?;
            return match self.state.stage {
                Stage::Idle => {
                    self.emit(Event::Started { messages: messages.clone(), at_ms: *at_ms });
                    Ok(())
                }
                Stage::Ended { .. } => Err(Refused::Ended),
                _ => Err(Refused::AlreadyStarted),
            };
        }
        match self.state.stage {
            Stage::Idle => return Err(Refused::NotStarted),
            Stage::Ended { .. } => return Err(Refused::Ended),
            _ => {}
        }
        match command {
            Command::Start { .. } => {}
            Command::ModelAnswered { call, answer, problem, .. } => {
                let purpose = self.purpose(*call)?;
                self.account(*call, &purpose, answer);
                self.answered(*call, &purpose, answer, problem.as_deref());
            }
            Command::ModelFailed { call, error, .. } => {
                let purpose = self.purpose(*call)?;
                self.emit(Event::CallFailed { call: *call, error: error.clone() });
                self.failed(&purpose, error);
            }
            Command::ToolReturned { call, result, .. } => {
                let name = match self.state.tool(*call, &result.id) {
                    Some(OpenTool { name, status: ToolStatus::Running(_), .. }) => name.clone(),
                    _ => return Err(Refused::Unexpected(format!("the result {} of call {call}", result.id))),
                };
                let result = ToolResult { name, ..result.clone() };
                self.emit(Event::ToolReturned { call: *call, result });
            }
            Command::ToolDecided { call, id, approved, reason, .. } => {
                let name = match self.state.tool(*call, id) {
                    Some(OpenTool { name, status: ToolStatus::AwaitingApproval(_), .. }) => name.clone(),
                    _ => return Err(Refused::Unexpected(format!("a decision on {id} of call {call}"))),
                };
                if *approved {
                    self.emit(Event::ToolApproved { call: *call, id: id.clone() });
                } else {
                    let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
                    let result =
                        ToolResult::failed(id.as_str(), name, format!("The call was not approved{reason}"));
                    self.emit(Event::ToolReturned { call: *call, result });
                }
            }
            Command::Replied { speaker, round, message, .. } => {
                self.waits_for(speaker, *round)?;
                self.reply(speaker, message.content.clone());
            }
            Command::Unanswered { speaker, round, reason, .. } => {
                self.waits_for(speaker, *round)?;
                self.unanswered(speaker.clone(), reason.clone());
            }
            Command::Evaluated { number, value, .. } => self.evaluated(*number, value)?,
            Command::Stop { reason, .. } => self.end(End::Stopped { reason: reason.clone() }),
            Command::Cancel { partial, .. } => {
                for (call, answer) in partial {
                    let Ok(purpose) = self.purpose(*call) else { continue };
                    self.account(*call, &purpose, answer);
                    if let (Purpose::Turn { speaker }, false) = (purpose, answer.message.text().is_empty()) {
                        let message = Message::assistant(answer.message.text());
                        self.emit(Event::Said { speaker, message });
                    }
                }
                self.emit(Event::Ended { end: End::Cancelled });
            }
            Command::Tick { .. } => self.tick(),
        }
        Ok(())
    }

    fn purpose(&self, call: u32) -> Result<Purpose, Refused> {
        let known = self.state.calls.get(&call).map(|known| known.purpose.clone());
        known.ok_or_else(|| Refused::Unexpected(format!("the answer to call {call}")))
    }

    /// Counts what an answer used. What a provider does not say is estimated.
    fn account(&mut self, call: u32, purpose: &Purpose, answer: &Answer) {
        let request = view::request(self.spec, &self.state, purpose);
        let model = request.as_ref().map(|request| request.model.clone()).unwrap_or_default();
        let estimated = answer.usage.is_none();
        let usage = answer.usage.unwrap_or_else(|| {
            let input = request.map_or(0, |request| request.estimated_tokens());
            crate::Usage::new(input, of_message(&answer.message))
        });
        let cost_micros = self.spec.prices.cost_micros(&model, usage).unwrap_or(0);
        self.emit(Event::CallAnswered { call, usage, estimated, cost_micros });
        for limit in admit::nearly_used(&self.spec.limit, &self.state) {
            if !self.state.warned.contains(&limit) {
                self.warn(Warning::Limit { limit });
            }
        }
    }

    fn answered(&mut self, call: u32, purpose: &Purpose, answer: &Answer, problem: Option<&str>) {
        match purpose {
            Purpose::Turn { speaker } => self.spoke(call, speaker, answer, problem),
            Purpose::Select => self.selected(answer),
            Purpose::Plan => self.coordinated(answer, Coordination::Plan),
            Purpose::Check { part } => {
                let met = select::check(answer).unwrap_or_else(|reason| {
                    self.warn(Warning::CheckFailed { reason });
                    false
                });
                self.emit(Event::TerminationChecked { part: *part, met });
            }
            Purpose::Summarize => {
                let text = answer.message.text();
                let through = view::summary_end(self.spec, &self.state);
                match through {
                    Some(through) if !text.trim().is_empty() => {
                        self.emit(Event::Summarized { through, text });
                    }
                    _ => self.warn(Warning::SummaryFailed { reason: "the answer has no text".to_owned() }),
                }
            }
            Purpose::Aggregate => self.coordinated(answer, Coordination::Aggregate),
            Purpose::Conclude => match select::structured(answer, problem) {
                Ok(response) => {
                    self.emit(Event::Responded { response });
                    self.concluded();
                }
                Err(feedback) if self.state.rejections + 1 < FORM_ATTEMPTS => {
                    self.reject(None, answer, feedback);
                }
                Err(reason) => {
                    self.warn(Warning::ResponseFailed { reason });
                    self.concluded();
                }
            },
        }
    }

    fn coordinated(&mut self, answer: &Answer, purpose: Coordination) {
        let message = Message::assistant(answer.message.text());
        self.emit(Event::Coordinated { message, purpose });
    }

    fn concluded(&mut self) {
        if let Stage::Conclude { end } = &self.state.stage {
            let end = end.clone();
            self.emit(Event::Ended { end });
        }
    }

    fn reject(&mut self, speaker: Option<&str>, answer: &Answer, feedback: String) {
        let (speaker, answer) = (speaker.map(str::to_owned), answer.message.text());
        self.emit(Event::Rejected { speaker, answer, feedback });
    }

    fn failed(&mut self, purpose: &Purpose, error: &ModelError) {
        let reason = error.to_string();
        match purpose {
            Purpose::Turn { speaker } => {
                self.emit(Event::Ended {
                    end: End::ModelFailed { speaker: speaker.clone(), error: error.clone() },
                });
            }
            Purpose::Select => self.fall_back(reason),
            Purpose::Plan => self.end(End::Stalled),
            Purpose::Check { part } => {
                self.warn(Warning::CheckFailed { reason });
                self.emit(Event::TerminationChecked { part: *part, met: false });
            }
            Purpose::Summarize => self.warn(Warning::SummaryFailed { reason }),
            Purpose::Aggregate => self.warn(Warning::AggregateFailed { reason }),
            Purpose::Conclude => {
                self.warn(Warning::ResponseFailed { reason });
                self.concluded();
            }
        }
    }

    /// An agent has answered in its turn.
    fn spoke(&mut self, call: u32, speaker: &str, answer: &Answer, problem: Option<&str>) {
        let (Some(agent), Some(turn)) =
            (self.spec.agent(speaker), self.state.turns().iter().find(|turn| turn.speaker == speaker))
        else {
            return;
        };
        let mut message = Message::new(Role::Assistant, answer.message.content.clone());
        self.name_calls(call, turn, &mut message);
        let speaker = speaker.to_owned();
        if message.tool_calls().next().is_some() {
            let tools = open_tools(agent, &message, answer);
            self.emit(Event::Said { speaker: speaker.clone(), message });
            self.emit(Event::ToolsCalled { speaker, call, tools });
            return;
        }
        if answer.stop == StopReason::Pause {
            // The provider continues what it paused.
            self.emit(Event::Said { speaker, message });
            return;
        }
        let formed = agent.output != OutputFormat::Text || problem.is_some();
        if let (true, Err(feedback)) = (formed, select::structured(answer, problem)) {
            if turn.rejections + 1 < FORM_ATTEMPTS {
                self.reject(Some(&speaker), answer, feedback);
            } else {
                self.emit(Event::Ended { end: End::Unreadable { speaker, reason: feedback } });
            }
            return;
        }
        self.emit(Event::Said { speaker: speaker.clone(), message });
        self.emit(Event::TurnEnded { speaker });
    }

    /// Gives each tool call an id that no earlier call of this speaker has, since some models count them anew each time.
    fn name_calls(&self, call: u32, turn: &Turn, message: &mut Message) {
        let own = self.state.entries.iter().filter(|entry| entry.speaker.as_ref() == Some(&turn.speaker));
        let earlier = own.map(|entry| &entry.message).chain(&turn.messages);
        let mut known: std::collections::BTreeSet<String> =
            earlier.flat_map(Message::tool_calls).map(|known| known.id.clone()).collect();
        for (index, part) in message.content.iter_mut().enumerate() {
            let Part::ToolCall(tool) = part else { continue };
            if tool.id.is_empty() || known.contains(&tool.id) {
                tool.id = format!("call_{call}_{index}");
            }
            while !known.insert(tool.id.clone()) {
                tool.id.push('x');
            }
        }
    }

    fn reply(&mut self, speaker: &str, content: Vec<Part>) {
        let message = Message::new(Role::User, content).named(speaker);
        self.emit(Event::Said { speaker: speaker.to_owned(), message });
        self.emit(Event::TurnEnded { speaker: speaker.to_owned() });
    }

    /// The coordinator has answered who speaks next.
    fn selected(&mut self, answer: &Answer) {
        let Some(coordinator) = &self.spec.coordinator else { return };
        let names = view::candidates(self.spec, &self.state);
        let selection = match select::selection(answer, &names, coordinator.may_terminate) {
            Ok(selection) => selection,
            Err(feedback) if self.state.rejections + 1 < coordinator.attempts => {
                return self.reject(None, answer, feedback);
            }
            Err(reason) => return self.fall_back(reason),
        };
        let Some(next) = selection.next else { return self.end(End::Terminated { by: None }) };
        if self.spec.mode == Mode::Manager {
            if self.state.rounds > 0 {
                let before = self.state.stalls;
                let stalls = if selection.progress { before.saturating_sub(1) } else { before + 1 };
                if stalls != before {
                    self.emit(Event::Stalled { stalls });
                }
                if stalls > coordinator.stalls_max {
                    if self.state.replans < coordinator.replans_max {
                        self.emit(Event::PlanLost);
                    } else {
                        self.end(End::Stalled);
                    }
                    return;
                }
            }
            if let Some(instruction) = selection.instruction {
                let message = Message::assistant(format!("{next}, {instruction}"));
                self.emit(Event::Coordinated { message, purpose: Coordination::Instruct });
            }
        }
        self.begin_round(vec![next], SelectedBy::Coordinator);
    }

    fn fall_back(&mut self, reason: String) {
        self.warn(Warning::SelectionFellBack { reason });
        let names = view::candidates(self.spec, &self.state);
        let next = self.next_in_order(&names);
        self.begin_round(vec![next], SelectedBy::Fallback);
    }

    fn begin_round(&mut self, speakers: Vec<String>, by: SelectedBy) {
        self.emit(Event::SpeakersSelected { round: self.state.rounds + 1, speakers, by });
    }

    /// The first of `names` after the last speaker, in the order of the definition.
    fn next_in_order(&self, names: &[&str]) -> String {
        let all = &self.spec.participants;
        let last = all.iter().position(|known| Some(&known.name) == self.state.last_speaker.as_ref());
        let from = last.map_or(0, |last| last + 1);
        let order = (0..all.len()).map(|step| all[(from + step) % all.len()].name.as_str());
        let next = order.into_iter().find(|name| names.contains(name));
        next.or(names.first().copied()).unwrap_or_default().to_owned()
    }

    fn evaluated(&mut self, number: u32, value: &Json) -> Result<(), Refused> {
        let waits = self.state.evaluation.clone().filter(|_| self.state.evaluations == number);
        let Some(evaluation) = waits else {
            return Err(Refused::Unexpected(format!("the value of evaluation {number}")));
        };
        self.emit(Event::Evaluated { value: value.clone() });
        match evaluation {
            // The state keeps them.
            Evaluation::Candidates => {}
            Evaluation::Termination { part, expression } => {
                let met = value.as_bool();
                if met.is_none() {
                    let reason = format!("`{expression}` must be a boolean (got {value})");
                    self.warn(Warning::CheckFailed { reason });
                }
                self.emit(Event::TerminationChecked { part, met: met.unwrap_or(false) });
            }
            Evaluation::Next => self.speakers_named(value),
        }
        Ok(())
    }

    fn speakers_named(&mut self, value: &Json) {
        let said: Vec<&Json> = match value {
            Json::Array(items) => items.iter().collect(),
            Json::Null => Vec::new(),
            one => vec![one],
        };
        if said.is_empty() || said.iter().any(|one| one.as_str() == Some(TERMINATE)) {
            return self.end(End::Terminated { by: None });
        }
        let mut speakers: Vec<String> = Vec::new();
        for one in said {
            let named = one.as_str().and_then(|name| {
                self.spec.participants.iter().find(|known| known.name.eq_ignore_ascii_case(name))
            });
            let Some(known) = named else {
                let name = one.as_str().map_or_else(|| one.to_string(), str::to_owned);
                return self.end(End::NoSpeaker { reason: format!("Agent not found: {name}") });
            };
            if !speakers.contains(&known.name) {
                speakers.push(known.name.clone());
            }
        }
        self.begin_round(speakers, SelectedBy::Expression);
    }

    fn tick(&mut self) {
        if self.exhausted() == Some(LimitKind::Timeout) {
            return self.end(End::Limit { limit: LimitKind::Timeout });
        }
        let turns = self.state.turns().iter();
        let late: Vec<String> = turns
            .filter(|turn| {
                admit::reply_deadline(self.spec, turn).is_some_and(|deadline| deadline <= self.at_ms)
            })
            .map(|turn| turn.speaker.clone())
            .collect();
        for speaker in late {
            self.unanswered(speaker, "the time to reply has passed".to_owned());
            if self.state.end().is_some() {
                return;
            }
        }
    }

    /// A person says the default, if there is one. Otherwise the conversation ends.
    fn unanswered(&mut self, speaker: String, reason: String) {
        match self.spec.participant(&speaker).map(|participant| &participant.kind) {
            Some(ParticipantKind::Human(human)) if human.default.is_some() => {
                let text = human.default.clone().unwrap_or_default();
                self.reply(&speaker, vec![Part::text(text)]);
            }
            _ => self.emit(Event::Ended { end: End::NoReply { speaker, reason } }),
        }
    }

    /// Checks that a speaker was asked in this round.
    fn waits_for(&self, speaker: &str, round: u32) -> Result<(), Refused> {
        let asked = |turn: &Turn| turn.speaker == speaker && matches!(turn.status, TurnStatus::Asked { .. });
        if round == self.state.rounds && self.state.turns().iter().any(asked) {
            return Ok(());
        }
        Err(Refused::Unexpected(format!("a message of {speaker} in round {round}")))
    }

    fn exhausted(&self) -> Option<LimitKind> {
        admit::exhausted(self.spec, &self.state, self.at_ms)
    }

    /// One step of what is to be done next. Returns whether there was one.
    fn advance(&mut self) -> bool {
        if view::waits_for_coordinator(&self.state) || self.state.evaluation.is_some() {
            return false;
        }
        let before = self.events.len();
        match &self.state.stage {
            Stage::Idle | Stage::Ended { .. } => {}
            Stage::Check => self.check(),
            Stage::Choose => self.choose(),
            Stage::Plan => self.call(Purpose::Plan),
            Stage::Speak { .. } => self.speak(),
            Stage::Aggregate => self.call(Purpose::Aggregate),
            Stage::Conclude { .. } => self.call(Purpose::Conclude),
        }
        self.events.len() > before
    }

    fn check(&mut self) {
        match terminate::verdict(self.spec, &self.state, self.at_ms) {
            Verdict::Met(by) => self.end(End::Terminated { by: Some(by) }),
            Verdict::NotMet => self.emit(Event::Continued),
            Verdict::Evaluate { part, expression } => {
                self.evaluate(Evaluation::Termination { part, expression });
            }
            // What ends anyway is not paid for.
            Verdict::AskCoordinator { part } => match (self.natural_end(), self.exhausted()) {
                (Some(end), _) => self.end(end),
                (None, Some(limit)) => self.end(End::Limit { limit }),
                (None, None) => self.call(Purpose::Check { part }),
            },
        }
    }

    fn evaluate(&mut self, evaluation: Evaluation) {
        self.emit(Event::EvaluationAsked { number: self.state.evaluations + 1, evaluation });
    }

    /// The end of a conversation in which nobody is left to speak.
    fn natural_end(&self) -> Option<End> {
        if let Some(to) = &self.state.handoff {
            let outside = self.spec.participant(to).is_none();
            return outside.then(|| End::HandedOff { to: to.clone() });
        }
        let last = self.state.last_speaker.as_deref()?;
        let returns = self.spec.agent(last).is_none() && !self.state.floor.is_empty();
        (self.spec.mode == Mode::Handoff && !returns).then_some(End::Answered)
    }

    fn choose(&mut self) {
        if let Some(end) = self.natural_end() {
            return self.end(end);
        }
        if let Some(limit) = self.exhausted() {
            return self.end(End::Limit { limit });
        }
        if view::summary_end(self.spec, &self.state).is_some() {
            return self.call(Purpose::Summarize);
        }
        if let Some(to) = self.state.handoff.clone() {
            return self.begin_round(vec![to], SelectedBy::Handoff);
        }
        let all =
            || self.spec.participants.iter().map(|participant| participant.name.clone()).collect::<Vec<_>>();
        match self.spec.mode {
            Mode::Handoff => {
                let next = self.state.floor.last().cloned().filter(|_| self.state.rounds > 0);
                let next = next.unwrap_or_else(|| self.spec.participants[0].name.clone());
                self.begin_round(vec![next], SelectedBy::Order);
            }
            Mode::RoundRobin => {
                let names: Vec<String> = all();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let next = self.next_in_order(&names);
                self.begin_round(vec![next], SelectedBy::Order);
            }
            Mode::Broadcast => self.begin_round(all(), SelectedBy::Order),
            Mode::Expression => self.evaluate(Evaluation::Next),
            Mode::Selector | Mode::Manager => {
                if self.spec.narrow_candidates && self.state.candidates.is_none() {
                    return self.evaluate(Evaluation::Candidates);
                }
                let may_terminate = self.spec.coordinator.as_ref().is_some_and(|known| known.may_terminate);
                let names = view::candidates(self.spec, &self.state);
                match names[..] {
                    [only] if !may_terminate && self.spec.mode == Mode::Selector => {
                        self.begin_round(vec![only.to_owned()], SelectedBy::OnlyCandidate);
                    }
                    _ => self.call(Purpose::Select),
                }
            }
        }
    }

    fn speak(&mut self) {
        let turns = self.state.turns().to_vec();
        for turn in &turns {
            let speaker = turn.speaker.clone();
            match &turn.status {
                TurnStatus::Ready if self.spec.agent(&speaker).is_some() => {
                    if turn.calls >= self.spec.turns_max() {
                        return self.end(End::Limit { limit: LimitKind::Turns });
                    }
                    self.call(Purpose::Turn { speaker });
                    if self.state.turns().is_empty() {
                        return;
                    }
                }
                TurnStatus::Ready => self.emit(Event::Asked { speaker, at_ms: self.at_ms }),
                TurnStatus::Tools { tools, .. } => {
                    if tools.iter().all(|tool| matches!(tool.status, ToolStatus::Returned(_))) {
                        self.emit(Event::ToolsReturned { speaker: speaker.clone() });
                        let to = tools.iter().find_map(|tool| tool.handoff.clone());
                        let ends =
                            to.is_some() || self.spec.termination.iter().any(|rule| ends_turn(rule, turn));
                        if let Some(to) = to {
                            self.emit(Event::HandedOff { from: speaker.clone(), to });
                        }
                        if ends {
                            self.emit(Event::TurnEnded { speaker });
                        }
                    }
                }
                TurnStatus::Calling { .. } | TurnStatus::Asked { .. } | TurnStatus::Done => {}
            }
        }
        if self.state.turns().iter().all(|turn| turn.status == TurnStatus::Done) {
            let aggregate = turns.len() > 1 && self.spec.coordinator.is_some();
            self.emit(Event::RoundEnded { aggregate });
        }
    }

    /// Starts a call, if the limits allow it.
    fn call(&mut self, purpose: Purpose) {
        let Some(request) = view::request(self.spec, &self.state, &purpose) else {
            return;
        };
        match admit::admit(self.spec, &self.state, &request, self.at_ms) {
            Ok(admitted) => self.emit(Event::CallStarted {
                call: self.state.last_call + 1,
                purpose,
                reserved_tokens: admitted.tokens,
                reserved_micros: admitted.micros,
                max_tokens: admitted.max_tokens,
            }),
            Err(limit) => {
                let reason = format!("no room is left in the limit `{limit:?}`");
                match purpose {
                    Purpose::Summarize => self.warn(Warning::SummaryFailed { reason }),
                    Purpose::Conclude => {
                        self.warn(Warning::ResponseFailed { reason });
                        self.concluded();
                    }
                    _ => self.emit(Event::Ended { end: End::Limit { limit } }),
                }
            }
        }
    }
}

/// Whether a rule that is met by a tool ends the turn at once, before the model is asked again.
fn ends_turn(rule: &Termination, turn: &Turn) -> bool {
    match rule {
        Termination::ToolCalled(name) => turn.tools.contains(name),
        Termination::Any(inner) => inner.iter().any(|rule| ends_turn(rule, turn)),
        _ => false,
    }
}

/// The tool calls of a message. What cannot be called has its result at once, for the model to read.
fn open_tools(agent: &Agent, message: &Message, answer: &Answer) -> Vec<OpenTool> {
    let mut handed_to: Option<String> = None;
    let open = message.tool_calls().map(|call| {
        let known = agent.tools.iter().find(|tool| tool.tool.name == call.name);
        let failed =
            |reason: String| ToolStatus::Returned(ToolResult::failed(&*call.id, &*call.name, reason));
        let mut handoff = None;
        let status = match (known, call.parsed()) {
            (None, _) => {
                let names: Vec<&str> = agent.tools.iter().map(|tool| tool.tool.name.as_str()).collect();
                failed(format!("Tool not found: {}. The tools are: {}", call.name, names.join(", ")))
            }
            (Some(_), Err(reason)) if answer.stop == StopReason::Length => {
                failed(format!("The answer was cut off: {reason}"))
            }
            (Some(_), Err(reason)) => failed(reason),
            (Some(tool), Ok(arguments)) => match (&tool.handoff, &handed_to) {
                (Some(_), Some(to)) => failed(format!("The conversation is already handed over to {to}.")),
                (Some(to), None) => {
                    handed_to = Some(to.clone());
                    handoff = Some(to.clone());
                    let text = format!("The conversation is handed over to {to}.");
                    ToolStatus::Returned(ToolResult::new(&*call.id, &*call.name, text))
                }
                (None, _) if tool.approval => ToolStatus::AwaitingApproval(arguments),
                (None, _) => ToolStatus::Running(arguments),
            },
        };
        OpenTool { id: call.id.clone(), name: call.name.clone(), status, handoff }
    });
    open.collect()
}
