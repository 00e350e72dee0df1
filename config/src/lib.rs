//! Settings: read once at start, complete and valid, or refused with everything that is wrong.
//!
//! One closed table (`settings`) names every setting with its default, its range and its meaning. `layers` finds the
//! text that is in force for each (default < profile < file < environment; a secret also through `NAME_FILE`) and
//! where it came from; `values` turns texts into values; `config` puts them together and holds what one setting means
//! for another, the refusals of production above all. Past this crate nothing asks the environment, and nothing is
//! checked again. The operator's limits are the ceilings: the API may only tighten below them.

mod client;
mod config;
mod document;
mod error;
mod instruments;
mod layers;
mod reference;
mod secrets;
mod settings;
mod values;

pub use client::{ClientConfig, data_dir};
pub use config::{Config, Database, Effective, PaperConfig};
pub use error::{ConfigError, ConfigErrors};
pub use layers::{Environ, Origin};
pub use reference::reference;
pub use settings::{Kind, SETTINGS, Setting};
pub use values::{Environment, LogFormat, LogLevel};
