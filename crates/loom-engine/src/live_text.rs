//! Text that calls show while it arrives, such as the answer of a language model.
//!
//! It is not part of the journal and never reaches the machine: the event that ends the call has the whole text. Each
//! call has one text that grows, and each watcher remembers how much of it was sent. So nothing waits for a watcher, and a slow
//! watcher loses nothing. See `docs/decisions/0018`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use loom_definition::ActionIdx;
use loom_expression::{MaskedStream, Masker};
use tokio::sync::watch;

use crate::{
    event::{EffectId, Place, RunId},
    path::Iteration,
};

/// The most bytes of text that are kept of one call. Further text is counted; watchers receive it when the call has ended.
pub const LIVE_TEXT_MAX: usize = 1 << 20;

/// The live text of one call.
#[derive(Debug)]
pub struct LiveText {
    /// The call.
    pub effect: EffectId,
    /// The action.
    pub action: ActionIdx,
    /// The iterations around the action, outermost first.
    pub path: Vec<Iteration>,
    /// The number of the attempt.
    pub attempt: u32,
    opening: crate::event::OpeningId,
    /// Whether something writes the text. Copies of a hedged call would write it twice.
    claimed: AtomicBool,
    body: Mutex<Body>,
}

struct Body {
    text: String,
    chars: u64,
    masked: MaskedStream,
    dropped: u64,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("chars", &self.chars)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// A position in a live text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextPosition {
    bytes: usize,
    /// Characters before it.
    pub chars: u64,
}

impl LiveText {
    pub(crate) fn new(
        effect: EffectId,
        place: Place,
        path: Vec<Iteration>,
        attempt: u32,
        masker: &Masker,
    ) -> LiveText {
        let body = Body { text: String::new(), chars: 0, masked: masker.stream(), dropped: 0 };
        LiveText {
            effect,
            action: place.action,
            path,
            attempt,
            opening: place.opening,
            claimed: AtomicBool::new(false),
            body: Mutex::new(body),
        }
    }

    fn body(&self) -> std::sync::MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text after a position, which moves to its end. None if there is no more.
    pub fn read(&self, from: &mut TextPosition) -> Option<String> {
        let body = self.body();
        let rest = body.text.get(from.bytes..).filter(|rest| !rest.is_empty())?.to_owned();
        *from = TextPosition { bytes: body.text.len(), chars: body.chars };
        Some(rest)
    }

    /// The number of characters that exceed [`LIVE_TEXT_MAX`] and are therefore missing.
    pub fn dropped(&self) -> u64 {
        self.body().dropped
    }

    /// The whole text so far.
    pub fn text(&self) -> String {
        self.body().text.clone()
    }

    fn place(&self) -> Place {
        Place { opening: self.opening, action: self.action }
    }
}

impl Body {
    fn push(&mut self, piece: &str) -> bool {
        let shown = self.masked.push(piece).into_owned();
        self.add(&shown)
    }

    fn add(&mut self, shown: &str) -> bool {
        let mut room = LIVE_TEXT_MAX.saturating_sub(self.text.len()).min(shown.len());
        while !shown.is_char_boundary(room) {
            room -= 1;
        }
        // Once something is missing, nothing can follow it.
        let kept = if self.dropped > 0 { "" } else { &shown[..room] };
        self.text.push_str(kept);
        let added = kept.chars().count() as u64;
        self.chars += added;
        self.dropped += shown.chars().count() as u64 - added;
        added > 0
    }
}

/// Where a call shows its text. Showing never waits; if nothing may be shown, it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Show(Option<(Arc<LiveText>, Arc<Board>)>);

impl Show {
    pub(crate) fn on(text: Arc<LiveText>, board: Arc<Board>) -> Show {
        Show(Some((text, board)))
    }

    /// Begins the text. Only the first of several copies of a call shows anything.
    pub fn begin(&self) -> TextWriter {
        let free = self.0.as_ref().filter(|(text, _)| !text.claimed.swap(true, Ordering::AcqRel));
        TextWriter(free.cloned())
    }
}

/// Appends to a live text.
#[derive(Debug)]
pub struct TextWriter(Option<(Arc<LiveText>, Arc<Board>)>);

