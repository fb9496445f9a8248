//! `Budget`: what evaluations may cost together, counted while they run.

use std::cell::Cell;

use crate::{Code, Error, Limits, Value, error::Failure};

/// Bytes of text that one step pays for, and bytes of other values.
const TEXT_BYTES_PER_STEP: usize = 32;
const VALUE_BYTES_PER_STEP: u64 = 64;

/// What evaluations may cost together: the steps that are left, and how large what they read may be.
///
/// A call is a step, and more are paid for in proportion to the text and the values that a function reads and makes.
/// One budget serves everything that belongs to one action, so that evaluating once for each of many items is bounded
/// too. A [`crate::Context`] lends it to evaluations; without one, each evaluation has a budget of its own by the
/// [`Limits`] of its template.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
    steps_max: u64,
    json_values_max: usize,
}

impl Budget {
    /// A budget with nothing spent of it.
    pub fn new(steps_max: u64, json_values_max: usize) -> Self {
        Self { left: Cell::new(steps_max), steps_max, json_values_max }
    }

    pub(crate) fn of(limits: &Limits) -> Self {
        Self::new(limits.evaluation_steps_max, limits.json_values_max)
    }

    /// Steps that are left.
    #[inline]
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// How many values a JSON text may hold that is read meanwhile.
    pub fn json_values_max(&self) -> usize {
        self.json_values_max
    }

    /// Pays for work.
    ///
    /// # Errors
    /// [`Code::StepsExceeded`] when not so many steps are left; then none are.
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

    /// Pays for reading or making so many bytes of text.
    ///
    /// # Errors
    /// As [`Budget::pay`].
    #[inline]
    pub fn pay_text(&self, bytes: usize) -> Result<(), Box<Error>> {
        self.pay((bytes / TEXT_BYTES_PER_STEP) as u64)
    }

    /// Pays for walking over a whole value or making it.
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
                "The evaluation takes more than {} steps. Work on fewer items or smaller texts at once, or raise \
                 'evaluation-steps-max'.",
                self.steps_max
            ),
        )
    }
}

/// The steps of walking over a whole value.
#[inline]
pub(crate) fn whole(value: &Value) -> u64 {
    match value.as_str() {
        Some(text) => (text.len() / TEXT_BYTES_PER_STEP) as u64,
        None => value.bytes() / VALUE_BYTES_PER_STEP,
    }
}

/// The steps of copying the items or members of a value by reference, or of walking over a text.
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
