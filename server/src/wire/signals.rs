//! A signal as a feed sends it, and the answer that it gets.
//!
//! The fields are handed to `Signal::parse` as they were typed: the engine judges them once, for every way by which a
//! signal may come. Only what the engine does not know, the form of a time, is read here.

use std::collections::BTreeMap;

use nexus_actors::engine::SignalAnswer;
use nexus_actors::ports::SignalRecord;
use nexus_engine::account::{Decision, Verdict};
use nexus_engine::ids::{FeedId, Timestamp};
use nexus_engine::signal::{RawSignal, Signal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::decimal::WireDecimal;
use super::fields::{FieldError, Fields};
use super::time;

/// Decisions shown in the answer to a signal; the rest is paged.
pub(super) const DECISIONS_SHOWN_MAX: usize = 100;

/// A feed's instruction for a symbol.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Signal, example = json!({
    "id": "opt-1", "symbol": "EURUSD", "side": "buy", "timeframe": "3H", "order_type": "market",
    "entry_price": "1.08500", "stop_loss": "1.08300", "take_profit": "1.08900",
    "issued_at": "2026-11-24T02:00:00Z",
    "protection": {"breakeven_at_r": "1.0", "trail_distance": "0.0010", "trail_after_r": "1.5", "max_hold_minutes": 540}
}))]
pub struct SignalBody {
    /// What the feed calls it; makes a repeat safe.
    pub id: Option<String>,
    /// What to trade.
    #[schema(required = true)]
    pub symbol: Option<String>,
    /// `buy` or `sell`.
    #[schema(required = true)]
    pub side: Option<String>,
    /// The period that it was computed from, as in `3H`.
    #[schema(required = true)]
    pub timeframe: Option<String>,
    /// `market` (the default) or `limit`.
    pub order_type: Option<String>,
    /// Where the feed expects to get in; required for limit orders.
    pub entry_price: Option<WireDecimal>,
    /// Where the trade is given up.
    #[schema(required = true)]
    pub stop_loss: Option<WireDecimal>,
    /// Where the trade is won.
    #[schema(required = true)]
    pub take_profit: Option<WireDecimal>,
    /// When the feed made it; the time of arrival when absent.
    pub issued_at: Option<String>,
    /// How the stop moves.
    pub protection: Option<ProtectionBody>,
    /// Only this subscriber.
    pub user_id: Option<String>,
}

/// How the stop of a position moves.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Protection)]
pub struct ProtectionBody {
    /// At this profit, in multiples of the initial risk, the stop goes to the entry price.
    pub breakeven_at_r: Option<WireDecimal>,
    /// The stop follows the market at this distance.
    pub trail_distance: Option<WireDecimal>,
    /// It follows from this profit on, in multiples of the initial risk.
    pub trail_after_r: Option<WireDecimal>,
    /// The position is closed when it is this old.
    pub max_hold_minutes: Option<WireDecimal>,
}

impl SignalBody {
    /// Parses the signal that `feed` calls by its own id, or else by `key`; or says all that is wrong with its fields.
    pub fn parse(self, feed: FeedId, key: &str, now: Timestamp) -> Result<Signal, Vec<FieldError>> {
        let mut fields = Fields::default();
        let issued_at = self.issued_at.as_deref().and_then(|text| match time::parse(text) {
            Ok(at) => Some(at),
            Err(why) => {
                fields.refuse("issued_at", "invalid", why);
                None
            }
        });
        let protection = self.protection.unwrap_or_default();
        let max_hold_minutes = fields.number("protection.max_hold_minutes", protection.max_hold_minutes.as_ref());
        let text = |number: Option<WireDecimal>| number.map(WireDecimal::into_text);
        let raw = RawSignal {
            symbol: self.symbol,
            side: self.side,
            timeframe: self.timeframe,
            order_type: self.order_type,
            entry_price: text(self.entry_price),
            stop_loss: text(self.stop_loss),
            take_profit: text(self.take_profit),
            issued_at,
            breakeven_at_r: text(protection.breakeven_at_r),
            trail_distance: text(protection.trail_distance),
            trail_after_r: text(protection.trail_after_r),
            max_hold_minutes,
            user_id: self.user_id,
        };
        match Signal::parse(feed, self.id.as_deref().unwrap_or(key), &raw, now) {
            Ok(signal) => fields.finish(Some(signal)),
            Err(problems) => {
                let mut errors = fields.finish(None::<Signal>).err().unwrap_or_default();
                errors.extend(problems.into_iter().map(|problem| FieldError {
                    field: problem.field.to_owned(),
                    code: problem.code,
                    message: problem.message,
                }));
                Err(errors)
            }
        }
    }
}

