//! Instruments as the file names them: texts turned into exact ticks and lots, or every fault named.
//!
//! The list is all or nothing: a file that names one instrument replaces the examples, so that an operator never trades
//! something that no file of theirs names.

use compact_str::CompactString;
use nexus_engine::instrument::Instrument;
use nexus_engine::units::{Percent, Price, Quantity};

use crate::document::RawInstrument;
use crate::error::ConfigError;
use crate::settings::Kind;
use crate::values::{Parsed, decimal, flag};

/// The venues that this build can trade at.
const VENUES: &[&str] = &["paper"];
const STEP: Kind = Kind::Decimal { min: "0.00000001", max: "1000000" };
const FEE: Kind = Kind::Decimal { min: "0", max: "10" };

/// Reads all instruments; `source` is the file, for the errors.
pub(crate) fn read(raw: &[RawInstrument], source: &str, errors: &mut Vec<ConfigError>) -> Vec<Instrument> {
    let mut instruments: Vec<Instrument> = Vec::new();
    for table in raw {
        let mut fields = Fields { raw: table, source, errors };
        if let Some(instrument) = fields.instrument() {
            if instruments.iter().any(|other| other.symbol == instrument.symbol) {
                fields.fail("symbol", format!("{} is named twice", instrument.symbol), "each symbol once");
            }
            instruments.push(instrument);
        }
    }
    instruments
}

struct Fields<'a> {
    raw: &'a RawInstrument,
    source: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl Fields<'_> {
    fn instrument(&mut self) -> Option<Instrument> {
        const NAMES: &[&str] = &["symbol", "tick", "lot", "fee_percent", "quote", "enabled", "venue"];
        for (name, _) in &self.raw.fields {
            if !NAMES.contains(&name.as_str()) {
                self.fail(name, "is not a field of an instrument".into(), &NAMES.join(", "));
            }
        }
        let symbol = self.required("symbol", "a symbol as in EURUSD", |text| {
            text.parse().map_err(|error| format!("{text:?} {error}"))
        });
        let tick = self.required("tick", &STEP.allowed(), |text| decimal::<Price>(text, STEP));
        let lot = self.required("lot", &STEP.allowed(), |text| decimal::<Quantity>(text, STEP));
        let fee_percent = self.required("fee_percent", &FEE.allowed(), |text| decimal::<Percent>(text, FEE));
        let quote = self.required("quote", "a currency code as in USD", currency);
        let enabled = self.optional("enabled", true, "true or false", |text| flag(text, Kind::Flag));
        let venue = self.optional("venue", CompactString::const_new("paper"), &VENUES.join(", "), |text| {
            let known = VENUES.contains(&text);
            if known { Ok(CompactString::new(text)) } else { Err(format!("{text:?} is not a venue of this build")) }
        });
        Some(Instrument {
            symbol: symbol?,
            tick: tick?,
            lot: lot?,
            fee_percent: fee_percent?,
            quote: quote?,
            enabled: enabled?,
            venue: venue?,
        })
    }

    fn fail(&mut self, field: &str, problem: String, allowed: &str) {
        let symbol = self.text("symbol").unwrap_or("?");
        self.errors.push(ConfigError {
            name: format!("instruments.{symbol}.{field}"),
            place: format!("{}:{}", self.source, self.raw.line),
            problem,
            allowed: allowed.to_owned(),
        });
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.raw.fields.iter().find(|(name, _)| name == field).map(|(_, text)| text.as_str())
    }

    fn required<T>(&mut self, field: &str, allowed: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let Some(text) = self.text(field) else {
            self.fail(field, "is missing".into(), allowed);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fail(field, problem, allowed);
                None
            }
        }
    }

    fn optional<T>(&mut self, field: &str, default: T, allowed: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        if self.text(field).is_none() { Some(default) } else { self.required(field, allowed, parse) }
    }
}

fn currency(text: &str) -> Parsed<CompactString> {
    let is_code = (3..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase());
    if is_code { Ok(CompactString::new(text)) } else { Err(format!("{text:?} is not a currency code")) }
}
