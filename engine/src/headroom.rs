//! What each limit has left.
//!
//! The rules ask the functions of this file, and so does whoever shows a person how much room there is: a limit is named as
//! used up exactly when its rule would refuse. A new day has used nothing, also before the account's first turn in it.

use std::borrow::Cow;
use std::time::Duration;

use crate::account::{Account, Recent};
use crate::ids::{Day, Timeframe, Timestamp};
use crate::signal::Signal;
use crate::sizing::intended_risk;
use crate::units::Money;

/// The span of `max_orders_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);

/// What the limits of one account leave for a signal at one time. Amounts are in the account's currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Headroom {
    /// The UTC day that the figures belong to.
    pub day: Day,
    /// What may still be lost, at risk or in flight on this day.
    pub daily_loss: Money,
    /// What one trade may risk; not used up by trades.
    pub trade_risk: Money,
    /// Acceptances left on this day for the signal's timeframe.
    pub timeframe_trades: u32,
    /// Positions that may still be opened.
    pub open_positions: u32,
    /// Entries that may still be accepted within this minute.
    pub orders_this_minute: u32,
    /// What further positions may be worth together.
    pub exposure: Money,
    /// The end of the window in which the signal's symbol, side and timeframe are refused; none when it is not open.
    pub duplicate_until: Option<Timestamp>,
    /// Losing trades in a row that start a cool-down.
    pub losing_trades: u32,
    /// The end of the cool-down; none when there is none.
    pub cooling_until: Option<Timestamp>,
}

impl Headroom {
    /// What `account` has left for `signal` at `now`, or at the time of its newest turn, when that is later.
    pub fn of(account: &Account, now: Timestamp, signal: &Signal) -> Headroom {
        let account = account.seen_at(now);
        Headroom {
            day: account.today.day,
            daily_loss: account.remaining(),
            trade_risk: intended_risk(account.equity(), &account.limits),
            timeframe_trades: account.trades_left(signal.timeframe),
            open_positions: account.positions_left(),
            orders_this_minute: account.orders_left(),
            exposure: account.exposure_left(),
            duplicate_until: account.duplicate_until(signal),
            losing_trades: account.limits.loss_streak.saturating_sub(account.losing_streak),
            cooling_until: account.cooling(),
        }
    }
}

/// As of `Account::now`.
impl Account {
    /// The account as the rules would find it at `now`.
    fn seen_at(&self, now: Timestamp) -> Cow<'_, Account> {
        if now <= self.now && self.now.day() <= self.today.day {
            return Cow::Borrowed(self);
        }
        let mut later = self.clone();
        later.advance_to(now);
        Cow::Owned(later)
    }

    /// Acceptances left of the day's for a timeframe. One without a limit is not traded.
    pub(crate) fn trades_left(&self, timeframe: Timeframe) -> u32 {
        let used = self.today.timeframes.get(&timeframe).copied().unwrap_or(0);
        let limit = self.limits.timeframes.get(&timeframe).copied().unwrap_or(0);
        limit.saturating_sub(used)
    }

    /// Positions that may still be open or being opened beside those that are.
    pub(crate) fn positions_left(&self) -> u32 {
        left(self.limits.max_open_positions, self.lots.values().filter(|lot| !lot.is_done()).count())
    }

    /// Entries that may still be accepted, given those of the last minute.
    pub(crate) fn orders_left(&self) -> u32 {
        let of_last_minute = |recent: &&Recent| self.now.since(recent.at) < MINUTE;
        left(self.limits.max_orders_per_minute, self.recent.iter().rev().take_while(of_last_minute).count())
    }

    /// What an order may be worth beside all positions and working entries.
    pub(crate) fn exposure_left(&self) -> Money {
        self.limits.max_exposure.minus(self.exposure()).or_zero()
    }

    /// The end of the duplicate window that refuses a signal.
    pub(crate) fn duplicate_until(&self, signal: &Signal) -> Option<Timestamp> {
        let window = self.limits.duplicate_window;
        let newest = self.recent.iter().rev().find(|recent| {
            self.now.since(recent.at) < window
                && recent.symbol == signal.symbol
                && recent.side == signal.side
                && recent.timeframe == signal.timeframe
        });
        newest.map(|recent| recent.at.after(window))
    }

    /// The end of the cool-down that is running.
    pub(crate) fn cooling(&self) -> Option<Timestamp> {
        self.cooling_until.filter(|until| self.now < *until)
    }
}

fn left(limit: u32, used: usize) -> u32 {
    limit.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
}
