//! What goes into a step of an account, and what comes out: inputs, context, events, effects.
//!
//! One closed enum each, matched everywhere without a wildcard, so that a new kind is met by every place that must know
//! it. Events are facts that the ledger keeps; effects are to be done once the events are durable.

use std::sync::Arc;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::account::LedgerRisk;
use crate::gate::{Gate, Scope};
use crate::ids::{ClientOrderId, Day, DecisionId, FeedId, SignalId, Symbol, Timeframe, Timestamp, UserId};
use crate::instrument::{Instrument, Mark};
use crate::limits::Limits;
use crate::order::{OrderRequest, OrderStatus, Purpose, Report};
use crate::protection::Watch;
use crate::rules::Refusal;
use crate::signal::{OrderKind, Side, Signal};
use crate::units::{Money, Price, Quantity};

/// Something that an account has to deal with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Decide on a signal.
    Signal(Arc<Signal>),
    /// The ledger vetoed the acceptance of this signal: decide it as refused.
    Vetoed(Arc<Signal>),
    /// A venue said something about an order.
    Report(Report),
    /// What a position waited for may have happened: look at it.
    Look(DecisionId),
    /// An emergency stop: ask for the cancellation of every working entry.
    CancelEntries,
    /// The same for the entries that a narrower stop covers.
    CancelEntriesOf(Scope),
    /// A person closes every position in this scope.
    Flatten(Scope),
    /// A person changed the limits.
    SetLimits(Limits),
    /// A person enabled or disabled the user's trading.
    SetTrading(bool),
    /// The user's inputs failed too often, or a person has looked and lifts that.
    SetQuarantine(bool),
}

/// The world as it was when a turn began. Stored with the turn, so that it can be decided again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Context {
    /// What the gate said.
    pub gate: Gate,
    /// The newest mark of the symbol in question.
    pub mark: Option<Mark>,
    /// The instrument in question.
    pub instrument: Option<Arc<Instrument>>,
    /// Whether the user follows the signal's feed.
    pub subscribed: bool,
}

/// What one step produced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    /// Facts to append to the ledger. Without any, nothing changed and nothing is committed.
    pub events: Vec<Event>,
    /// What to do once they are durable.
    pub effects: Vec<Effect>,
    /// By how much the ledger's counters change.
    pub delta: RiskDelta,
}

/// By how much a turn changes the ledger's counters; the ledger adds, so that somebody else's write is not lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RiskDelta {
    /// The day of the turn.
    pub day: Day,
    /// Change of the day's net realised profit and loss.
    pub realized: Money,
    /// Change of the risk of open positions.
    pub open: Money,
    /// Change of the risk of accepted entries not yet filled.
    pub reserved: Money,
    /// Change of the day's acceptances of a timeframe: +1 at acceptance, -1 when given back.
    pub counts: Vec<(Timeframe, i32)>,
}

/// A fact about an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody else had written into the ledger's counters: the account was loaded as they say. First in its turn.
    Corrected(Box<LedgerRisk>),
    /// A signal was decided.
    Decided(Decision),
    /// The venue has an order.
    Acknowledged(ClientOrderId),
    /// An order traded.
    Filled(Fill),
    /// An order ended without (further) trading.
    Ended {
        /// Which.
        order: ClientOrderId,
        /// How.
        status: OrderStatus,
        /// In whose words.
        reason: CompactString,
    },
    /// It is not known whether the venue has an order.
    Doubted(ClientOrderId),
    /// A position is to be closed, wholly or in part.
    ExitPlanned {
        /// The exit order.
        order: ClientOrderId,
        /// Why.
        purpose: Purpose,
        /// How much.
        quantity: Quantity,
    },
    /// The venue is to be asked to cancel an order.
    CancelRequested(ClientOrderId),
    /// The stop of a position moved.
    StopMoved {
        /// Which position.
        decision: DecisionId,
        /// From where.
        from: Price,
        /// To where.
        to: Price,
        /// `BreakEven` or `Trailing`.
        kind: Purpose,
    },
    /// A position is flat and none of its orders can trade.
    Closed {
        /// Which.
        decision: DecisionId,
        /// What it made, fees included.
        realized: Money,
    },
    /// A row of losing trades started a cool-down.
    CooledDown {
        /// Its end.
        until: Timestamp,
    },
    /// A venue reported something about an order that no decision of this account explains.
    Unexplained(Report),
    /// The limits changed.
    LimitsSet(Limits),
    /// Trading was enabled or disabled.
    TradingSet(bool),
    /// The account was quarantined or released.
    QuarantineSet(bool),
}

/// The verdict on one signal and one user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// A function of signal and user.
    pub id: DecisionId,
    /// On which signal.
    pub signal: SignalId,
    /// From which feed.
    pub feed: FeedId,
    /// For whom.
    pub user: UserId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub verdict: Verdict,
}

/// Accepted with an order plan, or rejected with reasons.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The entry may be sent; its worst case is reserved.
    Accepted(Acceptance),
    /// Nothing happens.
    Rejected(Vec<Refusal>),
}

/// An accepted decision: its order plan and its reservation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acceptance {
    /// The entry order.
    pub order: ClientOrderId,
    /// What to trade.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// From which bars.
    pub timeframe: Timeframe,
    /// Market or limit.
    pub kind: OrderKind,
    /// How much.
    pub quantity: Quantity,
    /// The entry price that the size was computed from.
    pub sized_at: Price,
    /// The first stop.
    pub stop_loss: Price,
    /// The target.
    pub take_profit: Price,
    /// The worst-case loss, reserved.
    pub risk: Money,
    /// What was used of the day's cap before.
    pub used_before: Money,
    /// The day's cap.
    pub cap: Money,
    /// The equity that the risk percent was taken of.
    pub equity: Money,
    /// When a working entry is cancelled.
    pub expires_at: Timestamp,
    /// Where it trades.
    pub venue: CompactString,
}

/// A trade at a venue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fill {
    /// The venue's unique id of it.
    pub execution: CompactString,
    /// The order that traded.
    pub order: ClientOrderId,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How much.
    pub quantity: Quantity,
    /// At what price.
    pub price: Price,
    /// For what fee.
    pub fee: Money,
    /// When, by the venue's word.
    pub at: Timestamp,
    /// What it realised, its fee included.
    pub realized: Money,
}

/// Something to do once the events are durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send an order to its venue. An exit stands under the permission of its entry's commit and need not wait for this one.
    Submit(OrderRequest),
    /// Ask a venue to cancel an order.
    Cancel {
        /// Which.
        order: ClientOrderId,
        /// Of what.
        symbol: Symbol,
        /// Where.
        venue: CompactString,
    },
    /// Watch the market and the clock for a position.
    Watch(Watch),
}
