//! The settings file: TOML, read for its exact texts.
//!
//! Numbers are taken as they are written, never through a float: `MAX_DAILY_LOSS = 9.99` is the decimal 9.99. Every
//! entry knows its line, so that an error can point at it. Keys that mean nothing are errors: a misspelt limit must not
//! silently leave the default in force.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::ConfigError;
use crate::settings::{SETTINGS, Setting};

/// One entry of the file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As the table of settings spells it, maybe followed by `_FILE`.
    pub name: String,
    /// What it says.
    pub text: String,
    /// Where.
    pub line: usize,
}

/// One table of `[[instruments]]`.
#[derive(Clone, Debug)]
pub(crate) struct RawInstrument {
    /// Keys and texts.
    pub fields: Vec<(String, String)>,
    /// Where it begins.
    pub line: usize,
}

/// A settings file, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub entries: Vec<Entry>,
    /// `None` when the file says nothing about instruments.
    pub instruments: Option<Vec<RawInstrument>>,
    pub errors: Vec<ConfigError>,
}

/// Takes a file apart. `path` is only named in errors.
pub(crate) fn parse(source: &str, path: &Path) -> Document {
    let mut reader = Reader { source, path, document: Document::default() };
    match DeTable::parse(source) {
        Ok(table) => reader.top(table.get_ref()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.error("NEXUS_CONFIG", at, format!("cannot be read as TOML: {}", error.message()), "a TOML file");
        }
    }
    reader.document
}

struct Reader<'a> {
    source: &'a str,
    path: &'a Path,
    document: Document,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        self.source.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
    }

    fn error(&mut self, name: &str, at: usize, problem: String, allowed: &str) {
        let place = format!("{}:{}", self.path.display(), self.line(at));
        self.document.errors.push(ConfigError { name: name.into(), place, problem, allowed: allowed.into() });
    }

    fn top(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("instruments", DeValue::Array(tables)) => self.instruments(tables.iter()),
                ("instruments", _) => {
                    let problem = "is not a list of tables".to_owned();
                    self.error("instruments", value.span().start, problem, "[[instruments]] tables");
                }
                ("paper", DeValue::Table(table)) => {
                    for (key, value) in table {
                        let name = format!("PAPER_{}", key.get_ref().to_uppercase());
                        let given = format!("paper.{}", key.get_ref());
                        let is_lower = key.get_ref().to_lowercase() == key.get_ref().as_ref();
                        self.setting(&given, if is_lower { name } else { given.clone() }, key.span().start, value);
                    }
                }
                (name, _) => self.setting(name, name.to_owned(), key.span().start, value),
            }
        }
    }

    /// `given` is what the file says, `name` what it means.
    fn setting(&mut self, given: &str, name: String, at: usize, value: &Spanned<DeValue<'_>>) {
        if name == "NEXUS_CONFIG" {
            return self.error(&name, at, "names a file inside the file".into(), "in the environment only");
        }
        if !is_known(&name) {
            let allowed = match nearest(&name) {
                Some(known) => format!("did you mean {known}?"),
                None => "the names that `nexus config show` lists".into(),
            };
            return self.error(given, at, "is not a setting".into(), &allowed);
        }
        let line = self.line(at);
        match scalar(value.get_ref()).or_else(|| list(value.get_ref())) {
            Some(_) if self.document.entries.iter().any(|entry| entry.name == name) => {
                self.error(&name, at, "is set twice".into(), "once");
            }
            Some(text) => self.document.entries.push(Entry { name, text, line }),
            None => {
                let allowed = Setting::find(&name).map(|setting| setting.kind.allowed()).unwrap_or_default();
                self.error(&name, at, format!("is a {}", value.get_ref().type_str()), &allowed);
            }
        }
    }

    fn instruments<'t, 'i: 't>(&mut self, tables: impl Iterator<Item = &'t Spanned<DeValue<'i>>>) {
        let mut found = Vec::new();
        for item in tables {
            let at = item.span().start;
            let DeValue::Table(table) = item.get_ref() else {
                self.error("instruments", at, "is not a table".into(), "[[instruments]] tables");
                continue;
            };
            let mut fields = Vec::new();
            for (key, value) in table {
                match scalar(value.get_ref()) {
                    Some(text) => fields.push((key.get_ref().to_string(), text)),
                    None => self.error(
                        &format!("instruments.{}", key.get_ref()),
                        key.span().start,
                        format!("is a {}", value.get_ref().type_str()),
                        "a text, a number, true or false",
                    ),
                }
            }
            found.push(RawInstrument { fields, line: self.line(at) });
        }
        self.document.instruments = Some(found);
    }
}

/// Whether a key of the file or a variable names a setting, or the file that holds a secret one.
pub(crate) fn is_known(name: &str) -> bool {
    let holds_secret = |base: &str| Setting::find(base).is_some_and(|setting| setting.kind.is_secret());
    Setting::find(name).is_some() || name.strip_suffix("_FILE").is_some_and(holds_secret)
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn list(value: &DeValue<'_>) -> Option<String> {
    let items: Option<Vec<String>> = value.as_array()?.iter().map(|item| scalar(item.get_ref())).collect();
    Some(items?.join(","))
}

/// The setting whose name is at most two slips away, if there is one.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let upper = name.to_uppercase();
    let upper = upper.strip_prefix("PAPER.").map_or(upper.clone(), |rest| format!("PAPER_{rest}"));
    let distance = |setting: &Setting| (slips(&upper, setting.name), setting.name);
    let (slips, name) = SETTINGS.iter().map(distance).min()?;
    // In a short name two slips make another word.
    (slips <= if name.len() < 8 { 1 } else { 2 }).then_some(name)
}

/// The Levenshtein distance.
fn slips(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, expected) in [("", "ab", 2), ("API_PORT", "API_PROT", 2), ("SECRETKEY", "SECRET_KEY", 1)] {
            assert_eq!(slips(a, b), expected, "{a} {b}");
        }
        assert_eq!(nearest("api_port"), Some("API_PORT"));
        assert_eq!(nearest("MAX_DAILY_LOS"), Some("MAX_DAILY_LOSS"));
        assert_eq!(nearest("PATH"), None);
    }
}
