//! The account: one user's whole risk state, and its only mutator.
//!
//! `Account::step` takes one input at one time and returns what follows; nothing else changes an account. It is a
//! dispatcher: deciding lives in `decide`, reports in `reports`, moving stops in `protection`. A step without events has
//! changed nothing at all, so the ledger, which keeps only turns with events, always knows the whole state (promise P7).

use std::collections::{BTreeMap, VecDeque};

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::gate::Scope;
use crate::ids::{ClientOrderId, Day, DecisionId, Symbol, Timeframe, Timestamp, UserId};
use crate::instrument::Currency;
use crate::limits::Limits;
use crate::order::OrderRequest;
use crate::position::Lot;
use crate::protection::Watch;
use crate::signal::Side;
use crate::units::{Money, Quantity};

pub use crate::turn::{Acceptance, Context, Decision, Effect, Event, Fill, Input, RiskDelta, Turn, Verdict};

/// One user's whole risk state. A risk actor owns it; the ledger holds it after every turn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Whose.
    pub user: UserId,
    /// The currency of every amount in it.
    pub currency: Currency,
    /// Turns committed so far.
    pub version: u64,
    /// What every decision is held against.
    pub limits: Limits,
    /// Whether entries are allowed for this user.
    pub trading_enabled: bool,
    /// Whether the user's inputs failed so often that a person must look.
    pub quarantined: bool,
    /// What the account began with.
    pub starting_equity: Money,
    /// Net realised profit and loss of its whole life, fees included.
    pub net_realized: Money,
    /// The time of the newest turn; never runs backwards.
    pub now: Timestamp,
    /// The counters of the current day.
    pub today: Today,
    /// Risk that the ledger counts and that none of the lots explains: somebody else's entry. Held until a person clears it.
    pub unexplained_risk: Money,
    /// Positions and working entries by decision; ended ones stay for a while so that late reports find them.
    pub lots: BTreeMap<DecisionId, Lot>,
    /// Acceptances of the last hour (or duplicate window, when longer), oldest first.
    pub recent: VecDeque<Recent>,
    /// Losing trades in a row.
    pub losing_streak: u32,
    /// The end of the cool-down after a row of losing trades.
    pub cooling_until: Option<Timestamp>,
    /// What it was corrected by when it was loaded, until a turn tells of it. After every turn there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Box<LedgerRisk>>,
}

/// The counters of one UTC day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Today {
    /// Which day.
    pub day: Day,
    /// Net realised profit and loss, fees included. Profits offset losses.
    pub net: Money,
    /// Acceptances by timeframe.
    pub timeframes: BTreeMap<Timeframe, u32>,
}

/// An acceptance that later signals are compared with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recent {
    /// When it was accepted.
    pub at: Timestamp,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// From which bars.
    pub timeframe: Timeframe,
    /// How much.
    pub quantity: Quantity,
}

/// What the ledger counts for a user, beside the snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerRisk {
    /// Net realised profit and loss of the account's whole life.
    pub realized: Money,
    /// Risk of open positions.
    pub open: Money,
    /// Risk of accepted entries not yet filled.
    pub reserved: Money,
    /// The counters of the account's current day (`Account::today.day`), when the ledger has a row for it.
    pub today: Option<Today>,
}

/// What start-up has to do for an account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Orders that the venue must be asked about by id: entries and exits that have not ended, and for every open position
    /// the next exit (it may have left before its turn was committed). Each with the request to send when the venue proves
    /// that it does not have it, if it is still wanted.
    pub ask: Vec<Ask>,
    /// What to watch, after the answers.
    pub watch: Vec<Watch>,
    /// Cancels that had been asked for and may not have left, after the answers.
    pub cancel: Vec<Effect>,
}

/// An order to be asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Which.
    pub order: ClientOrderId,
    /// Of what.
    pub symbol: Symbol,
    /// Where.
    pub venue: CompactString,
    /// What to send when the venue does not have it.
    pub resend: Option<OrderRequest>,
}

impl Account {
    /// A new account that has traded nothing.
    pub fn open(user: UserId, currency: Currency, equity: Money, limits: Limits) -> Account {
        Account {
            user,
            currency,
            version: 0,
            limits,
            trading_enabled: true,
            quarantined: false,
            starting_equity: equity,
            net_realized: Money::ZERO,
            now: Timestamp::ZERO,
            today: Today::default(),
            unexplained_risk: Money::ZERO,
            lots: BTreeMap::new(),
            recent: VecDeque::new(),
            losing_streak: 0,
            cooling_until: None,
            correction: None,
        }
    }