/// The answer to a signal, given once its decisions are durable.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SignalAnswer)]
pub struct SignalAnswerBody {
    /// Ask for it by this.
    pub signal_id: String,
    /// Whether it had been recorded before.
    pub duplicate: bool,
    /// Decisions made.
    pub decided: usize,
    /// Of those, accepted.
    pub accepted: usize,
    /// Of those, rejected.
    pub rejected: usize,
    /// How often each reason was given.
    pub reasons: BTreeMap<&'static str, usize>,
    /// Subscribers that were not decided in time; present with status 202 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<usize>,
    /// The first 100 decisions, by user.
    pub decisions: Vec<DecisionBody>,
}

/// A decision as the answer to a signal shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SignalDecision)]
pub struct DecisionBody {
    /// For whom.
    pub user_id: String,
    /// `accepted` or `rejected`.
    #[schema(example = "accepted")]
    pub verdict: &'static str,
    /// Its id.
    pub decision_id: String,
    /// The entry order, when accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// How much, when accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2400")]
    pub quantity: Option<String>,
    /// The worst-case loss that is reserved, when accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "4.80")]
    pub risk: Option<String>,
    /// Why not, when rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<&'static str>>,
}

impl DecisionBody {
    /// Shows a decision.
    pub fn of(decision: &Decision) -> Self {
        let (user_id, decision_id) = (decision.user.to_string(), decision.id.to_string());
        match &decision.verdict {
            Verdict::Accepted(plan) => Self {
                user_id,
                decision_id,
                verdict: "accepted",
                client_order_id: Some(plan.order.to_string()),
                quantity: Some(plan.quantity.to_string()),
                risk: Some(plan.risk.to_string()),
                reasons: None,
            },
            Verdict::Rejected(reasons) => Self {
                user_id,
                decision_id,
                verdict: "rejected",
                client_order_id: None,
                quantity: None,
                risk: None,
                reasons: Some(reasons.iter().map(|reason| reason.code()).collect()),
            },
        }
    }
}

impl SignalAnswerBody {
    /// Shows an answer.
    pub fn of(answer: &SignalAnswer) -> Self {
        let mut reasons = BTreeMap::new();
        let mut accepted = 0;
        for decision in &answer.decisions {
            match &decision.verdict {
                Verdict::Accepted(_) => accepted += 1,
                Verdict::Rejected(why) => why.iter().for_each(|reason| *reasons.entry(reason.code()).or_insert(0) += 1),
            }
        }
        let decided = answer.decisions.len();
        Self {
            signal_id: answer.signal.to_string(),
            duplicate: answer.duplicate,
            decided,
            accepted,
            rejected: decided - accepted,
            reasons,
            pending: (answer.pending > 0).then_some(answer.pending),
            decisions: answer.decisions.iter().take(DECISIONS_SHOWN_MAX).map(|d| DecisionBody::of(d)).collect(),
        }
    }
}

/// A stored signal with a page of its decisions.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StoredSignal)]
pub struct StoredSignalBody {
    /// Its id.
    pub signal_id: String,
    /// Who sent it.
    pub feed_id: String,
    /// When it arrived.
    pub received_at: String,
    /// Users that it was for.
    pub subscribers: usize,
    /// Of those, not yet decided.
    pub pending: usize,
    /// What it said.
    pub signal: SaidBody,
    /// A page of its decisions, by user.
    pub decisions: Vec<DecisionBody>,
    /// Pass it as `after` for the next page.
    pub next: Option<String>,
}

