//! What a run reports: durable events, its response and its end.

use std::sync::Arc;

use super::Driver;
use crate::{
    durable::{self, RunJournal},
    event::Event,
    guard::Guarded,
    run_report::RunReport,
    shared::gate::Pass,
    state::RunState,
};

impl Driver {
    /// Reports durable events to the watcher and to waiting callers.
    pub(super) fn show(&mut self, events: &[Event]) {
        if self.is_over() {
            // Before the end is reported, so that a caller who starts the next run in response finds a free place.
            self.pass = Pass::Free;
            self.late.not_needed();
        }
        if let Some(accepted) = self.accepted.take() {
            accepted.send(()).ok();
        }
        if let Some(watcher) = &self.watcher {
            watcher.events(self.run.state(), events);
        }
        self.end_texts(events);
        for event in events {
            if let Event::Responded { response, .. } = event
                && let Some(respond) = &self.respond
            {
                respond.send_replace(Some(response.clone()));
            }
        }
        if let Some(parent) = self.journal.as_ref().and_then(RunJournal::parent)
            && events.iter().any(|event| durable::ends_for_parent(event, self.run.state()))
        {
            Arc::clone(&self.others).wake(parent);
        }
    }

    pub(super) fn report_end(&mut self) {
        let state: &RunState = self.run.state();
        let Some(id) = state.start().map(|start| start.run) else { return };
        let report = RunReport {
            id,
            status: state.status(),
            error: state.error().cloned(),
            outputs: state.outputs().cloned(),
            response: state.response().cloned(),
        };
        self.respond = None;
        self.report.send_replace(Some(Arc::new(report)));
        // Commands that are still sent come too late; their senders are notified immediately.
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
    }

    /// Makes the changes that a call has made to its services durable together with its end.
    pub(super) fn store_services(&mut self, guarded: Option<&Guarded>) {
        if let (Some(guarded), Some(journal)) = (guarded, &mut self.journal) {
            guarded.spent().for_each(|service| journal.store_service(service));
        }
    }
}
