//! What is wrong with the settings: all of it at once, each with its name, its place, and what is allowed.
//!
//! An operator repairs a configuration in one round, not one error at a time. The value of a secret is never repeated.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct ConfigError {
    /// The setting, or the key in the file.
    pub name: String,
    /// Where the value came from, as in `environment` or `nexus.toml:3`; empty when it is missing everywhere.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.place.is_empty() {
            write!(f, " ({})", self.place)?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// Everything that is wrong; never empty.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
