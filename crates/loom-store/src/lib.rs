//! Durable bytes: the journal port and its backends. Knows no workflow words.
