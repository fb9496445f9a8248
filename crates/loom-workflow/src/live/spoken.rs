//! The text of language models while it arrives: the last lines below the tree on a terminal, whole lines elsewhere.

use std::{collections::BTreeMap, sync::Arc};

use loom_definition::Workflow;
use loom_engine::{
    EffectId,
    live_text::{LiveText, LiveTexts, TextPosition},
};
use loom_expression::{Visible, visible};

/// The most lines of one text below the tree.
const LINES_MAX: usize = 6;

/// A line that is longer is shown before it ends.
const LINE_MAX: usize = 160;

/// What a run's models are saying.
pub(crate) struct Spoken {
    texts: LiveTexts,
    workflow: Arc<Workflow>,
    /// For lines: how much of each text was shown, and the start of its next line.
    shown: BTreeMap<EffectId, (Arc<LiveText>, TextPosition, String)>,
}

impl Spoken {
    /// For a run of `workflow`.
    pub(crate) fn new(texts: LiveTexts, workflow: Arc<Workflow>) -> Spoken {
        Spoken { texts, workflow, shown: BTreeMap::new() }
    }

    /// Waits until there is more.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn changed(&mut self) {
        self.texts.changed().await;
    }

    /// The ends of all texts, in lines of at most `columns` characters.
    pub(crate) fn tail(&mut self, columns: usize) -> Vec<String> {
        let mut all = Vec::new();
        for text in self.texts.current() {
            let said = text.text();
            if said.trim().is_empty() {
                continue;
            }
            all.push(format!("  {}:", Visible(&self.workflow.action(text.action).name)));
            let width = columns.saturating_sub(6).max(20);
            let lines: Vec<String> = said.lines().flat_map(|line| wrapped(line, width)).collect();
            let from = lines.len().saturating_sub(LINES_MAX);
            all.extend(lines[from..].iter().map(|line| format!("    {}", visible(line))));
        }
        all
    }

    /// The lines that have arrived since the last time: `Ask: text`. A text that has ended is shown to its end.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let current = self.texts.current();
        for text in &current {
            let new = || (Arc::clone(text), TextPosition::default(), String::new());
            self.shown.entry(text.effect).or_insert_with(new);
        }
        let mut all = Vec::new();
        self.shown.retain(|effect, (text, at, line)| {
            line.extend(text.read(at));
            let ended = !current.iter().any(|text| text.effect == *effect);
            let name = Visible(&self.workflow.action(text.action).name);
            while let Some(end) = end_of_line(line) {
                let rest = line.split_off(end);
                let whole = std::mem::replace(line, rest);
                all.push(format!("{name}: {}", visible(whole.trim_end())));
            }
            if ended && !line.trim().is_empty() {
                all.push(format!("{name}: {}", visible(line.trim_end())));
            }
            !ended
        });
        all
    }
}

/// The length of the first line that can be shown.
fn end_of_line(text: &str) -> Option<usize> {
    if let Some(end) = text.find('\n') {
        return Some(end + 1);
    }
    let (cut, _) = text.char_indices().nth(LINE_MAX)?;
    Some(text[..cut].rfind(' ').map_or(cut, |space| space + 1))
}

fn wrapped(line: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(width).map(|part| part.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_breaks_and_long_ones_at_spaces() {
        assert_eq!(end_of_line("one\ntwo"), Some(4));
        assert_eq!(end_of_line("one"), None);
        let long = "word ".repeat(40);
        assert_eq!(end_of_line(&long), Some(160));
        assert_eq!(end_of_line(&"x".repeat(200)), Some(160));
        assert_eq!(wrapped("abcde", 2), ["ab", "cd", "e"]);
    }
}
