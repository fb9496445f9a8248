//! The expressions of the Workflow Definition Language: text to syntax tree to value. Pure and synchronous.
