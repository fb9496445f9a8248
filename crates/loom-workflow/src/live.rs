//! Shows the progress of a run: a live tree on a terminal, lines elsewhere.

mod lines;
mod screen;
mod spoken;
mod tree;
mod words;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use loom_definition::Workflow;
use loom_engine::{Event, RunId, RunState, Trail, Watcher, history::History};
use loom_expression::Timestamp;

use crate::console::{self, Console};
use lines::Lines;
pub(crate) use screen::Screen;
pub(crate) use spoken::Spoken;
pub(crate) use tree::Tree;
pub(crate) use words::{between, duration, part_name};

/// Receives the events of one command's runs and shows the first run.
pub(crate) struct Live {
    inner: Mutex<Inner>,
}

struct Inner {
    run: Option<RunId>,
    history: History,
    lines: Option<Lines>,
}

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not until it has ended.
    Silent,
    /// One line per event.
    Lines,
}

impl Live {
    /// A view of a run of `workflow` that has not started.
    pub(crate) fn new(workflow: Arc<Workflow>, style: Style, console: Console) -> Live {
        let lines = (style == Style::Lines)
            .then(|| Lines::new(Trail::new(Arc::clone(&workflow)), Timestamp::MIN, console.color));
        Live { inner: Mutex::new(Inner { run: None, history: History::new(workflow), lines }) }
    }

    /// Shows an event of a run in progress.
    pub(crate) fn resumed(history: History, style: Style, console: Console) -> Live {
        let run = history.start.as_ref().map(|start| start.run);
        let (trail, began) = (history.trail().clone(), history.started);
        let lines = (style == Style::Lines).then(|| Lines::new(trail, began, console.color));
        Live { inner: Mutex::new(Inner { run, history, lines }) }
    }

    /// The history so far.
    pub(crate) fn history(&self) -> History {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).history.clone()
    }

    /// The tree at `now`, at most `rows` lines of `columns` characters.
    pub(crate) fn tree(&self, now: Timestamp, color: bool, size: (usize, usize)) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Tree { history: &inner.history, now, color, columns: size.0, rows: size.1 }.lines()
    }
}

/// The actions of a run that failed, with their reasons, one a line.
pub(crate) fn failures(history: &History) -> Vec<String> {
    lines::failures(history)
}

impl Watcher for Live {
    fn events(&self, state: &RunState, events: &[Event]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let run = state.start().map(|start| start.run);
        if inner.run.is_none() {
            inner.run = run;
        }
        if inner.run != run {
            return;
        }
        inner.history.extend(events);
        if let Some(lines) = &mut inner.lines {
            let mut out = String::new();
            lines.write(events, &mut out);
            console::note_styled(&out);
        }
    }
}