/// What a stored signal said.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SaidSignal)]
pub struct SaidBody {
    /// What the feed calls it.
    pub id: String,
    /// What to trade.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: &'static str,
    /// The period that it was computed from.
    pub timeframe: String,
    /// `market` or `limit`.
    pub order_type: &'static str,
    /// Where the feed expects to get in.
    pub entry_price: Option<String>,
    /// Where the trade is given up.
    pub stop_loss: String,
    /// Where the trade is won.
    pub take_profit: String,
    /// When the feed made it, or when it arrived.
    pub issued_at: String,
    /// How the stop moves.
    pub protection: SaidProtection,
    /// Only this subscriber.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// How the stop of a stored signal moves.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SaidProtection {
    /// At this profit, in multiples of the initial risk, the stop goes to the entry price.
    #[serde(skip_serializing_if = "Option::is_none")]
    breakeven_at_r: Option<String>,
    /// The stop follows the market at this distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    trail_distance: Option<String>,
    /// It follows from this profit on, in multiples of the initial risk.
    #[serde(skip_serializing_if = "Option::is_none")]
    trail_after_r: Option<String>,
    /// The position is closed when it is this old.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_hold_minutes: Option<u64>,
}

impl SaidBody {
    fn of(signal: &Signal) -> Self {
        let plan = &signal.protection;
        Self {
            id: signal.key.to_string(),
            symbol: signal.symbol.to_string(),
            side: signal.side.as_str(),
            timeframe: signal.timeframe.to_string(),
            order_type: signal.kind.as_str(),
            entry_price: signal.entry_price.map(|price| price.to_string()),
            stop_loss: signal.stop_loss.to_string(),
            take_profit: signal.take_profit.to_string(),
            issued_at: time::format(signal.issued_at),
            protection: SaidProtection {
                breakeven_at_r: plan.breakeven_at.map(|multiple| multiple.to_string()),
                trail_distance: plan.trail_distance.map(|distance| distance.to_string()),
                trail_after_r: plan.trail_after.map(|multiple| multiple.to_string()),
                max_hold_minutes: plan.max_hold.map(|hold| hold.as_secs() / 60),
            },
            user_id: signal.only_user.map(|user| user.to_string()),
        }
    }
}

impl StoredSignalBody {
    /// Shows a stored signal, of whose subscribers `decided` are decided.
    pub fn of(record: &SignalRecord, decided: usize, decisions: Vec<DecisionBody>, next: Option<String>) -> Self {
        Self {
            signal_id: record.signal.id.to_string(),
            feed_id: record.signal.feed.to_string(),
            received_at: time::format(record.received_at),
            subscribers: record.subscribers.len(),
            pending: record.subscribers.len().saturating_sub(decided),
            signal: SaidBody::of(&record.signal),
            decisions,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn check(body: &str, expected: &[(&str, &str)]) {
        let signal: SignalBody = json::decode(body.as_bytes()).expect("well-formed");
        let errors = signal.parse(FeedId(uuid::Uuid::nil()), "k", Timestamp::ZERO).err().unwrap_or_default();
        let found: Vec<_> = errors.iter().map(|e| (e.field.as_str(), e.code)).collect();
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn numbers_and_strings_are_taken_exactly_or_refused_by_field() {
        let with = |stop: &str, rest: &str| {
            format!(
                r#"{{"symbol":"EURUSD","side":"buy","timeframe":"3H","stop_loss":{stop},"take_profit":"1.089"{rest}}}"#
            )
        };
        check(&with("1.083", ""), &[]);
        check(&with("\"1.083\"", r#","protection":{"max_hold_minutes":540}"#), &[]);
        for stop in ["1e309", "-1", "0", "0.10000000000000000001", "\"NaN\"", "1e-400", "1e99999999999999999999"] {
            check(&with(stop, ""), &[("stop_loss", "invalid")]);
        }
        check(&with("1.083", r#","issued_at":"yesterday""#), &[("issued_at", "invalid")]);
        for minutes in ["-1", "1e309", "5.5", "99999999999"] {
            let rest = format!(r#","protection":{{"max_hold_minutes":{minutes}}}"#);
            check(&with("1.083", &rest), &[("protection.max_hold_minutes", "invalid")]);
        }
    }
}
