//! What calls get beside their inputs: a place to show text while it arrives, and the presence of the run.

use loom_definition::model::{ActionKind, EffectKind};

use super::Driver;
use crate::{
    clock::Now,
    event::{Command, Event, Note, Phase, Place, Purpose},
    live_text::LiveText,
    ports::Call,
    presence::Present,
};

impl Driver {
    /// The call, with a place to show its text if it may have one: nothing is shown of secrets and of what the definition
    /// secures.
    pub(super) fn showing(&mut self, call: Call, place: Place) -> Call {
        let call = self.present(call);
        let action = call.definition();
        let speaks = matches!(
            action.kind,
            ActionKind::Agent { .. }
                | ActionKind::Effect { effect: EffectKind::Ai | EffectKind::Activity, .. }
        );
        let secure = action.secure.inputs || action.secure.outputs || call.inputs.contains_secret();
        if !speaks || secure || call.phase != Phase::Call {
            return call;
        }
        let path = self.run.state().path(place.opening);
        let masker = &self.run.environment().masker;
        let text = LiveText::new(call.effect, place, path, call.attempt, masker);
        let texts = self.texts.get_or_insert_with(|| self.shared.boards.of_run(call.run));
        Call { show: texts.show(text), ..call }
    }

    /// The call, with the presence of the run if its handler may keep something for the run.
    fn present(&mut self, call: Call) -> Call {
        let keeps = match &call.definition().kind {
            ActionKind::Agent { .. } => true,
            ActionKind::Effect { effect, .. } => matches!(effect, EffectKind::Custom(_)),
            _ => false,
        };
        if !keeps {
            return call;
        }
        Call { presence: self.present.get_or_insert_with(Present::begin).presence(), ..call }
    }

    /// Ends the texts of calls that have ended, after the events that say so were shown.
    pub(super) fn end_texts(&mut self, events: &[Event]) {
        let Some(texts) = &self.texts else { return };
        for event in events {
            match event {
                Event::AttemptEnded { effect, .. } => texts.end(*effect),
                Event::ActionEnded { place, .. } => texts.end_action(*place),
                _ => {}
            }
        }
    }

    /// Keeps what has arrived of the answers that a command is about to interrupt.
    pub(super) fn keep_parts(&mut self, command: &Command, at: Now) {
        let Some(texts) = &self.texts else { return };
        let parts = match command {
            Command::Cancel | Command::TimeOut => texts.so_far(|_| true),
            Command::TimerFired(timer) => {
                let limit = self.run.state().timer(*timer).filter(|timer| timer.purpose == Purpose::Limit);
                let Some(limited) = limit.map(|timer| timer.place) else { return };
                texts.so_far(|place| place == limited)
            }
            _ => return,
        };
        for (effect, text) in parts {
            self.run.handle(Command::EffectNoted { effect, note: Note::Interrupted { text } }, at);
        }
    }
}
