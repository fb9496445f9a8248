//! Shows a run as a tree: one line per action, in execution order, with notable events below it.

use loom_definition::{
    ActionIdx, BlockIdx, Status, Workflow,
    model::{Action, ActionKind, Block, BlockRole},
};
use loom_engine::history::{Attempt, History, Occurrence};
use loom_expression::{Timestamp, visible};

use super::words::{self, Paint};

/// The most attempts that are shown one by one; of more, the first and the last ones are shown.
const ATTEMPTS_SHOWN: usize = 8;

/// The maximum number of notes below an action.
const NOTES_SHOWN: usize = 4;

/// The contents and layout of a tree.
pub(crate) struct Tree<'a> {
    pub(crate) history: &'a History,
    pub(crate) now: Timestamp,
    pub(crate) color: bool,
    /// The maximum length of a line, in characters.
    pub(crate) columns: usize,
    /// The maximum number of lines.
    pub(crate) rows: usize,
}

/// One line before it is cropped.
struct Row {
    indent: String,
    /// The text with colours; `width` is its length on the screen.
    text: String,
    width: usize,
    /// Whether it is kept when there is not enough room.
    lively: bool,
}

impl Tree<'_> {
    /// The lines, with colours.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut rows = vec![self.head()];
        self.block(Workflow::ROOT, "", &mut rows);
        if rows.len() > self.rows {
            rows = crop(rows, self.rows);
        }
        let paint = Paint { color: self.color };
        rows.into_iter()
            .map(|row| {
                let room = self.columns.saturating_sub(row.indent.chars().count());
                let text = if row.width > room { clip(&row.text, room) } else { row.text };
                format!("{}{text}", paint.dim(&row.indent))
            })
            .collect()
    }

    fn paint(&self) -> Paint {
        Paint { color: self.color }
    }

    fn row(&self, indent: String, parts: &[(Tone, String)], lively: bool) -> Row {
        let paint = self.paint();
        let mut text = String::new();
        let mut width = 0;
        for (tone, part) in parts {
            let part = &visible(part).into_owned();
            width += part.chars().count();
            text.push_str(&match tone {
                Tone::Plain => part.clone(),
                Tone::Dim => paint.dim(part),
                Tone::Bold => paint.bold(part),
                Tone::Warn => paint.warn(part),
                Tone::Of(status) => paint.status(*status, part),
            });
        }
        Row { indent, text, width, lively }
    }

    fn head(&self) -> Row {
        let history = self.history;
        let run = history.start.as_ref().map(|start| start.run.to_string()).unwrap_or_default();
        let took = words::between(history.started, history.ended.unwrap_or(self.now));
        let status = history.status;
        let tone = match status {
            loom_definition::RunStatus::Succeeded => Tone::Of(Some(Status::Succeeded)),
            status if status.is_final() => Tone::Of(Some(Status::Failed)),
            _ => Tone::Of(None),
        };
        let mut parts = vec![
            (Tone::Bold, history.workflow().name.to_string()),
            (Tone::Plain, "  ".to_owned()),
            (tone, status.to_string()),
            (Tone::Dim, format!("  {}  run {run}", words::duration(took))),
        ];
        if let Some(response) = &history.response {
            parts.push((Tone::Plain, format!("  response {}", words::response(response))));
        }
        if let Some(error) = &history.error {
            parts.push((Tone::Plain, format!("  {}", words::reason(&error.message, 120))));
        }
        self.row(String::new(), &parts, true)
    }

    fn block(&self, index: BlockIdx, indent: &str, rows: &mut Vec<Row>) {
        let workflow = self.history.workflow();
        let order = run_order(workflow, workflow.block(index));
        for (place, action) in order.iter().enumerate() {
            let is_last = place + 1 == order.len();
            self.action(workflow.action(*action), indent, is_last, rows);
        }
    }

    fn action(&self, action: &Action, indent: &str, is_last: bool, rows: &mut Vec<Row>) {
        let occurrences = self.history.occurrences(action.index);
        let ended = occurrences.iter().any(|occurrence| occurrence.status.is_some());
        let running = occurrences.iter().any(|occurrence| occurrence.status.is_none());
        let last = self.history.status_of(action.index);
        // Of several executions, the worst one.
        let status =
            if occurrences.len() > 1 { self.history.worst_status(action.index).or(last) } else { last };
        let waiting = occurrences.is_empty() && status.is_none();
        let (sign, tone) = match status {
            _ if waiting => ("·", Tone::Dim),
            _ if running => (words::sign(None), Tone::Of(None)),
            status => (words::sign(status), Tone::Of(status)),
        };
        let name = if waiting || status == Some(Status::Skipped) { Tone::Dim } else { Tone::Plain };
        let mut parts =
            vec![(tone, sign.to_owned()), (Tone::Plain, " ".to_owned()), (name, action.name.to_string())];
        let details = self.details(action, occurrences);
        if !details.is_empty() {
            parts.push((Tone::Dim, format!("  {details}")));
        }
        if let [only] = occurrences
            && let Some(error) = only.error.as_ref().filter(|_| only.status.is_some_and(Status::is_bad))
            && (children(action).is_empty() || error.code != "ActionFailed")
        {
            parts.push((
                Tone::Of(only.status),
                format!("  {}", words::reason_of(error, only.outputs.as_ref(), 100)),
            ));
        }
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        rows.push(self.row(format!("{indent}{branch}"), &parts, running || !ended));
        let below = format!("{indent}{below}");
        self.story(occurrences, &below, rows);
        if waiting || status == Some(Status::Skipped) {
            return;
        }
        let unused = self.unused(action);
        for (heading, block) in children(action) {
            self.child(heading.as_deref(), unused, block, &below, rows);
        }
    }

    /// What is said of a branch or a tool in which nothing has been executed.
    fn unused(&self, action: &Action) -> &'static str {
        let workflow = self.history.workflow();
        let mut around = workflow.block(action.block).owner;
        let mut may_repeat = false;
        while let Some(owner) = around {
            let owner = workflow.action(owner);
            may_repeat |= owner.kind.repeats() && self.history.status_of(owner.index).is_none();
            around = workflow.block(owner.block).owner;
        }
        let is_running = self.history.status_of(action.index).is_none();
        match action.kind {
            ActionKind::Agent { .. } if may_repeat || is_running => "not used yet",
            ActionKind::Agent { .. } => "not used",
            _ if may_repeat => "not taken yet",
            _ => "not taken",
        }
    }

    /// A block inside an action. A branch in which nothing was executed is one line.
    fn child(&self, heading: Option<&str>, unused: &str, block: BlockIdx, indent: &str, rows: &mut Vec<Row>) {
        let actions = &self.history.workflow().block(block).actions;
        let Some(heading) = heading else { return self.block(block, indent, rows) };
        if actions.is_empty() {
            return;
        }
        let untaken = actions.iter().all(|action| self.history.occurrences(*action).is_empty());
        if untaken {
            let text = format!("{heading}: {} {unused}", words::count(actions.len(), "action"));
            rows.push(self.row(indent.to_owned(), &[(Tone::Dim, text)], false));
        } else {
            rows.push(self.row(indent.to_owned(), &[(Tone::Dim, format!("{heading}:"))], false));
            self.block(block, indent, rows);
        }
    }

    /// What is shown after the name.
    fn details(&self, action: &Action, occurrences: &[Occurrence]) -> String {
        let mut details = Vec::new();
        match occurrences {
            [] => {}
            [only] => {
                if only.status == Some(Status::Skipped) {
                    return "skipped".to_owned();
                }
                if matches!(action.kind, ActionKind::Effect { .. }) && only.status.is_some() {
                    details.push(code_of(only));
                }
                let attempts = attempts_made(only);
                if attempts > 1 {
                    details.push(words::count(attempts as usize, "attempt"));
                }
                let took = only.took(self.now);
                if took.as_millis() > 0 {
                    details.push(words::duration(took));
                }
                if only.status.is_none()
                    && let Some(due) = only.attempts.last().and_then(|attempt| attempt.next_due)
                {
                    details.push(format!("again in {}", words::duration(words::between(self.now, due))));
                }
            }
            many => details.push(tally(many)),
        }
        if action.kind.is_loop() {
            let iterations = iterations(self.history, action);
            let of = rounds_planned(action, occurrences);
            details.insert(
                0,
                match of {
                    Some(planned) => format!("{iterations} of {}", words::count(planned, "iteration")),
                    None => words::count(iterations, "iteration"),
                },
            );
        }
        details.join(" · ")
    }

    /// Adds the lines about its attempts: failures, waits, rejections, circuit breakers.
    fn story(&self, occurrences: &[Occurrence], indent: &str, rows: &mut Vec<Row>) {
        let indent = format!("{indent}   ");
        let attempts: Vec<&Attempt> =
            occurrences.iter().flat_map(|occurrence| &occurrence.attempts).collect();
        if let [only] = occurrences
            && attempts_made(only) > 1
        {
            rows.push(self.row(indent.clone(), &[(Tone::Warn, retries(only))], false));
        }
        if occurrences.len() > 1 && attempts.len() > 1 {
            rows.push(self.row(indent.clone(), &[(Tone::Dim, outcomes(occurrences))], false));
        }
        let notes: Vec<_> = attempts.iter().flat_map(|attempt| &attempt.notes).collect();
        for note in notes.iter().take(NOTES_SHOWN) {
            rows.push(self.row(indent.clone(), &[(Tone::Warn, words::note(note))], false));
        }
        if notes.len() > NOTES_SHOWN {
            let text = format!("and {} more", notes.len() - NOTES_SHOWN);
            rows.push(self.row(indent, &[(Tone::Dim, text)], false));
        }
    }
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Dim,
    Bold,
    Warn,
    Of(Option<Status>),
}

