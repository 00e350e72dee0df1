//! What a report is made of: the records of a feed's users, read page by page through the API.
//!
//! Nothing is taken on trust. Every number is parsed into the engine's exact types, a record that cannot be read is an
//! error and not a gap, and what other feeds made of the same users is left out: only the decisions of one feed count,
//! and the orders, fills and positions behind them. Lists come newest first and are kept oldest first.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use nexus_engine::ids::{ClientOrderId, DecisionId, Timeframe, Timestamp};
use nexus_engine::order::{OrderStatus, Purpose};
use nexus_engine::signal::Side;
use nexus_engine::units::{Money, Percent, Price, Quantity};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::RunUser;
use crate::cli::client::Client;
use crate::wire::time;

/// A user and what a feed made of the account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) username: String,
    pub(super) currency: String,
    pub(super) starting_equity: Money,
    /// What the engine says it is now.
    pub(super) equity: Money,
    pub(super) limits: Limits,
    pub(super) decisions: Vec<Decision>,
    pub(super) orders: Vec<Order>,
    pub(super) fills: Vec<Fill>,
    /// Open ones and closed ones.
    pub(super) positions: Vec<Position>,
    /// What the engine holds open now.
    pub(super) open: Vec<Position>,
    /// What all fills of the account have realised, those of other feeds included.
    pub(super) realized_by_all: Money,
}

/// The limits that a report measures against.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Limits {
    pub(super) max_risk_percent: Percent,
    pub(super) timeframes: BTreeMap<Timeframe, u32>,
    pub(super) max_open_positions: u32,
    pub(super) max_orders_per_minute: u32,
    pub(super) max_exposure: Money,
    pub(super) slippage_allowance_percent: Percent,
}

/// A decision.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) id: DecisionId,
    pub(super) feed_id: String,
    pub(super) signal_key: String,
    pub(super) at: Timestamp,
    pub(super) verdict: Verdict,
}

/// What was decided.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Accepted(Box<Plan>),
    Rejected(Vec<String>),
}

impl Decision {
    /// The order plan, when it was accepted.
    pub(super) fn plan(&self) -> Option<&Plan> {
        match &self.verdict {
            Verdict::Accepted(plan) => Some(plan),
            Verdict::Rejected(_) => None,
        }
    }
}

/// The order plan of an accepted decision.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) client_order_id: ClientOrderId,
    pub(super) timeframe: Timeframe,
    pub(super) quantity: Quantity,
    pub(super) sized_at: Price,
    pub(super) stop_loss: Price,
    pub(super) take_profit: Price,
    pub(super) risk: Money,
    pub(super) used_before: Money,
    pub(super) cap: Money,
    pub(super) equity: Money,
}

/// An order.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Order {
    pub(super) client_order_id: ClientOrderId,
    pub(super) purpose: Purpose,
    pub(super) filled_quantity: Quantity,
    pub(super) status: OrderStatus,
}

/// A fill.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Fill {
    pub(super) client_order_id: ClientOrderId,
    pub(super) side: Side,
    pub(super) quantity: Quantity,
    pub(super) price: Price,
    pub(super) fee: Money,
    pub(super) realized: Money,
    #[serde(deserialize_with = "timestamp")]
    pub(super) at: Timestamp,
}

impl Fill {
    /// The decision that permitted it.
    pub(super) fn decision(&self) -> DecisionId {
        self.client_order_id.decision
    }

    /// What it cost or brought in without its fee, rounded against the user as the engine does.
    pub(super) fn value(&self) -> Money {
        match self.side {
            Side::Buy => self.quantity.value_up(self.price),
            Side::Sell => self.quantity.value_down(self.price),
        }
    }
}

/// A position.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Position {
    pub(super) decision_id: DecisionId,
    pub(super) symbol: String,
    pub(super) side: Side,
    pub(super) quantity: Quantity,
    pub(super) entry_price: Price,
    pub(super) stop_loss: Price,
    pub(super) unrealized: Option<Money>,
    pub(super) realized: Money,
    #[serde(deserialize_with = "maybe_timestamp")]
    pub(super) opened_at: Option<Timestamp>,
    #[serde(deserialize_with = "maybe_timestamp")]
    pub(super) closed_at: Option<Timestamp>,
}

/// The user object, as far as a report needs it.
#[derive(Deserialize)]
struct UserObject {
    currency: String,
    limits: Limits,
}