impl TextWriter {
    /// Appends a piece.
    pub fn push(&mut self, piece: &str) {
        let Some((text, board)) = &self.0 else { return };
        if text.body().push(piece) {
            board.notify();
        }
    }
}

impl Drop for TextWriter {
    fn drop(&mut self) {
        if let Some((text, board)) = &self.0 {
            let mut body = text.body();
            let rest = body.masked.finish();
            if body.add(&rest) {
                board.notify();
            }
        }
    }
}

/// The live texts of one run.
#[derive(Debug)]
pub(crate) struct Board {
    texts: Mutex<BTreeMap<EffectId, Arc<LiveText>>>,
    changes: watch::Sender<u64>,
}

impl Board {
    fn notify(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn texts(&self) -> std::sync::MutexGuard<'_, BTreeMap<EffectId, Arc<LiveText>>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The live texts of all runs in progress that have some, or are watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Boards(Arc<Mutex<HashMap<RunId, Arc<Board>>>>);

impl Boards {
    fn board(&self, run: RunId) -> Arc<Board> {
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Board { texts: Mutex::default(), changes: watch::Sender::new(0) };
        Arc::clone(boards.entry(run).or_insert_with(|| Arc::new(new())))
    }

    /// Removes the board of a run that has no texts and no other watcher.
    fn forget(&self, run: RunId, watchers: usize) {
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if boards
            .get(&run)
            .is_some_and(|board| board.texts().is_empty() && board.changes.receiver_count() <= watchers)
        {
            boards.remove(&run);
        }
    }

    /// Watches the live texts of a run, which may begin later.
    pub(crate) fn watch(&self, run: RunId) -> LiveTexts {
        let mut boards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Board { texts: Mutex::default(), changes: watch::Sender::new(0) };
        let board = Arc::clone(boards.entry(run).or_insert_with(|| Arc::new(new())));
        // Subscribed under the lock, so that the board is not forgotten in between.
        let changes = board.changes.subscribe();
        LiveTexts { run, board, changes, boards: self.clone() }
    }

    pub(crate) fn of_run(&self, run: RunId) -> RunTexts {
        RunTexts { run, board: self.board(run), boards: self.clone() }
    }
}

/// The live texts of a run, as its driver has them. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct RunTexts {
    run: RunId,
    board: Arc<Board>,
    boards: Boards,
}

impl RunTexts {
    /// Shows the text of a call.
    pub(crate) fn show(&self, text: LiveText) -> Show {
        let text = Arc::new(text);
        self.board.texts().insert(text.effect, Arc::clone(&text));
        Show::on(text, Arc::clone(&self.board))
    }

    /// A call has ended, and the event that says so can be read.
    pub(crate) fn end(&self, effect: EffectId) {
        if self.board.texts().remove(&effect).is_some() {
            self.board.notify();
        }
    }

    /// An action has ended, and the event that says so can be read.
    pub(crate) fn end_action(&self, place: Place) {
        self.board.texts().retain(|_, text| text.place() != place);
    }

    /// What has arrived so far of the texts that satisfy `wanted` and have any.
    pub(crate) fn so_far(&self, wanted: impl Fn(Place) -> bool) -> Vec<(EffectId, String)> {
        let texts = self.board.texts();
        let wanted = texts.values().filter(|text| wanted(text.place()));
        wanted.map(|text| (text.effect, text.text())).filter(|(_, text)| !text.is_empty()).collect()
    }
}

impl Drop for RunTexts {
    fn drop(&mut self) {
        self.board.texts().clear();
        self.board.notify();
        self.boards.forget(self.run, 0);
    }
}

/// Watches the live texts of a run; see [`Engine::live_texts`](crate::Engine::live_texts).
#[derive(Debug)]
pub struct LiveTexts {
    run: RunId,
    board: Arc<Board>,
    changes: watch::Receiver<u64>,
    boards: Boards,
}

impl LiveTexts {
    /// The texts of the calls in progress, in the order of the calls.
    pub fn current(&mut self) -> Vec<Arc<LiveText>> {
        self.changes.borrow_and_update();
        self.board.texts().values().cloned().collect()
    }

