//! Transformations as their users meet them: whole stylesheets, compared with another processor's results.

mod stylesheets;
