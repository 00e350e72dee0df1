//! Tidy holds the house: what ARCHITECTURE.md promises about the shape of the code is a test here, not a habit.
//!
//! Each rule is a function from text or from cargo's answers to violations, so that the suite can show each rule a
//! small bad sample: a rule that never finds anything proves nothing. The suite then shows every rule the house itself.
//! Nothing but this crate's tests uses it.

pub mod comments;
pub mod crates;
pub mod files;
pub mod migrations;
pub mod source;
pub mod words;

use std::fmt;

/// One place where the house is not as promised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// The file, from the root of the workspace; or the crate.
    pub path: String,
    /// The line, from 1; 0 when the whole file or crate is meant.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Violation {
    /// A violation at a line of a file.
    pub fn new(path: &str, line: usize, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, reason: reason.into() }
    }

    /// A violation of a whole file or crate.
    pub fn whole(path: &str, reason: impl Into<String>) -> Self {
        Self::new(path, 0, reason)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.reason),
            line => write!(f, "{}:{line}: {}", self.path, self.reason),
        }
    }
}
