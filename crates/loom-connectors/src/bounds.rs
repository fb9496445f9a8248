//! The limits on descriptions, which may come from strangers.

use loom_expression::{Object, Value};

use crate::Error;

/// The most bytes of a document, and of all files beside it together.
pub const DOCUMENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The most operations of a document.
pub const OPERATIONS_MAX: usize = 20_000;

/// The most files beside a document that its references may lead to.
pub const FILES_MAX: usize = 64;

/// The most links of one chain of references.
pub const REFERENCES_MAX: usize = 32;

/// The most schemas that are visited to check, describe or generate the arguments of one operation. A schema that is
/// reached on several ways counts each time. Large arguments may take more, in proportion to their size.
pub const VISITS_MAX: usize = 200_000;

/// The deepest nesting of schemas.
pub(crate) const DEPTH_MAX: usize = 64;

/// What is left of [`VISITS_MAX`] and [`DEPTH_MAX`] during one walk.
#[derive(Debug)]
pub(crate) struct Budget {
    visits: usize,
    depth: usize,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget { visits: VISITS_MAX, depth: 0 }
    }

    /// A budget for checking a value: a large one needs more visits.
    pub(crate) fn for_value(value: &Object) -> Budget {
        let bytes: u64 = value.values().map(Value::bytes).fold(0, u64::saturating_add);
        Budget {
            visits: VISITS_MAX.saturating_add(usize::try_from(bytes / 4).unwrap_or(usize::MAX)),
            depth: 0,
        }
    }

    /// Enters a schema; [`Budget::leave`] leaves it.
    pub(crate) fn enter(&mut self) -> Result<(), Error> {
        if self.visits == 0 {
            return Err(Error::TooComplex { reason: "its schemas are visited more than 200,000 times" });
        }
        if self.depth >= DEPTH_MAX {
            return Err(Error::TooComplex { reason: "its schemas nest more than 64 levels deep" });
        }
        self.visits -= 1;
        self.depth += 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
