//! Finds what the code of a script refers to, without executing it.
//!
//! The code is tokenized into names, strings and punctuation; comments and regular expressions are skipped. Recognized are
//! `workflowContext.actions.Name`, `workflowContext.actions['Name']`, `workflowContext.trigger`, and the same through a
//! variable that was assigned `workflowContext` or `workflowContext.actions`. Everything else needs `explicitDependencies`. A
//! false match costs only a record that is not read.

use super::words::{Word, words};

/// What a script's code refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Names of actions, as spelled in the code, without duplicates.
    pub actions: Vec<String>,
    /// Whether it refers to the trigger.
    pub trigger: bool,
}

/// Finds what `code` refers to. Takes time in proportion to its length.
pub fn references(code: &str) -> References {
    let words = words(code);
    let mut found = Finder { contexts: vec!["workflowContext"], ..Finder::default() };
    // Aliases are collected first, because a function may precede the line that assigns the alias it uses.
    for at in 0..words.len() {
        found.alias(&words, at);
    }
    for at in 0..words.len() {
        found.reference(&words, at);
    }
    found.found
}

#[derive(Default)]
struct Finder<'a> {
    /// Aliases of `workflowContext`.
    contexts: Vec<&'a str>,
    /// Aliases of `workflowContext.actions`.
    actions: Vec<&'a str>,
    found: References,
}

impl<'a> Finder<'a> {
    /// Recognizes `x = workflowContext` and `x = workflowContext.actions`, without a further property access.
    fn alias(&mut self, words: &[Word<'a>], at: usize) {
        let [Word::Name(name), Word::Mark('=')] = words[at..].get(..2).unwrap_or_default() else { return };
        if !self.is_context(words, at + 2) {
            return;
        }
        match member(words, at + 3) {
            None => self.contexts.push(name),
            Some(("actions", next)) if member(words, next).is_none() => self.actions.push(name),
            Some(_) => {}
        }
    }

    fn reference(&mut self, words: &[Word<'a>], at: usize) {
        if self.is_context(words, at) {
            match member(words, at + 1) {
                Some(("trigger", _)) => self.found.trigger = true,
                Some(("actions", next)) => self.action(member(words, next)),
                Some(_) | None => {}
            }
        } else if is_free(words, at) && matches!(&words[at], Word::Name(name) if self.actions.contains(name))
        {
            self.action(member(words, at + 1));
        }
    }

    fn action(&mut self, named: Option<(&str, usize)>) {
        if let Some((name, _)) = named
            && !self.found.actions.iter().any(|known| known == name)
        {
            self.found.actions.push(name.to_owned());
        }
    }

    fn is_context(&self, words: &[Word<'a>], at: usize) -> bool {
        is_free(words, at) && matches!(words.get(at), Some(Word::Name(name)) if self.contexts.contains(name))
    }
}

/// Whether the word at `at` is not a property of something else.
fn is_free(words: &[Word<'_>], at: usize) -> bool {
    at == 0 || !matches!(words[at - 1], Word::Mark('.'))
}

/// The property accessed at `at`, as `.name` or `['name']`, and the index after it.
fn member<'w>(words: &'w [Word<'_>], at: usize) -> Option<(&'w str, usize)> {
    match words.get(at..)? {
        [Word::Mark('.'), Word::Mark('['), Word::Text(name), Word::Mark(']'), ..] => Some((name, at + 4)),
        [Word::Mark('['), Word::Text(name), Word::Mark(']'), ..] => Some((name, at + 3)),
        [Word::Mark('.'), Word::Name(name), ..] => Some((name, at + 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
