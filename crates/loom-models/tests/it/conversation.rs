//! Conversations, driven by a host that answers at once.

mod agent;
mod group;
mod laws;
mod limits;
mod people;

use loom_models::{
    Answer, Message, ModelError, Request, Role, ToolResult,
    conversation::{
        Agent, Command, Coordinator, Effect, Entry, Evaluation, Event, Mode, Participant, Purpose, Reduction,
        Refused, Spec, State, Termination, apply, decide, effects,
    },
};

/// Runs a conversation and keeps what happened.
pub(crate) struct Host<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) state: State,
    pub(crate) events: Vec<Event>,
    pub(crate) now_ms: u64,
}

impl<'a> Host<'a> {
    pub(crate) fn new(spec: &'a Spec) -> Host<'a> {
        Host { spec, state: State::default(), events: Vec::new(), now_ms: 1000 }
    }

    pub(crate) fn give(&mut self, command: &Command) -> Result<(), Refused> {
        let events = decide(self.spec, &self.state, command)?;
        for event in &events {
            apply(&mut self.state, event);
        }
        self.events.extend(events);
        Ok(())
    }

    pub(crate) fn start(&mut self, text: &str) {
        let command = Command::Start { messages: vec![Message::user(text)], at_ms: self.now_ms };
        self.give(&command).expect("it can start");
    }

    pub(crate) fn effects(&self) -> Vec<Effect> {
        effects(self.spec, &self.state)
    }

    /// Does the first effect that is due, or returns `false`.
    pub(crate) fn step(
        &mut self,
        model: &mut dyn FnMut(&Purpose, &Request) -> Result<Answer, ModelError>,
    ) -> bool {
        let at_ms = self.now_ms;
        let Some(effect) = self.effects().into_iter().next() else { return false };
        let command = match effect {
            Effect::CallModel { call, purpose, request } => match model(&purpose, &request) {
                Ok(answer) => Command::ModelAnswered { call, answer, problem: None, at_ms },
                Err(error) => Command::ModelFailed { call, error, at_ms },
            },
            Effect::CallTool { call, id, name, arguments, .. } => {
                let result = ToolResult::new(id, "", format!("{name} got {arguments}"));
                Command::ToolReturned { call, result, at_ms }
            }
            Effect::Approve { call, id, .. } => {
                Command::ToolDecided { call, id, approved: true, reason: None, at_ms }
            }
            Effect::Ask { speaker, round } => {
                let message = Message::user(format!("I am {speaker}"));
                Command::Replied { speaker, round, message, at_ms }
            }
            Effect::Evaluate { number, evaluation } => {
                let value = match evaluation {
                    Evaluation::Termination { .. } => false.into(),
                    _ => loom_models::Json::Null,
                };
                Command::Evaluated { number, value, at_ms }
            }
            _ => return false,
        };
        self.give(&command).expect("the conversation waits for it");
        true
    }

    pub(crate) fn run(&mut self, mut model: impl FnMut(&Purpose, &Request) -> Result<Answer, ModelError>) {
        let mut steps = 0;
        while self.step(&mut model) {
            steps += 1;
            assert!(steps < 1000, "the conversation does not end: {:?}", self.events.last());
        }
    }

    /// Who spoke, with `-` for what started the conversation, and what, without tool calls.
    pub(crate) fn spoken(&self) -> Vec<String> {
        let history = self.state.history();
        let spoken = history.iter().filter(|entry| entry.is_spoken());
        spoken
            .map(|entry| format!("{}: {}", entry.speaker.as_deref().unwrap_or("-"), entry.message.text()))
            .collect()
    }

    pub(crate) fn speakers(&self) -> Vec<String> {
        let history = self.state.history();
        history.iter().filter(|entry| entry.is_spoken()).filter_map(|entry| entry.speaker.clone()).collect()
    }

    pub(crate) fn status(&self) -> &'static str {
        self.state.end().expect("it has ended").status()
    }

    pub(crate) fn roles(&self) -> Vec<Role> {
        self.state.history().iter().map(|entry: &std::sync::Arc<Entry>| entry.message.role).collect()
    }
}

