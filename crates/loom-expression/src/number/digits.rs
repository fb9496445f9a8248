//! `Digits`: the decimal digits of a number.

use crate::{Value, ValueRef};

/// How many significant digits of a float custom formats use.
const CUSTOM_DIGITS: usize = 15;

/// The number 0.d₁d₂d₃… × 10^scale. Zero has no digits; the first and the last digit are never `0`.
#[derive(Clone, Debug)]
pub(super) struct Digits {
    pub(super) negative: bool,
    pub(super) places: Vec<u8>,
    pub(super) scale: i64,
}

impl Digits {
    /// The digits of a number. For a float, the fewest digits that parse to the same float.
    pub(super) fn of(value: &Value) -> Option<Self> {
        if let Some(digits) = value.exact_digits() {
            return Self::read(digits);
        }
        match value.as_ref() {
            ValueRef::Float(value) if value.is_finite() => Self::read(&format!("{value:e}")),
            ValueRef::Int(value) => Self::read(&value.to_string()),
            ValueRef::Decimal(value) => Self::read(&value.to_string()),
            _ => None,
        }
    }

    /// The digits that a custom format uses. For a float, the first 15.
    pub(super) fn for_custom(value: &Value) -> Option<Self> {
        match value.as_ref() {
            ValueRef::Float(_) => Self::significant(value, CUSTOM_DIGITS),
            _ => Self::of(value),
        }
    }

    /// The number times `10^power`, rounded to `decimals` digits after the decimal point.
    ///
    /// A float is rounded by its exact value, halves to even. Other numbers round halves away from zero.
    pub(super) fn rounded(value: &Value, decimals: usize, power: usize) -> Option<Self> {
        let number = match value.as_ref() {
            ValueRef::Float(float) if float.is_finite() && value.exact_digits().is_none() => {
                Self::read(&format!("{float:.*}", decimals + power))?
            }
            _ => {
                let number = Self::of(value)?;
                let keep = number.scale + (decimals + power) as i64;
                number.keep(keep)
            }
        };
        Some(number.shifted(power as i64))
    }

    /// The number rounded to `count` significant digits, with the same rounding modes.
    pub(super) fn significant(value: &Value, count: usize) -> Option<Self> {
        match value.as_ref() {
            ValueRef::Float(float) if float.is_finite() && value.exact_digits().is_none() => {
                Self::read(&format!("{float:.*e}", count - 1))
            }
            _ => Some(Self::of(value)?.keep(count as i64)),
        }
    }

    /// Parses `-ddd.ddde-dd`.
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match text.split_once('e') {
            Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let places = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
        Some(Self { negative, places, scale: whole.len() as i64 + power }.normalized())
    }

    fn normalized(mut self) -> Self {
        while self.places.last() == Some(&0) {
            self.places.pop();
        }
        let leading = self.places.iter().take_while(|&&digit| digit == 0).count();
        self.places.drain(..leading);
        self.scale -= leading as i64;
        if self.places.is_empty() {
            // Zero has no sign.
            self.scale = 0;
            self.negative = false;
        }
        self
    }

    pub(super) fn is_zero(&self) -> bool {
        self.places.is_empty()
    }

    /// The digit at an index; `0` after the last digit.
    pub(super) fn digit(&self, at: usize) -> char {
        char::from(b'0' + self.places.get(at).copied().unwrap_or(0))
    }

    /// The number times `10^by`.
    pub(super) fn shifted(mut self, by: i64) -> Self {
        if !self.is_zero() {
            self.scale += by;
        }
        self
    }

    /// Keeps the first `count` digits and rounds, halves away from zero.
    pub(super) fn keep(mut self, count: i64) -> Self {
        if count >= self.places.len() as i64 {
            return self;
        }
        let Ok(count) = usize::try_from(count) else {
            self.places.clear();
            return self.normalized();
        };
        let up = self.places[count] >= 5;
        self.places.truncate(count);
        if up {
            if let Some(at) = self.places.iter().rposition(|&digit| digit < 9) {
                self.places.truncate(at + 1);
                self.places[at] += 1;
            } else {
                self.places = vec![1];
                self.scale += 1;
            }
        }
        self.normalized()
    }

    /// The digits before the decimal point, at least one.
    pub(super) fn integer_digits(&self) -> impl Iterator<Item = char> + '_ {
        let count = usize::try_from(self.scale).unwrap_or(0);
        let zero = (count == 0).then_some('0');
        zero.into_iter().chain((0..count).map(|at| self.digit(at)))
    }

    /// `count` digits after the decimal point.
    pub(super) fn fraction_digits(&self, count: usize) -> impl Iterator<Item = char> + '_ {
        (0..count as i64).map(|at| usize::try_from(self.scale + at).map_or('0', |at| self.digit(at)))
    }
}