/// The blocks of an action, with headings if there can be more than one.
fn children(action: &Action) -> Vec<(Option<String>, BlockIdx)> {
    match &action.kind {
        ActionKind::If { then, otherwise, .. } => {
            vec![(Some("then".to_owned()), *then), (Some("else".to_owned()), *otherwise)]
        }
        ActionKind::Switch { cases, default, .. } => {
            let cases = cases.iter().map(|case| (Some(format!("case {}", case.name)), case.block));
            cases.chain(default.map(|block| (Some("default".to_owned()), block))).collect()
        }
        ActionKind::Parallel { branches } => {
            let branches = branches.iter().enumerate();
            branches.map(|(index, block)| (Some(format!("branch {}", index + 1)), *block)).collect()
        }
        ActionKind::Agent { tools, .. } => {
            tools.iter().map(|tool| (Some(tool.title()), tool.block)).collect()
        }
        ActionKind::Scope { body } | ActionKind::Foreach { body, .. } | ActionKind::Retry { body, .. } => {
            vec![(None, *body)]
        }
        ActionKind::Loop(looped) => vec![(None, looped.body)],
        _ => Vec::new(),
    }
}

/// The actions of a block in topological order of `runAfter`; otherwise in the order of the file.
fn run_order(workflow: &Workflow, block: &Block) -> Vec<ActionIdx> {
    let mut waits: Vec<usize> =
        block.actions.iter().map(|action| workflow.action(*action).run_after.len()).collect();
    let mut order = Vec::with_capacity(block.actions.len());
    let mut done = vec![false; waits.len()];
    while let Some(next) = (0..waits.len()).find(|&place| !done[place] && waits[place] == 0) {
        done[next] = true;
        let action = block.actions[next];
        order.push(action);
        for successor in &workflow.action(action).successors {
            let place = workflow.action(*successor).position as usize;
            waits[place] = waits[place].saturating_sub(1);
        }
    }
    order
}

