//! Marks as a feed pushes them.
//!
//! Form is checked here, element by element, so that a refusal names them all; whether a mark is newer and to be believed
//! is for the engine.

use nexus_actors::engine::MarksAnswer;
use nexus_engine::ids::{Symbol, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::units::Price;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::decimal::WireDecimal;
use super::fields::{FieldError, Fields};
use super::time;

/// The best prices of a market at one moment.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Mark, example = json!({
    "symbol": "EURUSD", "bid": "1.08495", "ask": "1.08505", "at": "2026-11-24T02:00:00Z"
}))]
pub struct MarkBody {
    /// Whose market.
    #[schema(required = true)]
    pub symbol: Option<String>,
    /// What a seller gets.
    #[schema(required = true)]
    pub bid: Option<WireDecimal>,
    /// What a buyer pays.
    #[schema(required = true)]
    pub ask: Option<WireDecimal>,
    /// When the source saw it.
    #[schema(required = true)]
    pub at: Option<String>,
}

impl MarkBody {
    /// Reads element `index` of a list; `known` says which symbols there are. A time beyond `latest` means that a clock is
    /// wrong: taken, the mark would make every true one look old until that time comes.
    pub fn parse(
        self,
        index: usize,
        latest: Timestamp,
        known: impl Fn(&Symbol) -> bool,
    ) -> Result<Mark, Vec<FieldError>> {
        let mut fields = Fields::of_element(index);
        let symbol = fields.require::<Symbol>("symbol", self.symbol.as_deref());
        if symbol.as_ref().is_some_and(|symbol| !known(symbol)) {
            fields.refuse("symbol", "unknown_instrument", "is not an instrument of this engine");
        }
        let bid = price(&mut fields, "bid", self.bid.as_ref());
        let ask = price(&mut fields, "ask", self.ask.as_ref());
        if let (Some(bid), Some(ask)) = (bid, ask)
            && bid > ask
        {
            fields.refuse("bid", "crossed", "must not be above ask");
        }
        let at = match self.at.as_deref().map(time::parse) {
            Some(Ok(at)) if at > latest => {
                fields.refuse("at", "future", "is ahead of the engine's clock by more than future_tolerance_seconds");
                None
            }
            Some(Ok(at)) => Some(at),
            Some(Err(why)) => {
                fields.refuse("at", "invalid", why);
                None
            }
            None => {
                fields.refuse("at", "missing", "is required");
                None
            }
        };
        let mark = (|| Some(Mark { symbol: symbol?, bid: bid?, ask: ask?, at: at? }))();
        fields.finish(mark)
    }
}

fn price(fields: &mut Fields, field: &str, number: Option<&WireDecimal>) -> Option<Price> {
    let price = fields.require::<Price>(field, number.map(WireDecimal::as_str))?;
    if price.is_zero() {
        fields.refuse(field, "invalid", "must be above zero");
        return None;
    }
    Some(price)
}

/// The answer to a list of marks.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MarksAnswer)]
pub struct MarksAnswerBody {
    /// Newer than what was known, and believed.
    pub accepted: usize,
    /// Not newer than what was known.
    pub ignored: usize,
    /// Too far from the mark before; believed once a second one confirms it.
    pub unconfirmed: usize,
}

impl From<MarksAnswer> for MarksAnswerBody {
    fn from(answer: MarksAnswer) -> Self {
        Self { accepted: answer.accepted, ignored: answer.ignored, unconfirmed: answer.unconfirmed }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[test]
    fn every_fault_of_a_mark_is_named_by_its_element_and_field() {
        let table: [(&str, &[(&str, &str)]); 8] = [
            (r#"{"symbol":"EURUSD","bid":"1","ask":"1","at":"2026-11-24T02:00:00Z"}"#, &[]),
            (r#"{"symbol":"EURUSD","bid":2,"ask":1,"at":"2026-11-24T02:00:00Z"}"#, &[("[3].bid", "crossed")]),
            (r#"{"symbol":"X","bid":1,"ask":1,"at":"2026-11-24T02:00:00Z"}"#, &[("[3].symbol", "unknown_instrument")]),
            (r#"{"symbol":"EURUSD","bid":0,"ask":1,"at":"2026-11-24T02:00:00Z"}"#, &[("[3].bid", "invalid")]),
            (r#"{"symbol":"EURUSD","bid":1,"ask":1e309,"at":"2026-11-24T02:00:00Z"}"#, &[("[3].ask", "invalid")]),
            (r#"{"symbol":"EURUSD","bid":1,"ask":1,"at":"x"}"#, &[("[3].at", "invalid")]),
            (r#"{"symbol":"EURUSD","bid":1,"ask":1,"at":"2026-11-24T02:00:01Z"}"#, &[("[3].at", "future")]),
            ("{}", &[("[3].symbol", "missing"), ("[3].bid", "missing"), ("[3].ask", "missing"), ("[3].at", "missing")]),
        ];
        let latest = time::parse("2026-11-24T02:00:00Z").expect("a time");
        for (body, expected) in table {
            let mark: MarkBody = json::decode(body.as_bytes()).expect("well-formed");
            let errors = mark.parse(3, latest, |symbol| symbol.as_str() == "EURUSD").err().unwrap_or_default();
            let found: Vec<_> = errors.iter().map(|e| (e.field.as_str(), e.code)).collect();
            assert_eq!(found, expected, "{body}");
        }
    }
}
