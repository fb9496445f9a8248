//! People and workflows that take part.

use loom_models::{
    Message, Part,
    conversation::{Command, Effect, End, Human, LimitKind, Mode, Participant, ParticipantKind, Spec},
};

use super::{Host, agent, talk};

fn spec(human: Human) -> Spec {
    let owner = Participant::new("Owner", ParticipantKind::Human(human));
    let report = Participant::new("Report", ParticipantKind::Workflow);
    let mut spec = Spec::new(vec![agent("Ann"), owner, report], Mode::RoundRobin);
    spec.limit.rounds = Some(3);
    spec
}

fn until_asked(spec: &Spec) -> Host<'_> {
    let mut host = Host::new(spec);
    host.start("Discuss");
    host.step(&mut talk);
    host
}

#[test]
fn people_and_workflows_are_asked_and_heard() {
    let spec = spec(Human::default());
    let mut host = until_asked(&spec);
    assert_eq!(host.effects(), [Effect::Ask { speaker: "Owner".to_owned(), round: 2 }]);
    let message = Message::new(loom_models::Role::User, vec![Part::text("Fine")]);
    host.give(&Command::Replied { speaker: "Owner".to_owned(), round: 2, message, at_ms: 2 })
        .expect("it waits for her");
    host.run(talk);
    assert_eq!(host.spoken(), ["-: Discuss", "Ann: Ann saw 1", "Owner: Fine", "Report: I am Report"]);
    let history = host.state.history();
    assert_eq!(history[2].message.name.as_deref(), Some("Owner"));
}

#[test]
fn a_person_who_does_not_reply_in_time() {
    let mut human = Human::default();
    human.timeout_ms = Some(100);
    let spec_without = spec(human.clone());
    let mut host = until_asked(&spec_without);
    assert_eq!(host.effects().last(), Some(&Effect::Wake { at_ms: 1100 }));
    host.give(&Command::Tick { at_ms: 1099 }).expect("it runs");
    assert_eq!(host.state.end(), None, "it is too soon");
    host.give(&Command::Tick { at_ms: 1100 }).expect("it runs");
    assert_eq!(
        host.state.end(),
        Some(&End::NoReply {
            speaker: "Owner".to_owned(),
            reason: "the time to reply has passed".to_owned()
        })
    );

    human.default = Some("No objection".to_owned());
    let spec_with = spec(human);
    let mut host = until_asked(&spec_with);
    host.give(&Command::Tick { at_ms: 5000 }).expect("it runs");
    host.run(talk);
    assert_eq!(host.spoken()[2], "Owner: No objection");
    let late = Command::Replied {
        speaker: "Owner".to_owned(),
        round: 2,
        message: Message::user("Stop!"),
        at_ms: 5001,
    };
    assert!(host.give(&late).is_err(), "the default was the reply");
}

#[test]
fn the_conversation_ends_with_its_time_and_from_outside() {
    let mut spec = spec(Human::default());
    spec.limit.timeout_ms = Some(60_000);
    let mut host = until_asked(&spec);
    assert_eq!(host.effects().last(), Some(&Effect::Wake { at_ms: 61_000 }));
    host.give(&Command::Tick { at_ms: 61_000 }).expect("it runs");
    assert_eq!(host.state.end(), Some(&End::Limit { limit: LimitKind::Timeout }));
    assert_eq!(host.status(), "limit");

    let mut host = until_asked(&spec);
    host.give(&Command::Stop { reason: "enough".to_owned(), at_ms: 2 }).expect("it runs");
    assert_eq!((host.status(), host.spoken().len()), ("complete", 2));
    assert!(host.effects().is_empty());
}

#[test]
fn a_waiting_conversation_survives_being_stored() {
    let spec = spec(Human::default());
    let host = until_asked(&spec);
    let text = serde_json::to_string(&host.state).expect("it can be stored");
    let mut again = Host::new(&spec);
    again.state = serde_json::from_str(&text).expect("it can be read");
    assert_eq!(again.state, host.state);
    assert_eq!(again.effects(), host.effects());
    again.run(talk);
    assert_eq!(again.status(), "max-rounds");
    let text = serde_json::to_string(&spec).expect("it can be stored");
    assert_eq!(serde_json::from_str::<Spec>(&text).expect("it can be read"), spec);
}