/// The number of iterations of a Foreach in progress.
fn rounds_planned(action: &Action, occurrences: &[Occurrence]) -> Option<usize> {
    let ActionKind::Foreach { .. } = action.kind else { return None };
    let running = occurrences.iter().find(|occurrence| occurrence.status.is_none())?;
    let items = running.inputs.as_ref()?;
    items.as_array().map(|items| items.len())
}

/// Rounds that have begun: the most that any action of the body has seen.
fn iterations(history: &History, action: &Action) -> usize {
    let workflow = history.workflow();
    let bodies = workflow
        .blocks
        .iter()
        .filter(|block| block.owner == Some(action.index) && block.role == BlockRole::Body);
    bodies
        .flat_map(|block| &block.actions)
        .map(|child| {
            let paths = history.occurrences(*child).iter().map(|occurrence| &occurrence.path);
            let mut paths: Vec<_> = paths.collect();
            paths.sort();
            paths.dedup();
            paths.len()
        })
        .max()
        .unwrap_or(0)
}

/// `5 times: 2 Failed, 3 Succeeded`.
fn tally(occurrences: &[Occurrence]) -> String {
    let mut parts = Vec::new();
    for status in Status::WORST_FIRST {
        let count = occurrences.iter().filter(|occurrence| occurrence.status == Some(status)).count();
        if count > 0 {
            parts.push(format!("{count} {status}"));
        }
    }
    let running = occurrences.iter().filter(|occurrence| occurrence.status.is_none()).count();
    if running > 0 {
        parts.push(format!("{running} running"));
    }
    format!("{} times: {}", occurrences.len(), parts.join(", "))
}

