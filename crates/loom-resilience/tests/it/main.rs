//! The crate from outside: the fifteen behaviours, the traps, laws and the registry.

mod behaviours;
