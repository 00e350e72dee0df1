//! The store remembers. Placeholder.

pub mod directory;