    /// Waits until there is more to read since [`LiveTexts::current`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn changed(&mut self) {
        // The sender lives as long as the board.
        self.changes.changed().await.ok();
    }
}

impl Drop for LiveTexts {
    fn drop(&mut self) {
        self.boards.forget(self.run, 1);
    }
}

#[cfg(test)]
mod tests {
    use loom_expression::Value;

    use super::*;
    use crate::event::OpeningId;

    fn run() -> RunId {
        RunId::from_u64(1 << 20).expect("it is a run")
    }

    fn text(effect: u32, masker: &Masker) -> LiveText {
        let place = Place { opening: OpeningId::ROOT, action: ActionIdx(effect) };
        LiveText::new(EffectId(effect), place, Vec::new(), 1, masker)
    }

    #[test]
    fn a_watcher_that_comes_late_or_reads_slowly_gets_the_whole_text_once() {
        let boards = Boards::default();
        let texts = boards.of_run(run());
        let mut writer = texts.show(text(0, &Masker::new())).begin();
        let (mut early, mut sent, mut at) = (boards.watch(run()), String::new(), TextPosition::default());
        for step in 0..100 {
            writer.push(&format!("{step} é "));
            if step % 7 == 0 {
                let current = early.current();
                sent.extend(current[0].read(&mut at));
                assert_eq!(at.chars, sent.chars().count() as u64);
            }
        }
        let mut late = boards.watch(run());
        let current = late.current();
        let whole = current[0].read(&mut TextPosition::default()).expect("there is text");
        sent.extend(early.current()[0].read(&mut at));
        assert_eq!(sent, whole);
        let pieces: Vec<String> = (0..100).map(|step| format!("{step} é ")).collect();
        assert_eq!(whole, pieces.concat());
        assert_eq!(current[0].read(&mut at), None);
    }

    #[test]
    fn text_beyond_the_limit_is_counted_and_what_was_kept_has_no_gap() {
        let boards = Boards::default();
        let texts = boards.of_run(run());
        let mut writer = texts.show(text(0, &Masker::new())).begin();
        let piece = "é".repeat(1000);
        for _ in 0..600 {
            writer.push(&piece);
        }
        let current = boards.watch(run()).current();
        let kept = current[0].text();
        assert!(kept.len() <= LIVE_TEXT_MAX && kept.len() + 2 > LIVE_TEXT_MAX);
        assert_eq!(kept.chars().count() as u64 + current[0].dropped(), 600_000);
    }

    #[test]
    fn secrets_are_masked_before_anybody_sees_them() {
        let masker = Masker::new();
        masker.learn(&Value::from("hunter-2222").into_secret());
        let boards = Boards::default();
        let texts = boards.of_run(run());
        let mut writer = texts.show(text(0, &masker)).begin();
        writer.push("it is hunter");
        assert_eq!(boards.watch(run()).current()[0].text(), "it is ");
        writer.push("-2222");
        drop(writer);
        assert_eq!(boards.watch(run()).current()[0].text(), "it is *sanitized*");
    }

    #[test]
    fn only_one_copy_of_a_call_shows_its_text() {
        let boards = Boards::default();
        let show = boards.of_run(run()).show(text(0, &Masker::new()));
        let (mut first, mut second) = (show.begin(), show.begin());
        first.push("one");
        second.push("two");
        let Show(Some((shown, _))) = &show else { panic!("it shows") };
        assert_eq!(shown.text(), "one");
    }

    #[tokio::test]
    async fn boards_without_texts_and_watchers_are_forgotten() {
        let boards = Boards::default();
        let count = || boards.0.lock().expect("not poisoned").len();
        let texts = boards.of_run(run());
        let watcher = boards.watch(run());
        texts.show(text(0, &Masker::new()));
        drop(texts);
        assert_eq!(count(), 1, "it is watched");
        let second = boards.watch(run());
        drop(watcher);
        assert_eq!(count(), 1);
        drop(second);
        assert_eq!(count(), 0);
        let texts = boards.of_run(run());
        let mut watcher = boards.watch(run());
        let show = texts.show(text(0, &Masker::new()));
        watcher.current();
        show.begin().push("hello");
        watcher.changed().await;
        texts.end(EffectId(0));
        assert!(watcher.current().is_empty());
    }
}
