//! Which actions an expression may read: those that have ended before it is evaluated.
//!
//! Known once `runAfter` is linked. An action may read what stands on its `runAfter` path, what is inside of that, and
//! the same for each block around it. From here also comes what a Foreach keeps for expressions after it.

use loom_expression::ReferenceKind;

use super::{
    Findings,
    outline::{Outline, Type},
};
use crate::{
    diagnostic::{Severity, code},
    model::{Action, ActionIdx, Gathered},
    text::Place,
};

/// When an expression is evaluated, beside the usual: just before its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Just before its action.
    Before,
    /// Between the rounds of its loop.
    Round,
    /// When its action has ended; `action()` gives its record then.
    After,
    /// When a subscription that its action has made is given up.
    Unsubscribing,
}

/// One mention of an action's result.
pub(super) struct Read {
    /// The action whose expression it is; none for the workflow's outputs.
    pub(super) owner: Option<ActionIdx>,
    pub(super) target: ActionIdx,
    pub(super) kind: ReferenceKind,
    pub(super) moment: Moment,
    pub(super) place: Place,
}

/// The two actions of one block that an edge between reader and read would join: the reader or what holds it, and the
/// same of what is read. Both are the same action when one holds the other, or holds both in different blocks.
fn joined(outline: &Outline<'_>, reader: ActionIdx, target: ActionIdx) -> Option<(ActionIdx, ActionIdx)> {
    let with_holders = |action| std::iter::once(action).chain(outline.around(action));
    with_holders(reader).find_map(|from| {
        let block = outline.outlined(from).block;
        let to = with_holders(target).find(|to| outline.outlined(*to).block == block)?;
        Some((from, to))
    })
}

/// The edges that a definition of a preview schema leaves unsaid: there, what an action reads it waits for.
pub(super) fn implied(outline: &Outline<'_>, reads: &[Read]) -> Vec<(ActionIdx, ActionIdx)> {
    let edge = |read: &Read| joined(outline, read.owner?, read.target).filter(|(from, to)| from != to);
    reads.iter().filter(|read| read.moment == Moment::Before).filter_map(edge).collect()
}

/// Marks on every Foreach what expressions after it read of the actions inside it.
pub(super) fn gather(outline: &Outline<'_>, actions: &mut [Action], reads: &[Read]) {
    for read in reads {
        if read.kind == ReferenceKind::Result {
            continue;
        }
        let records = read.kind == ReferenceKind::Action;
        let around = |foreach: ActionIdx| {
            let mut holders = read.owner.into_iter().flat_map(|owner| outline.around(owner));
            read.owner == Some(foreach) || holders.any(|holder| holder == foreach)
        };
        let loops =
            outline.around(read.target).filter(|holder| outline.outlined(*holder).kind == Type::Foreach);
        for foreach in loops.filter(|foreach| !around(*foreach)) {
            let gathered = &mut actions[foreach.0 as usize].gathered;
            match gathered.iter_mut().find(|gathered| gathered.action == read.target) {
                Some(known) => known.records |= records,
                None => gathered.push(Gathered { action: read.target, records }),
            }
        }
    }
}

/// Reports every read of an action that need not have ended.
pub(super) fn check(
    outline: &Outline<'_>,
    actions: &[Action],
    reads: &[Read],
    severity: Severity,
    found: &mut Findings<'_>,
) {
    let mut walk = Walk { seen: vec![0; actions.len()], round: 0, next: Vec::new() };
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

/// Whether an action may read itself or what it holds.
fn is_inside_allowed(read: &Read, owner: ActionIdx, common: ActionIdx) -> bool {
    match read.moment {
        Moment::Before => false,
        Moment::Round | Moment::After => common == owner && read.target != owner,
        Moment::Unsubscribing => read.target == owner,
    }
}

/// A walk back along `runAfter`.
struct Walk {
    /// In which round each action was last seen.
    seen: Vec<u32>,
    round: u32,
    next: Vec<ActionIdx>,
}

impl Walk {
    /// Whether `from` runs after `to`, at once or over others.
    fn leads_back(&mut self, actions: &[Action], from: ActionIdx, to: ActionIdx) -> bool {
        self.round += 1;
        self.next.clear();
        self.next.push(from);
        while let Some(action) = self.next.pop() {
            for dependency in &actions[action.0 as usize].run_after {
                let before = dependency.action;
                if before == to {
                    return true;
                }
                if std::mem::replace(&mut self.seen[before.0 as usize], self.round) != self.round {
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
        let message = format!("`{reader}` reads its own result, which it does not have yet");
        let hint = match read.moment {
            Moment::After => "read `action()`, which is its own record",
            _ => "read the action before it, or use a variable",
        };
        (message, hint.to_owned())
    } else if from == to && read.target == from {
        let message = format!("`{reader}` stands inside `{target}`, which has no result while it runs");
        (message, format!("read `{target}` in an action that runs after it"))
    } else if from == to && owner == from {
        let message = format!("`{reader}` reads `{target}`, which it holds itself and which has not run yet");
        (message, format!("read `{target}` in an action that runs after `{reader}`"))
    } else if from == to {
        let message =
            format!("`{reader}` reads `{target}`, which stands in another branch of `{}`", name(from));
        (message, format!("read `{target}` in an action that runs after `{}`", name(from)))
    } else if later {
        let message = format!("`{reader}` reads `{target}`, which runs only after it");
        (message, format!("read `{target}` in an action that runs after it"))
    } else {
        let message = format!(
            "`{reader}` reads `{target}`, which is not on its `runAfter` path and may not have run yet"
        );
        (message, format!("add \"{}\": [\"Succeeded\"] to the `runAfter` of `{}`", name(to), name(from)))
    };
    let related = (outline.outlined(read.target).name_place.range(), "this is what it reads".to_owned());
    let diagnostic = found.report(severity, code::NOT_ON_PATH, read.place, message);
    diagnostic.related.push(related);
    diagnostic.hint = Some(hint);
}
