//! The closed list of reasons for which a signal is refused to a user.

use serde::{Deserialize, Serialize};

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// Why a signal was not acted on for a user. One reason a rule; the first rule that refuses speaks.
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
    /// The user's inputs failed repeatedly; a person must look.
    Quarantined = "quarantined",
    /// The user does not follow the feed.
    FeedNotSubscribed = "feed_not_subscribed",
    /// The signal is older than `max_signal_age_seconds`.
    StaleSignal = "stale_signal",
    /// The signal claims to be made more than `future_tolerance_seconds` ahead of our clock.
    FutureSignal = "future_signal",
    /// The same symbol, side and timeframe was accepted within the duplicate window.
    DuplicateSignal = "duplicate_signal",
    /// No such instrument is configured.
    UnknownInstrument = "unknown_instrument",
    /// Entries are disabled for the instrument.
    InstrumentDisabled = "instrument_disabled",
    /// The instrument is not quoted in the account's currency.
    CurrencyMismatch = "currency_mismatch",
    /// A price is not a whole number of ticks.
    TickSize = "tick_size",
    /// Stop, entry and target are not in order for the side.
    StopGeometry = "stop_geometry",
    /// There is no mark of the symbol, or it is older than `max_mark_age_seconds`.
    StaleMarketData = "stale_market_data",
    /// The entry price is further from the market than `price_collar_percent`.
    PriceCollar = "price_collar",
    /// The day's trades of this timeframe are used up.
    TimeframeLimit = "timeframe_limit",
    /// The user holds or is opening the opposite side of the symbol.
    OpposingPosition = "opposing_position",
    /// As many positions are open as the user may have.
    OpenPositions = "open_positions",
    /// More entries within a minute than `max_orders_per_minute`.
    Throttled = "throttled",
    /// A cool-down after a row of losing trades.
    LossStreak = "loss_streak",
    /// The realised loss of the day has reached the cap.
    DayClosed = "day_closed",
    /// Nothing is left under the daily loss cap.
    DailyLossCap = "daily_loss_cap",
    /// Even one lot would risk more than a trade may.
    RiskPerTrade = "risk_per_trade",
    /// What is left would shrink the trade below a quarter of its intended risk.
    SizeBelowMinimum = "size_below_minimum",
    /// The order would have more units than `max_order_quantity`.
    MaxOrderQuantity = "max_order_quantity",
    /// The order would be worth more than `max_order_value`.
    MaxOrderValue = "max_order_value",
    /// All positions together would be worth more than `max_exposure`.
    MaxExposure = "max_exposure",
    /// The same symbol, side and quantity was traded too often within an hour.
    RepeatedExecution = "repeated_execution",
    /// The ledger did not admit the reservation.
    LedgerVeto = "ledger_veto",
}
