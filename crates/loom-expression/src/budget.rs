//! `Budget`: limits the total cost of a group of evaluations, counted in steps.

use std::cell::Cell;

use crate::{Code, Error, Limits, Value, error::Failure};

/// How many bytes of text, and of other values, one step covers.
const TEXT_BYTES_PER_STEP: usize = 32;
const VALUE_BYTES_PER_STEP: u64 = 64;

/// The total cost that a group of evaluations may have: the remaining steps, and the size of JSON text they may parse.
///
/// A function call costs one step, plus steps in proportion to the size of the strings and values that the function
/// reads and makes. One budget is shared by all evaluations of one action, so that evaluating an expression for each of
/// many items is bounded too. [`crate::Context::budget`] provides it; without one, each evaluation has a budget of its
/// own from the [`Limits`] of its template.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
    steps_max: u64,
    json_values_max: usize,
}

impl Budget {
    /// A budget of `steps_max` steps, which lets a JSON text hold up to `json_values_max` values.
    pub fn new(steps_max: u64, json_values_max: usize) -> Self {
        Self { left: Cell::new(steps_max), steps_max, json_values_max }
    }

    pub(crate) fn of(limits: &Limits) -> Self {
        Self::new(limits.evaluation_steps_max, limits.json_values_max)
    }

    /// The number of remaining steps.
    #[inline]
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// How many values one JSON text may hold.
    pub fn json_values_max(&self) -> usize {
        self.json_values_max
    }

    /// Spends steps.
    ///
    /// # Errors
    /// [`Code::StepsExceeded`] if fewer steps remain. The budget is then empty.
    #[inline]
    pub fn pay(&self, steps: u64) -> Result<(), Box<Error>> {
        match self.left.get().checked_sub(steps) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(self.exceeded()),
        }
    }

    /// Spends the steps for reading or making `bytes` bytes of text.
    ///
    /// # Errors
    /// As [`Budget::pay`].
    #[inline]
    pub fn pay_text(&self, bytes: usize) -> Result<(), Box<Error>> {
        self.pay((bytes / TEXT_BYTES_PER_STEP) as u64)
    }

    /// Spends the steps for traversing or making a whole value.
    ///
    /// # Errors
    /// As [`Budget::pay`].
    #[inline]
    pub fn pay_value(&self, value: &Value) -> Result<(), Box<Error>> {
        self.pay(whole(value))
    }

    #[cold]
    fn exceeded(&self) -> Failure {
        self.left.set(0);
        Error::new(
            Code::StepsExceeded,
            format!(
                "The evaluation takes more than {} steps (setting evaluation-steps-max). Process fewer items or \
                smaller values at a time, or raise the limit.",
                self.steps_max
            ),
        )
    }
}

/// The steps for traversing a whole value.
#[inline]
pub(crate) fn whole(value: &Value) -> u64 {
    match value.as_str() {
        Some(text) => (text.len() / TEXT_BYTES_PER_STEP) as u64,
        None => value.bytes() / VALUE_BYTES_PER_STEP,
    }
}

/// Values for which [`Value::is_plain`] holds cost no steps: [`whole`] and [`items`] are 0.
const _: () = assert!(Value::OWN_BYTES < VALUE_BYTES_PER_STEP);

/// The steps for copying the items or properties of a value by reference, or for scanning a string.
#[inline]
pub(crate) fn items(value: &Value) -> u64 {
    use crate::ValueRef;
    match value.as_ref() {
        ValueRef::String(text) => (text.len() / TEXT_BYTES_PER_STEP) as u64,
        ValueRef::Array(items) => items.len() as u64 / 2,
        ValueRef::Object(object) => object.len() as u64 / 2,
        ValueRef::Null | ValueRef::Bool(_) | ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Decimal(_) => {
            0
        }
    }
}