pub(crate) fn agent(name: &str) -> Participant {
    Participant::agent(name, Agent::new("m", format!("You are {name}.")))
}

pub(crate) fn group(mode: Mode, names: &[&str]) -> Spec {
    Spec::new(names.iter().map(|name| agent(name)).collect(), mode)
}

pub(crate) fn coordinated(mode: Mode, names: &[&str]) -> Spec {
    let mut spec = group(mode, names);
    spec.coordinator = Some(Coordinator::new("boss", "the text is written"));
    spec
}

/// A model whose agents say their name and how many messages they have seen.
#[expect(clippy::unnecessary_wraps, reason = "the other models of the tests fail sometimes")]
pub(crate) fn talk(purpose: &Purpose, request: &Request) -> Result<Answer, ModelError> {
    let Purpose::Turn { speaker } = purpose else { return Ok(Answer::text("{}")) };
    let seen = request.messages.iter().filter(|message| message.role != Role::System).count();
    Ok(Answer::text(format!("{speaker} saw {seen}")))
}

#[test]
fn commands_that_do_not_fit_are_refused() {
    let spec = group(Mode::Handoff, &["Ann"]);
    let mut host = Host::new(&spec);
    let tick = Command::Tick { at_ms: 1 };
    assert_eq!(host.give(&tick), Err(Refused::NotStarted));
    host.start("Hello");
    let again = Command::Start { messages: Vec::new(), at_ms: 1 };
    assert_eq!(host.give(&again), Err(Refused::AlreadyStarted));
    let other = Command::ModelAnswered { call: 7, answer: Answer::text(""), problem: None, at_ms: 1 };
    assert_eq!(
        host.give(&other).expect_err("there is no such call").to_string(),
        "the conversation does not wait for the answer to call 7"
    );
    let tool = Command::ToolReturned { call: 1, result: ToolResult::new("a", "", ""), at_ms: 1 };
    assert!(matches!(host.give(&tool), Err(Refused::Unexpected(_))));
    let reply =
        Command::Replied { speaker: "Ann".to_owned(), round: 1, message: Message::user(""), at_ms: 1 };
    assert!(matches!(host.give(&reply), Err(Refused::Unexpected(_))));
    let value = Command::Evaluated { number: 1, value: true.into(), at_ms: 1 };
    assert!(matches!(host.give(&value), Err(Refused::Unexpected(_))));
    host.run(talk);
    assert_eq!(host.give(&tick), Err(Refused::Ended));
}

#[test]
fn wrong_definitions_are_refused_by_name() {
    let error = |change: fn(&mut Spec)| {
        let mut spec = group(Mode::RoundRobin, &["Ann", "Bob"]);
        change(&mut spec);
        spec.validate().expect_err("it is wrong").to_string()
    };
    assert_eq!(error(|spec| spec.participants.clear()), "`participants` must have at least one participant");
    assert_eq!(
        error(|spec| spec.participants[1].name = "ANN".to_owned()),
        "participants must have different names (got `ANN` twice)"
    );
    assert_eq!(
        error(|spec| spec.participants[1].name = "terminate".to_owned()),
        "a participant must have a name other than `terminate`"
    );
    let coordinator = "`coordinator` is missing: the mode or the termination needs it";
    assert_eq!(error(|spec| spec.mode = Mode::Selector), coordinator);
    assert_eq!(
        error(|spec| spec.termination = vec![Termination::All(vec![Termination::Coordinator])]),
        coordinator
    );
    assert_eq!(
        error(|spec| spec.limit.cost_micros = Some(1)),
        "the price of `m` is missing: a limit of cost needs it"
    );
    assert_eq!(
        error(|spec| spec.reduction = Reduction::Summarization { target: 5, threshold: 5 }),
        "`target` must be less than `threshold` (got 5 and 5)"
    );
    let mut spec = group(Mode::RoundRobin, &[]);
    spec.mode = Mode::Broadcast;
    let refused = decide(&spec, &State::default(), &Command::Start { messages: Vec::new(), at_ms: 0 });
    assert!(matches!(refused, Err(Refused::Spec(_))));
}
