//! Which work is ready in a run, derived from its state.

use crate::{
    event::{OpeningId, Place},
    state::{Activity, OpeningPhase, RunState, Slot, SlotPhase},
    work::Work,
};

impl RunState {
    /// Whether queued work is still to be done.
    pub(crate) fn is_current(&self, work: Work) -> bool {
        match work {
            Work::Action(place) => self.slot_at(place).is_some_and(|slot| slot.phase == SlotPhase::Ready),
            Work::BlockDone(opening) => self.is_done(opening),
            Work::Spawn(place) => self.running(place).is_some_and(|activity| activity.each.is_some()),
            Work::Execute(place) => self.running(place).is_some_and(is_to_execute),
        }
    }

    /// Queues exactly the work that is ready.
    pub(crate) fn find_work(&mut self) {
        self.ready.clear();
        if self.status.is_final() {
            return;
        }
        for index in 0..self.openings.len() {
            let opening = OpeningId(index as u32);
            if self.is_done(opening) {
                self.ready.push_back(Work::BlockDone(opening));
            }
            for position in 0..self.opening(opening).slots.len() {
                let action = self.workflow.block(self.opening(opening).block).actions[position];
                let place = Place { opening, action };
                for work in [Work::Action(place), Work::Spawn(place), Work::Execute(place)] {
                    if self.is_current(work) {
                        self.ready.push_back(work);
                    }
                }
            }
        }
    }

    /// Whether all actions of a block have ended, and the action that opened it has not been continued yet.
    fn is_done(&self, opening: OpeningId) -> bool {
        let Some(opened) = self.openings.get(opening.0 as usize) else { return false };
        if opened.phase != OpeningPhase::Closed {
            return false;
        }
        let Some(parent) = opened.parent else { return !self.status.is_final() };
        self.running(parent).is_some_and(|activity| {
            let calls = activity.call.as_ref().is_some_and(|call| call.effect.is_some());
            activity.open == 0 && activity.pause.is_none() && !calls && activity.openings.contains(&opening)
        })
    }

    /// The activity of a running action.
    fn running(&self, place: Place) -> Option<&Activity> {
        let slot = self.slot_at(place).filter(|slot| slot.phase == SlotPhase::Running)?;
        slot.activity.as_deref()
    }

    /// The slot of an action in an open block. None when its place has been reused by another block.
    pub(crate) fn slot_at(&self, place: Place) -> Option<&Slot> {
        let opened = self.openings.get(place.opening.0 as usize)?;
        let action = self.workflow.action(place.action);
        let is_here = opened.phase == OpeningPhase::Open && opened.block == action.block;
        is_here.then(|| &opened.slots[action.position as usize])
    }
}

fn is_to_execute(activity: &Activity) -> bool {
    activity.call.as_ref().is_some_and(|call| call.to_execute)
}
