//! From texts to values: one small parser a kind, each saying what is wrong in words that fit behind the name.
//!
//! What is allowed is the table's business (`Kind::allowed`); a parser says only what is wrong with this text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use nexus_engine::ids::Timeframe;
use nexus_engine::units::NumberError;

use crate::settings::Kind;

/// Where the engine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Environment {
    /// On somebody's own machine.
    #[default]
    Development,
    /// Where money is traded.
    Production,
}

impl Environment {
    /// The name used in the environment and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }

    /// Whether the stricter rules hold.
    pub const fn is_production(self) -> bool {
        matches!(self, Self::Production)
    }
}

/// The least important log line that is written; a later one says more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what should be looked at.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// A parser's answer: the value, or what is wrong with the text.
pub(crate) type Parsed<T> = Result<T, String>;

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

pub(crate) fn environment(text: &str, kind: Kind) -> Parsed<Environment> {
    Ok(match choice(text, kind)? {
        "production" => Environment::Production,
        _ => Environment::Development,
    })
}

pub(crate) fn log_level(text: &str, kind: Kind) -> Parsed<LogLevel> {
    Ok(match choice(text, kind)? {
        "error" | "critical" => LogLevel::Error,
        "warn" | "warning" => LogLevel::Warn,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Info,
    })
}

pub(crate) fn log_format(text: &str, kind: Kind) -> Parsed<LogFormat> {
    Ok(match choice(text, kind)? {
        "json" => LogFormat::Json,
        _ => LogFormat::Pretty,
    })
}

fn choice(text: &str, kind: Kind) -> Parsed<&'static str> {
    let Kind::Choice(words) = kind else {
        return Err("is not a choice".into());
    };
    words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(text))
        .copied()
        .ok_or_else(|| format!("{} is not one of the words", quoted(text)))
}

pub(crate) fn flag(text: &str, _kind: Kind) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{} is neither true nor false", quoted(text))),
    }
}

pub(crate) fn whole<T: TryFrom<u64>>(text: &str, kind: Kind) -> Parsed<T> {
    let outside = || format!("{text} is out of range");
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{} is not a whole number", quoted(text)));
    }
    let number: u64 = text.parse().map_err(|_| outside())?;
    if let Kind::Whole { min, max } = kind
        && !(min..=max).contains(&number)
    {
        return Err(outside());
    }
    T::try_from(number).map_err(|_| outside())
}

pub(crate) fn decimal<T: FromStr<Err = NumberError> + PartialOrd>(text: &str, kind: Kind) -> Parsed<T> {
    let number: T = text.parse().map_err(|error| format!("{} {error}", quoted(text)))?;
    if let Kind::Decimal { min, max } = kind {
        let bound = |text: &str| text.parse::<T>().map_err(|error| format!("its own range {text} {error}"));
        if number < bound(min)? || number > bound(max)? {
            return Err(format!("{text} is out of range"));
        }
    }
    Ok(number)
}

pub(crate) fn address(text: &str, _kind: Kind) -> Parsed<IpAddr> {
    text.parse().map_err(|_| format!("{} is not an IP address", quoted(text)))
}

/// The parts of a list: separated by commas, or, as other programs' variables have it, a JSON array of strings.
fn list(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.split(',').map(|part| part.trim().trim_matches(['"', '\'']).trim()).filter(|part| !part.is_empty())
}

pub(crate) fn networks(text: &str, _kind: Kind) -> Parsed<Vec<IpNet>> {
    let network = |part: &str| {
        let address = part.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| part.parse()).map_err(|_| format!("{} is not a network", quoted(part)))
    };
    list(text).map(|part| network(part).map(|network| network.trunc())).collect()
}

pub(crate) fn origins(text: &str, _kind: Kind) -> Parsed<Vec<String>> {
    let origins: Vec<String> = list(text).map(|part| part.trim_end_matches('/').to_owned()).collect();
    if origins.iter().any(|origin| origin == "*") {
        return if origins.len() == 1 { Ok(origins) } else { Err("* stands beside other origins".into()) };
    }
    for origin in &origins {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
        if host.is_empty() || host.contains(['/', '@', '?', '#', '*']) || host.contains(char::is_whitespace) {
            return Err(format!("{} is not an origin", quoted(origin)));
        }
    }
    Ok(origins)
}

pub(crate) fn timeframes(text: &str, _kind: Kind) -> Parsed<BTreeMap<Timeframe, u32>> {
    let mut counts = BTreeMap::new();
    for part in list(text) {
        let (name, count) = part.split_once('=').ok_or_else(|| format!("{} has no =", quoted(part)))?;
        let name = name.trim();
        let timeframe: Timeframe = name.parse().map_err(|error| format!("{} {error}", quoted(name)))?;
        let count = whole(count.trim(), Kind::Whole { min: 0, max: 100_000 })?;
        if counts.insert(timeframe, count).is_some() {
            return Err(format!("{timeframe} is named twice"));
        }
    }
    if counts.is_empty() {
        return Err("names no timeframe, so nothing could be traded".into());
    }
    Ok(counts)
}

pub(crate) fn path(text: &str, _kind: Kind) -> Parsed<PathBuf> {
    match text {
        "" => Err("is empty".into()),
        _ if text.starts_with('~') => Err(format!("{} begins with ~", quoted(text))),
        _ => Ok(text.into()),
    }
}

pub(crate) fn text(text: &str, _kind: Kind) -> Parsed<String> {
    if text.chars().any(char::is_control) {
        return Err("has control characters".into());
    }
    Ok(text.to_owned())
}

pub(crate) fn prefix(text: &str, _kind: Kind) -> Parsed<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) {
        return Err("is not plain, empty or too long".into());
    }
    Ok(text.to_owned())
}

/// Checks scheme and host of a URL whose text is secret: no part of it is repeated in the error.
pub(crate) fn url(text: &str, schemes: &[&str]) -> Parsed<String> {
    let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
    if !schemes.contains(&scheme) {
        return Err(format!("does not begin with {}://", schemes.join(":// or ")));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Err("names no host".into());
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("has spaces or control characters".into());
    }
    Ok(text.to_owned())
}