fn attempts_made(occurrence: &Occurrence) -> u32 {
    occurrence.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0)
}

fn code_of(occurrence: &Occurrence) -> String {
    let outcome = loom_engine::event::Outcome {
        status: occurrence.status.unwrap_or(Status::Succeeded),
        code: occurrence.code.clone(),
        outputs: occurrence.outputs.clone(),
        error: None,
    };
    words::ended(&outcome).into_owned()
}

/// `503, waited 200 ms → 503, waited 400 ms → 200`.
fn retries(occurrence: &Occurrence) -> String {
    let attempts: Vec<&Attempt> = occurrence
        .attempts
        .iter()
        .filter(|attempt| attempt.outcome.is_some() || attempt.ended.is_some())
        .collect();
    let mut parts: Vec<String> = Vec::new();
    for (index, attempt) in attempts.iter().enumerate() {
        if attempts.len() > ATTEMPTS_SHOWN && index == ATTEMPTS_SHOWN / 2 {
            parts.push(format!("… {} more", attempts.len() - ATTEMPTS_SHOWN));
        }
        if attempts.len() > ATTEMPTS_SHOWN
            && (ATTEMPTS_SHOWN / 2..attempts.len() - ATTEMPTS_SHOWN / 2).contains(&index)
        {
            continue;
        }
        let how = match &attempt.outcome {
            Some(outcome) => words::ended(outcome).into_owned(),
            None => code_of(occurrence),
        };
        parts.push(match (attempt.next_due, attempt.ended) {
            (Some(due), Some(ended)) => {
                format!("{how}, waited {}", words::duration(words::between(ended, due)))
            }
            _ => how,
        });
    }
    parts.join(" → ")
}

/// `503, 503, 503, circuit open ×2`: the results of the occurrences, in order, with consecutive equal ones counted.
fn outcomes(occurrences: &[Occurrence]) -> String {
    let mut parts: Vec<(String, usize)> = Vec::new();
    for occurrence in occurrences.iter().filter(|occurrence| occurrence.status.is_some()) {
        let code = code_of(occurrence);
        match parts.last_mut() {
            Some((last, count)) if *last == code => *count += 1,
            _ => parts.push((code, 1)),
        }
    }
    let shown: Vec<String> = parts
        .iter()
        .take(ATTEMPTS_SHOWN)
        .map(|(code, count)| if *count == 1 { code.clone() } else { format!("{code} ×{count}") })
        .collect();
    let more = if parts.len() > ATTEMPTS_SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Keeps the head, lines in progress, and as many of the other lines as fit, from the end.
fn crop(rows: Vec<Row>, most: usize) -> Vec<Row> {
    let total = rows.len();
    let room = most.saturating_sub(1);
    let lively = rows.iter().skip(1).filter(|row| row.lively).count();
    let mut quiet = room.saturating_sub(1).saturating_sub(lively.min(room));
    let mut keep = vec![false; total];
    let mut left = room.saturating_sub(1);
    for (index, row) in rows.iter().enumerate().rev() {
        let wanted = index == 0 || row.lively || quiet > 0;
        if wanted && left > 0 {
            keep[index] = true;
            left -= 1;
            if !row.lively {
                quiet = quiet.saturating_sub(1);
            }
        }
    }
    if let Some(first) = keep.first_mut() {
        *first = true;
    }
    let hidden = keep.iter().filter(|kept| !**kept).count();
    let mut shown: Vec<Row> =
        rows.into_iter().zip(keep).filter(|(_, kept)| *kept).map(|(row, _)| row).collect();
    let text = format!("… {hidden} more lines");
    let width = text.chars().count();
    shown.push(Row { indent: String::new(), text, width, lively: false });
    shown
}

/// The first `room` visible characters, with their colours.
fn clip(text: &str, room: usize) -> String {
    let mut out = String::new();
    let mut shown = 0;
    let mut escape = false;
    let mut colored = false;
    for character in text.chars() {
        if character == '\x1b' {
            escape = true;
            colored = true;
        }
        if escape {
            out.push(character);
            escape = character != 'm';
            continue;
        }
        if shown + 1 >= room {
            out.push('…');
            break;
        }
        out.push(character);
        shown += 1;
    }
    if colored {
        out.push_str("\x1b[0m");
    }
    out
}
