//! A history on its way once more: what follows from an account as it was opened and from the inputs that it was given.
//!
//! A ledger keeps of every turn its time, its input and its context. The same ones give the same events and the same account
//! again, bit for bit (promise P7). [`Replay`] steps through them and keeps, beside the account, what a ledger counts beside
//! it. Who holds both against what a ledger has written is outside: nothing here knows rows. A correction is part of the
//! history, a fact of the world like a mark: the account is corrected where it was, by what the ledger counted then.

use std::collections::BTreeMap;

use crate::account::{Account, Context, Input, LedgerRisk, Today, Turn};
use crate::ids::{Day, Timeframe, Timestamp};
use crate::units::Money;

/// What a ledger counts beside the account: the sums of all deltas, and what others have written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Net realised profit and loss of the account's whole life.
    pub realized: Money,
    /// Risk of open positions.
    pub open: Money,
    /// Risk of accepted entries not yet filled.
    pub reserved: Money,
    /// Net realised profit and loss of each day on which there was some.
    pub days: BTreeMap<Day, Money>,
    /// Acceptances of each day and timeframe.
    pub counts: BTreeMap<(Day, Timeframe), i64>,
}

/// An account on its way through its history once more.
#[derive(Clone, Debug)]
pub struct Replay {
    account: Account,
    counters: Counters,
}

impl Replay {
    /// Begins with the account as it was opened.
    pub fn begin(opened: Account) -> Replay {
        Replay { account: opened, counters: Counters::default() }
    }

    /// Corrects the account as it was corrected before its next turn. A correction that corrects nothing is not told of by
    /// that turn, so one that was made up shows.
    pub fn correct(&mut self, ledger: &LedgerRisk) {
        self.account = self.account.clone().corrected(ledger.clone());
        self.counters.correct(ledger, self.account.today.day);
    }

    /// Takes the next turn.
    pub fn take(&mut self, now: Timestamp, input: &Input, context: &Context) -> Turn {
        let turn = self.account.step(now, input, context);
        self.counters.add(&turn);
        turn
    }

    /// The account after the turns so far.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What the ledger must count after the turns so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Counters {
    /// Realised loss of a day, open and reserved risk.
    pub fn used(&self, day: Day) -> Money {
        let loss = self.days.get(&day).copied().unwrap_or_default().negated().or_zero();
        loss.plus(self.open).plus(self.reserved)
    }

    /// Acceptances of a day and timeframe.
    pub fn count(&self, day: Day, timeframe: Timeframe) -> i64 {
        self.counts.get(&(day, timeframe)).copied().unwrap_or_default()
    }

    /// Takes over what the ledger counted when the account was loaded.
    fn correct(&mut self, ledger: &LedgerRisk, day: Day) {
        (self.realized, self.open, self.reserved) = (ledger.realized, ledger.open, ledger.reserved);
        let Some(Today { net, timeframes, .. }) = ledger.today.as_ref().filter(|today| today.day == day) else {
            return;
        };
        // Nothing realised may be a row of zero or no row: the counters of a turn alone make none.
        if !net.is_zero() || self.days.contains_key(&day) {
            self.days.insert(day, *net);
        }
        self.counts.retain(|(counted, _), _| *counted != day);
        self.counts.extend(timeframes.iter().map(|(timeframe, used)| ((day, *timeframe), i64::from(*used))));
    }

    fn add(&mut self, turn: &Turn) {
        let delta = &turn.delta;
        self.realized = self.realized.plus(delta.realized);
        self.open = self.open.plus(delta.open);
        self.reserved = self.reserved.plus(delta.reserved);
        if !delta.realized.is_zero() {
            let day = self.days.entry(delta.day).or_default();
            *day = day.plus(delta.realized);
        }
        for (timeframe, change) in &delta.counts {
            *self.counts.entry((delta.day, *timeframe)).or_default() += i64::from(*change);
        }
    }
}