/// The state of a user's risk, as far as a report needs it.
#[derive(Deserialize)]
struct RiskStatus {
    equity: Money,
    open_positions: Vec<Position>,
}

/// What every decision has.
#[derive(Deserialize)]
struct DecisionHead {
    decision_id: DecisionId,
    signal_key: String,
    feed_id: String,
    #[serde(deserialize_with = "timestamp")]
    at: Timestamp,
    verdict: String,
    #[serde(default)]
    reasons: Vec<String>,
}

impl Account {
    /// Reads what `feed_id` made of the user's account.
    pub(super) async fn read(client: &Client, user: &RunUser, feed_id: &str) -> anyhow::Result<Self> {
        let path = format!("/api/v1/users/{}", user.id);
        let object: UserObject = read(client.get(&path).await?)?;
        let mut decisions: Vec<Decision> = whole_list(client, &format!("{path}/decisions")).await?;
        decisions.retain(|decision| decision.feed_id == feed_id);
        let mut orders: Vec<Order> = whole_list(client, &format!("{path}/orders")).await?;
        let mut fills: Vec<Fill> = whole_list(client, &format!("{path}/fills")).await?;
        let mut positions: Vec<Position> = whole_list(client, &format!("{path}/positions?closed=true")).await?;
        let RiskStatus { equity, open_positions: mut open } = read(client.get(&format!("{path}/risk-status")).await?)?;
        let accepted: BTreeSet<DecisionId> =
            decisions.iter().filter(|d| d.plan().is_some()).map(|decision| decision.id).collect();
        let realized_by_all = fills.iter().fold(Money::ZERO, |sum, fill| sum.plus(fill.realized));
        orders.retain(|order| accepted.contains(&order.client_order_id.decision));
        fills.retain(|fill| accepted.contains(&fill.decision()));
        fills.sort_by_key(|fill| fill.at);
        positions.retain(|position| accepted.contains(&position.decision_id));
        open.retain(|position| accepted.contains(&position.decision_id));
        Ok(Self {
            username: user.username.clone(),
            currency: object.currency,
            starting_equity: user.starting_equity,
            equity,
            limits: object.limits,
            decisions,
            orders,
            fills,
            positions,
            open,
            realized_by_all,
        })
    }
}

/// A whole list, oldest first.
async fn whole_list<T: DeserializeOwned>(client: &Client, path: &str) -> anyhow::Result<Vec<T>> {
    let items = client.all(path).await?;
    items.into_iter().rev().map(read).collect::<anyhow::Result<_>>().with_context(|| format!("the answer of {path}"))
}

fn read<T: DeserializeOwned>(item: Value) -> anyhow::Result<T> {
    T::deserialize(&item).with_context(|| format!("the engine's record cannot be read: {item}"))
}

impl<'de> Deserialize<'de> for Decision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let record = Value::deserialize(deserializer)?;
        let head = DecisionHead::deserialize(&record).map_err(D::Error::custom)?;
        let verdict = match head.verdict.as_str() {
            "accepted" => Verdict::Accepted(Box::new(Plan::deserialize(&record).map_err(D::Error::custom)?)),
            "rejected" => Verdict::Rejected(head.reasons),
            other => return Err(D::Error::custom(format_args!("{other:?} is no verdict"))),
        };
        Ok(Self { id: head.decision_id, feed_id: head.feed_id, signal_key: head.signal_key, at: head.at, verdict })
    }
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    time::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn maybe_timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| time::parse(&text)).transpose().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_decision_is_read_whole_or_not_at_all() {
        let id = "00000000-0000-0000-0000-000000000007";
        let mut record = json!({"decision_id": id, "user_id": id, "signal_id": id, "signal_key": "k", "feed_id": id,
            "at": "2026-11-24T02:00:00Z", "verdict": "rejected", "reasons": ["day_closed"]});
        let rejected: Decision = read(record.clone()).expect("a rejection");
        assert!(matches!(&rejected.verdict, Verdict::Rejected(reasons) if *reasons == ["day_closed"]));
        record["verdict"] = json!("accepted");
        assert!(read::<Decision>(record.clone()).is_err(), "an acceptance without its plan");
        record["verdict"] = json!("perhaps");
        assert!(read::<Decision>(record).is_err(), "a verdict that is none");
    }
}
