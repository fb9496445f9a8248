//! Workflows and triggers that an operator has disabled. This is in the store, so it survives restarts. A setting can disable
//! a workflow, too; see [`crate::Deployment::disabled`].
//!
//! A disabled trigger does not fire at all. Occurrences of a Recurrence that were missed are not made up for when it is enabled
//! again; a SlidingWindow processes the windows that it missed, and a polling trigger polls for new items, as in Logic Apps.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use loom_expression::{Object, Value};
use loom_store::{KeyQuery, KeyWrite, Named};

use crate::keys::{key_write, number, trigger_key};

/// The namespace of orders in the store; keys are `workflow` or `workflow/trigger`, in lower case.
pub(crate) const NAMESPACE: &str = "switch";

/// The number of orders that are read from the store at once.
const PAGE: usize = 200;

/// What disables a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledBy {
    /// A setting, for all triggers of the workflow.
    Setting,
    /// An operator, for all triggers of the workflow.
    Workflow,
    /// An operator, for this trigger.
    Trigger,
}

/// The last order for a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch {
    off: bool,
    /// How many times the name was enabled.
    enabled: i64,
    /// The time of the order, in nanoseconds since 1970.
    at: i128,
}

/// All orders.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    known: RwLock<BTreeMap<String, Switch>>,
    /// Held while an order is stored and executed.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

/// The key of a workflow or of one of its triggers.
pub(crate) fn key(workflow: &str, trigger: Option<&str>) -> String {
    match trigger {
        None => workflow.to_lowercase(),
        Some(trigger) => trigger_key(workflow, trigger),
    }
}

impl Switches {
    /// Uses the orders that the store has now.
    pub(crate) async fn reload(&self, store: &dyn Named) -> Result<(), loom_store::Error> {
        let _alone = self.changing.lock().await;
        let fresh = Switches::load(store).await?.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Reads all orders from the store.
    pub(crate) async fn load(store: &dyn Named) -> Result<Switches, loom_store::Error> {
        let (mut known, mut after) = (BTreeMap::new(), None);
        loop {
            let query = KeyQuery { namespace: NAMESPACE.into(), prefix: String::new(), after, limit: PAGE };
            let page = store.keys(query).await?;
            for found in &page.values {
                let Ok(kept) = Value::parse_json(&found.value) else { continue };
                let switch = Switch {
                    off: kept.get("disabled").and_then(Value::as_bool).unwrap_or(false),
                    enabled: kept.get("enabled").and_then(Value::as_i64).unwrap_or(0),
                    at: number(&kept, "at").unwrap_or(i128::MIN),
                };
                known.insert(found.key.to_string(), switch);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(Switches { known: RwLock::new(known), ..Switches::default() }),
            }
        }
    }

    fn get(&self, key: &str) -> Option<Switch> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// Whether an operator has disabled a workflow or the given trigger.
    pub(crate) fn disabled_by(&self, workflow: &str, trigger: Option<&str>) -> Option<DisabledBy> {
        let off = |key: &str| self.get(key).is_some_and(|switch| switch.off);
        if off(&key(workflow, None)) {
            return Some(DisabledBy::Workflow);
        }
        trigger.is_some_and(|trigger| off(&key(workflow, Some(trigger)))).then_some(DisabledBy::Trigger)
    }

    /// The disabled names.
    pub(crate) fn off(&self) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter(|(_, switch)| switch.off).map(|(key, _)| key.clone()).collect()
    }

    /// When the trigger was last enabled, in nanoseconds since 1970, if ever.
    pub(crate) fn enabled_at(&self, workflow: &str, trigger: &str) -> Option<i128> {
        [None, Some(trigger)]
            .into_iter()
            .filter_map(|trigger| self.get(&key(workflow, trigger)))
            .map(|switch| switch.at)
            .max()
    }

    /// How many times the trigger was enabled.
    pub(crate) fn times_enabled(&self, workflow: &str, trigger: &str) -> i64 {
        [None, Some(trigger)]
            .into_iter()
            .filter_map(|trigger| self.get(&key(workflow, trigger)))
            .map(|switch| switch.enabled)
            .sum()
    }

    /// Creates an order and the write that stores it. None if it changes nothing.
    pub(crate) fn order(&self, key: &str, enable: bool, at: i128) -> Option<(Switch, KeyWrite)> {
        let before = self.get(key);
        if before.is_some_and(|before| before.off) != enable {
            return None;
        }
        let enabled = before.map_or(0, |before| before.enabled) + i64::from(enable);
        let mut kept = Object::new();
        kept.insert("disabled", !enable);
        kept.insert("enabled", enabled);
        kept.insert("at", at.to_string());
        Some((Switch { off: !enable, enabled, at }, key_write(NAMESPACE, key, Some(kept))))
    }

    /// Applies an order that the store has committed.
    pub(crate) fn adopt(&self, key: String, switch: Switch) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, switch);
    }

    /// The writes that remove all orders for a workflow and its triggers.
    pub(crate) fn removal(&self, workflow: &str) -> Vec<KeyWrite> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keys().filter(|key| is_of(key, workflow)).map(|key| key_write(NAMESPACE, key, None)).collect()
    }

    /// Removes all orders for a workflow and its triggers.
    pub(crate) fn forget(&self, workflow: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, _| !is_of(key, workflow));
    }
}

/// Whether an order is for a workflow or one of its triggers.
fn is_of(key: &str, workflow: &str) -> bool {
    let workflow = workflow.to_lowercase();
    key.strip_prefix(&workflow).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
