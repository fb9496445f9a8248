//! Runs whole stylesheets and compares the results with those of another processor.

mod stylesheets;
