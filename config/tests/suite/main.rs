//! The settings from outside: what is refused and how, which layer wins, what production demands, what is never shown.
//!
//! Variables are handed over as a map, so that tests run side by side and say nothing about the machine they run on;
//! files are real ones.

mod layers;
mod masking;
mod production;
mod reference;
mod refusals;

use nexus_config::{Config, ConfigErrors, Environ, Origin};

/// A key that nobody has left in an example.
const GOOD_KEY: &str = "a3f1c09b7e5d2846f0b1c2d3e4a59687";

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::read(&variables.iter().copied().collect::<Environ>())
}

fn accepted(variables: &[(&str, &str)]) -> Config {
    read(variables).unwrap_or_else(|errors| panic!("refused: {errors}"))
}

/// The text of everything that is wrong.
fn refused(variables: &[(&str, &str)]) -> String {
    read(variables).err().map(|errors| errors.to_string()).expect("this configuration is refused")
}

fn origin(config: &Config, name: &str) -> Origin {
    config.effective.iter().find(|entry| entry.name == name).map(|entry| entry.origin.clone()).unwrap()
}

/// A settings file in a folder of its own.
struct SettingsFile {
    dir: tempfile::TempDir,
    path: String,
}

fn settings_file(text: &str) -> SettingsFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nexus.toml");
    std::fs::write(&path, text).unwrap();
    SettingsFile { path: path.display().to_string(), dir }
}
