//! Which text is in force for each setting, and where it came from.
//!
//! Environment wins over the file, the file over the profile, the profile over the table's default. A secret may stand
//! as itself or as the path of a file (`NAME_FILE`); within one layer only one of both, because two answers to one
//! question are a mistake somebody should hear of. An empty text unsets a setting that may be unset.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::document::{self, Document, RawInstrument};
use crate::error::ConfigError;
use crate::settings::{SETTINGS, Setting};
use crate::values::{self, Environment};

/// The largest settings file or secret that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The variables a configuration is read from: those of the process, or a map in a test.
#[derive(Clone, Default)]
pub struct Environ {
    variables: BTreeMap<String, String>,
    /// Names of ours whose values are not UTF-8.
    unreadable: Vec<String>,
}

impl Environ {
    /// The variables of this process.
    pub fn of_process() -> Self {
        let mut environ = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environ.variables.insert(name, value)),
                Err(_) if document::is_known(&name) => environ.unreadable.push(name),
                Err(_) => {}
            }
        }
        environ
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environ {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(variables: T) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, unreadable: Vec::new() }
    }
}

impl fmt::Debug for Environ {
    /// Names only: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The table of settings.
    Default,
    /// The profile of the environment.
    Profile(Environment),
    /// The settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// A variable.
    Environment,
    /// The file that `NAME_FILE` points at.
    SecretFile(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(environment) => write!(f, "profile {}", environment.as_str()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::SecretFile(path) => write!(f, "secret file {}", path.display()),
        }
    }
}

/// A text in force.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub text: String,
    pub origin: Origin,
}

/// Every text in force, and what went wrong while looking for it.
pub(crate) struct Layers {
    pub environment: Environment,
    pub values: BTreeMap<&'static str, Value>,
    pub instruments: Vec<RawInstrument>,
    /// The file that names the instruments; `None`: the embedded one.
    pub instruments_path: Option<PathBuf>,
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<String>,
}

/// What holds for a setting when neither file nor environment names it.
pub(crate) fn default_text(setting: &Setting, environment: Environment) -> Option<Value> {
    let profile = profile(environment).entries.into_iter().find(|entry| entry.name == setting.name);
    let profile = profile.map(|entry| Value { text: entry.text, origin: Origin::Profile(environment) });
    profile.or_else(|| Some(Value { text: setting.default?.to_owned(), origin: Origin::Default }))
}

fn profile(environment: Environment) -> Document {
    let (source, name) = match environment {
        Environment::Development => (include_str!("../profiles/development.toml"), "development.toml"),
        Environment::Production => (include_str!("../profiles/production.toml"), "production.toml"),
    };
    document::parse(source, Path::new(name))
}

/// The embedded instruments.
fn example_instruments() -> Vec<RawInstrument> {
    document::parse(include_str!("../profiles/instruments.toml"), Path::new("instruments.toml"))
        .instruments
        .unwrap_or_default()
}

/// Reads all layers.
pub(crate) fn gather(environ: &Environ) -> Layers {
    let mut layers = Layers {
        environment: Environment::default(),
        values: BTreeMap::new(),
        instruments: example_instruments(),
        instruments_path: None,
        errors: Vec::new(),
        warnings: misspelt(environ),
    };
    for name in &environ.unreadable {
        layers.fail(name, &Origin::Environment, "is not UTF-8".into(), "");
    }
    let file = layers.read_file(environ);
    if let Some(setting) = Setting::find("ENVIRONMENT") {
        layers.pick(setting, environ, file.as_ref());
        let text = layers.values.get(setting.name).map(|value| value.text.clone()).unwrap_or_default();
        // A word that is neither is reported when the setting itself is read.
        layers.environment = values::environment(&text, setting.kind).unwrap_or_default();
    }
    for setting in SETTINGS.iter().filter(|setting| setting.name != "ENVIRONMENT") {
        layers.pick(setting, environ, file.as_ref());
    }
    layers
}

/// The settings file, taken apart, and its path.
type SettingsFile = (PathBuf, Document);

impl Layers {
    pub(crate) fn fail(&mut self, name: &str, origin: &Origin, problem: String, allowed: &str) {
        let (name, place) = (name.to_owned(), origin.to_string());
        self.errors.push(ConfigError { name, place, problem, allowed: allowed.to_owned() });
    }

    fn read_file(&mut self, environ: &Environ) -> Option<SettingsFile> {
        let path = PathBuf::from(environ.get("NEXUS_CONFIG").filter(|path| !path.is_empty())?);
        let source = match read_bounded(&path) {
            Ok(source) => source,
            Err(problem) => {
                let problem = format!("{} {problem}", path.display());
                self.fail("NEXUS_CONFIG", &Origin::Environment, problem, "the path of a readable TOML file");
                return None;
            }
        };
        let mut document = document::parse(&source, &path);
        self.errors.append(&mut document.errors);
        if let Some(instruments) = document.instruments.take() {
            self.instruments = instruments;
            self.instruments_path = Some(path.clone());
        }
        Some((path, document))
    }

    fn pick(&mut self, setting: &'static Setting, environ: &Environ, file: Option<&SettingsFile>) {
        let fallback = default_text(setting, self.environment);
        let from_environ = |name: &str| {
            let text = environ.get(name)?.to_owned();
            Some(Value { text, origin: Origin::Environment })
        };
        let from_file = |name: &str| {
            let (path, document) = file?;
            let entry = document.entries.iter().find(|entry| entry.name == name)?;
            Some(Value { text: entry.text.clone(), origin: Origin::File { path: path.clone(), line: entry.line } })
        };
        let named = self.layer(setting, from_environ).or_else(|| self.layer(setting, from_file));
        let value = match named {
            Some(value) if value.text.is_empty() && fallback.is_none() => None,
            Some(value) => Some(value),
            None => fallback,
        };
        if let Some(value) = value {
            self.values.insert(setting.name, value);
        }
    }

    /// What one layer says, as the value itself or as the file that holds it.
    fn layer(&mut self, setting: &Setting, get: impl Fn(&str) -> Option<Value>) -> Option<Value> {
        let itself = get(setting.name);
        if !setting.kind.is_secret() {
            return itself;
        }
        let file_name = format!("{}_FILE", setting.name);
        let Some(pointer) = get(&file_name).filter(|value| !value.text.is_empty()) else {
            return itself;
        };
        if itself.is_some_and(|value| !value.text.is_empty()) {
            let problem = format!("is set beside {file_name}");
            self.fail(setting.name, &pointer.origin, problem, &format!("{} or {file_name}", setting.name));
            return None;
        }
        let path = PathBuf::from(&pointer.text);
        match read_bounded(&path) {
            Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => {
                let problem = format!("{} is empty", path.display());
                self.fail(&file_name, &pointer.origin, problem, "the path of a file that holds the secret");
            }
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                return Some(Value { text, origin: Origin::SecretFile(path) });
            }
            Err(problem) => {
                let problem = format!("{} {problem}", path.display());
                self.fail(&file_name, &pointer.origin, problem, "the path of a readable file");
            }
        }
        None
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".into())
}

/// Variables that are almost ours. Others belong to somebody else and are not looked at.
fn misspelt(environ: &Environ) -> Vec<String> {
    let strange = environ.variables.keys().filter(|name| !document::is_known(name));
    strange
        .filter_map(|name| {
            let known = document::nearest(name)?;
            Some(format!("the variable {name} is not a setting and was ignored; did you mean {known}?"))
        })
        .collect()
}
