//! The rules that a signal has to pass, and the closed list of reasons for which it is refused.
//!
//! One rule a file; each looks at one [`Case`] and either lets it pass or names its refusal. [`ENTRY_RULES`] is the order in
//! which they are asked, and the first that refuses speaks. The rules that need a size come after sizing.

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::instrument::{Instrument, Mark};
use crate::signal::Signal;
use crate::sizing::Sized;
use crate::turn::Context;

mod account_open;
mod freshness;
mod duplicate;
mod instrument;
mod market;
mod timeframe;
mod counts;
mod cap;
mod ceilings;
#[cfg(test)]
mod table;

/// A signal before an account, in the world as it was when the turn began.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Who would trade. Its `now` is the time of the turn.
    pub account: &'a Account,
    /// What is asked for.
    pub signal: &'a Signal,
    /// The world.
    pub context: &'a Context,
}

impl<'a> Case<'a> {
    /// The instrument, or the refusal for want of it.
    pub fn instrument(&self) -> Result<&'a Instrument, Refusal> {
        self.context.instrument.as_deref().ok_or(Refusal::UnknownInstrument)
    }

    /// The mark, or the refusal for want of it.
    pub fn mark(&self) -> Result<&'a Mark, Refusal> {
        self.context.mark.as_ref().ok_or(Refusal::StaleMarketData)
    }
}

/// A rule that needs no size.
type EntryRule = fn(&Case<'_>) -> Result<(), Refusal>;
/// A rule about an order of a known size.
type SizeRule = fn(&Case<'_>, &Sized) -> Result<(), Refusal>;

/// Asked in this order, before sizing.
pub const ENTRY_RULES: &[EntryRule] = &[
    account_open::gate,
    account_open::user,
    account_open::subscription,
    freshness::freshness,
    duplicate::duplicate,
    instrument::tradable,
    instrument::ticks,
    instrument::geometry_as_stated,
    market::fresh_mark,
    market::collar,
    market::geometry_at_market,
    timeframe::timeframe,
    counts::opposing_position,
    counts::open_positions,
    counts::throttle,
    counts::loss_streak,
    cap::cap,
];

/// Asked in this order, once the size is known.
pub const SIZE_RULES: &[SizeRule] =
    &[ceilings::order_quantity, ceilings::order_value, ceilings::exposure, ceilings::repeated_execution];

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// Why a signal was not acted on for a user.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Refusal {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $name,)+
        }

        impl Refusal {
            /// Every refusal, in the order in which the rules are asked.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name,)+];

            /// The code in tables and JSON.
            pub const fn code(self) -> &'static str {
                match self { $(Refusal::$name => $code,)+ }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Refusal::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

refusals! {
    /// An emergency stop is in force.
    TradingHalted = "trading_halted",
    /// Only orders that shrink a position are allowed.
    ReducingOnly = "reducing_only",
    /// Trading is disabled for the user.
    UserDisabled = "user_disabled",
    /// Handling this user's account failed repeatedly; it is set aside until a person has looked at it.
    Quarantined = "quarantined",
    /// The user does not follow the feed.
    FeedNotSubscribed = "feed_not_subscribed",
    /// The signal is older than `max_signal_age_seconds`.
    StaleSignal = "stale_signal",
    /// The time of the signal is more than `future_tolerance_seconds` ahead of our clock.
    FutureSignal = "future_signal",
    /// The same symbol, side and timeframe was accepted within the last `duplicate_window_minutes`.
    DuplicateSignal = "duplicate_signal",
    /// No such instrument is configured.
    UnknownInstrument = "unknown_instrument",
    /// Entries are disabled for the instrument.
    InstrumentDisabled = "instrument_disabled",
    /// The instrument is not quoted in the account's currency.
    CurrencyMismatch = "currency_mismatch",
    /// A price is not a whole number of ticks.
    TickSize = "tick_size",
    /// The prices are not in order: a buy needs stop < entry < target, a sell target < entry < stop.
    StopGeometry = "stop_geometry",
    /// The newest market price of the symbol is missing, older than `max_mark_age_seconds`, or ahead of our clock.
    StaleMarketData = "stale_market_data",
    /// The entry price is further from the market than `price_collar_percent`.
    PriceCollar = "price_collar",
    /// The day's trades on this timeframe are used up, or it may not be traded at all.
    TimeframeLimit = "timeframe_limit",
    /// The user holds or is opening the opposite side of the symbol.
    OpposingPosition = "opposing_position",
    /// The user already has `max_open_positions` positions open or being opened.
    OpenPositions = "open_positions",
    /// The user already had `max_orders_per_minute` entries within the last minute.
    Throttled = "throttled",
    /// The user is in a cool-down after `loss_streak` losing trades in a row.
    LossStreak = "loss_streak",
    /// The realised loss of the day has reached `max_daily_loss`.
    DayClosed = "day_closed",
    /// Realised loss, open risk and pending entries together leave nothing of `max_daily_loss`.
    DailyLossCap = "daily_loss_cap",
    /// Even one lot, the smallest size, would risk more than `max_risk_percent` of equity.
    RiskPerTrade = "risk_per_trade",
    /// What is left of the day would shrink the trade below a quarter of its intended risk.
    SizeBelowMinimum = "size_below_minimum",
    /// The order would have more units than `max_order_quantity`.
    MaxOrderQuantity = "max_order_quantity",
    /// The order would be worth more than `max_order_value`.
    MaxOrderValue = "max_order_value",
    /// All positions and working entries together would be worth more than `max_exposure`.
    MaxExposure = "max_exposure",
    /// The same symbol, side and quantity was accepted `max_repeated_executions` times within the last hour.
    RepeatedExecution = "repeated_execution",
    /// The ledger checks the limits again when it commits a decision, and it did not admit this one.
    LedgerVeto = "ledger_veto",
}
