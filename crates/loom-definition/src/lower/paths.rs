//! Checks which actions an expression reads: they must have ended before it is evaluated.
//!
//! Runs after `runAfter` is linked. An action may read the actions on its `runAfter` path, the actions inside those, and
//! the same for each block that encloses it. Also determines what a Foreach must store for expressions after it.

use loom_expression::ReferenceKind;

use super::outline::{Outline, Type};
use crate::{
    diagnostic::{Severity, code},
    findings::Findings,
    model::{Action, ActionIdx, Gathered},
    text::Span32,
};

/// When an expression is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// Just before its action starts.
    Before,
    /// Between the iterations of its loop.
    Iteration,
    /// After its action has ended; `action()` then returns the record of the action.
    After,
    /// When the subscription that its action made is ended.
    Unsubscribing,
}

/// One reference to the result of an action.
pub(super) struct Read {
    /// The action that contains the expression; `None` for the outputs of the workflow.
    pub(super) owner: Option<ActionIdx>,
    pub(super) target: ActionIdx,
    pub(super) kind: ReferenceKind,
    pub(super) timing: Timing,
    pub(super) place: Span32,
}

/// The two actions in one block that a `runAfter` entry would have to link: the reader or an action that encloses it, and
/// the target or an action that encloses it. They are the same action if one encloses the other, or if it encloses both
/// in different blocks.
fn joined(outline: &Outline<'_>, reader: ActionIdx, target: ActionIdx) -> Option<(ActionIdx, ActionIdx)> {
    let with_enclosing = |action| std::iter::once(action).chain(outline.enclosing(action));
    with_enclosing(reader).find_map(|from| {
        let block = outline.outlined(from).block;
        let to = with_enclosing(target).find(|to| outline.outlined(*to).block == block)?;
        Some((from, to))
    })
}

/// The implicit dependencies of a definition with a preview schema, in which an action waits for what it reads.
pub(super) fn implied(outline: &Outline<'_>, reads: &[Read]) -> Vec<(ActionIdx, ActionIdx)> {
    let edge = |read: &Read| joined(outline, read.owner?, read.target).filter(|(from, to)| from != to);
    reads.iter().filter(|read| read.timing == Timing::Before).filter_map(edge).collect()
}

/// Records on every Foreach what expressions after the loop read from the actions inside it.
pub(super) fn gather(outline: &Outline<'_>, actions: &mut [Action], reads: &[Read]) {
    for read in reads {
        if read.kind == ReferenceKind::Result {
            continue;
        }
        let records = read.kind == ReferenceKind::Action;
        let encloses_reader = |foreach: ActionIdx| {
            let mut enclosing = read.owner.into_iter().flat_map(|owner| outline.enclosing(owner));
            read.owner == Some(foreach) || enclosing.any(|action| action == foreach)
        };
        let loops =
            outline.enclosing(read.target).filter(|action| outline.outlined(*action).kind == Type::Foreach);
        for foreach in loops.filter(|foreach| !encloses_reader(*foreach)) {
            let gathered = &mut actions[foreach.0 as usize].gathered;
            match gathered.iter_mut().find(|gathered| gathered.action == read.target) {
                Some(known) => known.records |= records,
                None => gathered.push(Gathered { action: read.target, records }),
            }
        }
    }
}

/// Reports every read of an action that may not have ended yet.
pub(super) fn check(
    outline: &Outline<'_>,
    actions: &[Action],
    reads: &[Read],
    severity: Severity,
    found: &mut Findings<'_>,
) {
    let mut walk = Walk { seen: vec![0; actions.len()], pass: 0, next: Vec::new() };
    for read in reads {
        let Some(owner) = read.owner else { continue };
        let Some((from, to)) = joined(outline, owner, read.target) else { continue };
        let fits = if from == to {
            is_inside_allowed(read, owner, from)
        } else {
            walk.leads_back(actions, from, to)
        };
        if !fits {
            let later = from != to && walk.leads_back(actions, to, from);
            report(outline, read, owner, (from, to), later, severity, found);
        }
    }
}

/// Whether an action may read itself or an action inside it.
fn is_inside_allowed(read: &Read, owner: ActionIdx, common: ActionIdx) -> bool {
    match read.timing {
        Timing::Before => false,
        Timing::Iteration | Timing::After => common == owner && read.target != owner,
        Timing::Unsubscribing => read.target == owner,
    }
}

/// A walk back along `runAfter`.
struct Walk {
    /// The number of the pass that last visited each action.
    seen: Vec<u32>,
    pass: u32,
    next: Vec<ActionIdx>,
}

impl Walk {
    /// Whether `from` runs after `to`, directly or through other actions.
    fn leads_back(&mut self, actions: &[Action], from: ActionIdx, to: ActionIdx) -> bool {
        self.pass += 1;
        self.next.clear();
        self.next.push(from);
        while let Some(action) = self.next.pop() {
            for dependency in &actions[action.0 as usize].run_after {
                let before = dependency.action;
                if before == to {
                    return true;
                }
                if std::mem::replace(&mut self.seen[before.0 as usize], self.pass) != self.pass {
                    self.next.push(before);
                }
            }
        }
        false
    }
}

fn report(
    outline: &Outline<'_>,
    read: &Read,
    owner: ActionIdx,
    (from, to): (ActionIdx, ActionIdx),
    later: bool,
    severity: Severity,
    found: &mut Findings<'_>,
) {
    let name = |action: ActionIdx| &*outline.outlined(action).name;
    let (reader, target) = (name(owner), name(read.target));
    let (message, hint) = if read.target == owner {
        let message = format!("`{reader}` reads its own result before it has one");
        let hint = match read.timing {
            Timing::After => "use `action()`, which returns the record of the action itself",
            _ => "read the previous action, or use a variable",
        };
        (message, hint.to_owned())
    } else if from == to && read.target == from {
        let message = format!("`{reader}` is inside `{target}`, which has no result while it runs");
        (message, format!("read `{target}` in an action that runs after it"))
    } else if from == to && owner == from {
        let message = format!("`{reader}` reads `{target}`, which is inside it and has not run yet");
        (message, format!("read `{target}` in an action that runs after `{reader}`"))
    } else if from == to {
        let message = format!("`{reader}` reads `{target}`, which is in another branch of `{}`", name(from));
        (message, format!("read `{target}` in an action that runs after `{}`", name(from)))
    } else if later {
        let message = format!("`{reader}` reads `{target}`, which only runs after it");
        (message, format!("read `{target}` in an action that runs after it"))
    } else {
        let message = format!(
            "`{reader}` reads `{target}`, which is not on its `runAfter` path and may not have run yet"
        );
        (message, format!("add \"{}\": [\"Succeeded\"] to the `runAfter` of `{}`", name(to), name(from)))
    };
    let related = (outline.outlined(read.target).name_place.range(), "the action that it reads".to_owned());
    let diagnostic = found.report(severity, code::NOT_ON_PATH, read.place, message);
    diagnostic.related.push(related);
    diagnostic.hint = Some(hint);
}
