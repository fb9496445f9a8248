//! Workflow JSON to one validated, immutable `Workflow`, or to diagnostics that point at the text.