    /// Takes one input at `now` (or at the time of the newest turn, when that is later) and returns what follows from it.
    /// The version rises by one when there are events; without any, nothing has changed.
    pub fn step(&mut self, now: Timestamp, input: &Input, context: &Context) -> Turn {
        let (now_before, today_before) = (self.now, self.today.clone());
        let (open_before, reserved_before) = (self.open_risk(), self.reserved_risk());
        self.advance_to(now);
        let net_before = self.today.net;

        let mut turn = Turn::default();
        match input {
            Input::Signal(signal) => self.decide(signal, context, &mut turn),
            Input::Vetoed(signal) => self.decide_vetoed(signal, &mut turn),
            Input::Report(report) => self.take_report(report, &mut turn),
            Input::Look(decision) => self.look(*decision, context, &mut turn),
            Input::CancelEntries => self.cancel_entries(&Scope::Everything, &mut turn),
            Input::CancelEntriesOf(scope) => self.cancel_entries(scope, &mut turn),
            Input::Flatten(scope) => self.flatten(scope, &mut turn),
            Input::SetLimits(limits) => self.set_limits(limits, &mut turn),
            Input::SetTrading(enabled) => self.set_trading(*enabled, &mut turn),
            Input::SetQuarantine(quarantined) => self.set_quarantine(*quarantined, &mut turn),
        }
        if turn.events.is_empty() {
            (self.now, self.today) = (now_before, today_before);
            return turn;
        }
        if let Some(correction) = self.correction.take() {
            turn.events.insert(0, Event::Corrected(correction));
        }
        self.version += 1;
        turn.delta.day = self.today.day;
        turn.delta.realized = self.today.net.minus(net_before);
        turn.delta.open = self.open_risk().minus(open_before);
        turn.delta.reserved = self.reserved_risk().minus(reserved_before);
        turn
    }

    /// Moves the account's time, never backwards, and begins a new day when one has begun. Open and reserved risk carry.
    pub(crate) fn advance_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        if self.now.day() > self.today.day {
            self.today = Today { day: self.now.day(), ..Today::default() };
        }
    }

    fn set_limits(&mut self, limits: &Limits, turn: &mut Turn) {
        let next = Limits { version: self.limits.version + 1, ..limits.clone() };
        self.limits = next.clone();
        turn.events.push(Event::LimitsSet(next));
    }

    fn set_trading(&mut self, enabled: bool, turn: &mut Turn) {
        if self.trading_enabled != enabled {
            self.trading_enabled = enabled;
            turn.events.push(Event::TradingSet(enabled));
        }
    }

    fn set_quarantine(&mut self, quarantined: bool, turn: &mut Turn) {
        if self.quarantined != quarantined {
            self.quarantined = quarantined;
            turn.events.push(Event::QuarantineSet(quarantined));
        }
    }

    /// The snapshot, corrected by what the ledger counts: the day's realised loss and counts are taken from it, and risk
    /// that no lot explains is held until a person clears it. The next turn tells of it: what is decided under a correction
    /// can only be decided again under the same one.
    #[must_use]
    pub fn corrected(mut self, ledger: LedgerRisk) -> Account {
        let mut differs = self.correction.is_some();
        if let Some(today) = ledger.today.as_ref().filter(|today| today.day == self.today.day && **today != self.today)
        {
            self.net_realized = self.net_realized.plus(today.net.minus(self.today.net));
            self.today = today.clone();
            differs = true;
        }
        let explained = self.open_risk().plus(self.reserved_risk()).minus(self.unexplained_risk);
        let unexplained = ledger.open.plus(ledger.reserved).minus(explained).or_zero();
        differs |= unexplained != self.unexplained_risk;
        self.unexplained_risk = unexplained;
        self.correction = differs.then(|| Box::new(ledger));
        self
    }

    /// How many positions in `scope` are open.
    pub fn open_positions_in(&self, scope: &Scope) -> usize {
        self.lots.values().filter(|lot| !lot.open.is_zero() && scope.covers(&lot.reach(self.user))).count()
    }

    /// Starting equity and net realised profit and loss.
    pub fn equity(&self) -> Money {
        self.starting_equity.plus(self.net_realized)
    }

    /// The net realised loss of the current day; zero when it is a profit.
    pub fn realized_loss(&self) -> Money {
        self.today.net.negated().or_zero()
    }

    /// What of the day's cap is used: realised, open and reserved.
    pub fn used(&self) -> Money {
        self.realized_loss().plus(self.open_risk()).plus(self.reserved_risk())
    }

    /// What is left of the day's cap; zero at least.
    pub fn remaining(&self) -> Money {
        self.limits.max_daily_loss.minus(self.used()).or_zero()
    }

    /// Whether a position is open or an order has not ended.
    pub fn has_open_business(&self) -> bool {
        self.lots.values().any(|lot| !lot.is_done())
    }

    /// What start-up has to do: whom to ask about what, what to watch and what to cancel afterwards.
    pub fn recovery(&self) -> Recovery {
        let mut recovery = Recovery::default();
        for lot in self.lots.values().filter(|lot| !lot.is_done()) {
            recovery.ask.extend(lot.questions(&self.limits));
            recovery.watch.push(lot.watch());
            if lot.entry.cancel_requested && !lot.entry.status.is_terminal() {
                recovery.cancel.push(lot.cancel_entry());
            }
        }
        recovery
    }
}
