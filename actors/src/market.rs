//! Marks, and the sorted index of what positions wait for.
//!
//! The board holds the newest believed mark of each symbol; a jump beyond the collar needs a second mark to be believed. The
//! index holds decision ids by price and time, sorted, so that a mark costs what it triggers and not what is armed. A hit
//! takes the whole watch out: it fires once, and the account that looks arms it again. This is shared state and not an
//! actor: marks come one at a time under one lock, and there is nothing here that could crash and forget.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use nexus_engine::ids::{DecisionId, Symbol, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::protection::{Condition, Watch};
use nexus_engine::units::{Percent, Price};
use parking_lot::Mutex;

use crate::ports::Quote;

/// Marks of a symbol that are kept for accounts that are still busy with an earlier one.
const MARKS_KEPT: usize = 256;

/// What a mark turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Newer than what was known, and believed.
    Believed,
    /// Not newer than what was known, from the future, or of no instrument.
    Ignored,
    /// Beyond the collar and not yet confirmed by a second one.
    Unconfirmed,
}

/// A position that must be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hit {
    pub(crate) user: UserId,
    pub(crate) decision: DecisionId,
    /// What it was waiting for; none for a time. A market that has turned back meanwhile does not undo it.
    pub(crate) mark: Option<Mark>,
}

/// The board and the index.
pub(crate) struct Market {
    collar: Percent,
    /// How far ahead of our clock a mark may be.
    tolerance: Duration,
    /// Held while one mark and everything that it hits is handed on, so that marks keep their order.
    pub(crate) turnstile: Mutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    symbols: HashMap<Symbol, Book>,
    times: BTreeSet<(Timestamp, DecisionId)>,
    armed: HashMap<DecisionId, Armed>,
}

struct Armed {
    user: UserId,
    watch: Watch,
}

/// One symbol: its newest marks, a jump not yet believed, and who waits for which price.
#[derive(Default)]
struct Book {
    /// Oldest first; the last one is the market.
    marks: VecDeque<Mark>,
    jump: Option<Mark>,
    bid_at_most: BTreeSet<(Price, DecisionId)>,
    bid_at_least: BTreeSet<(Price, DecisionId)>,
    ask_at_most: BTreeSet<(Price, DecisionId)>,
    ask_at_least: BTreeSet<(Price, DecisionId)>,
}

impl Market {
    /// An empty board for these symbols.
    pub(crate) fn new(symbols: impl Iterator<Item = Symbol>, collar: Percent, tolerance: Duration) -> Market {
        let symbols = symbols.map(|symbol| (symbol, Book::default())).collect();
        let inner = Inner { symbols, ..Inner::default() };
        Market { collar, tolerance, turnstile: Mutex::new(()), inner: Mutex::new(inner) }
    }

    /// The newest believed mark.
    pub(crate) fn mark(&self, symbol: &Symbol) -> Option<Mark> {
        self.inner.lock().symbols.get(symbol)?.mark().cloned()
    }

    /// What the board says of a symbol; none of one without an instrument.
    pub(crate) fn quote(&self, symbol: &Symbol) -> Option<Quote> {
        let inner = self.inner.lock();
        let book = inner.symbols.get(symbol)?;
        Some(Quote { symbol: symbol.clone(), mark: book.mark().cloned(), jump: book.jump.clone() })
    }

    /// Makes the board say what it said in an earlier run; triggers nothing.
    pub(crate) fn restore(&self, quote: Quote) {
        if let Some(book) = self.inner.lock().symbols.get_mut(&quote.symbol) {
            quote.mark.into_iter().for_each(|mark| book.put(mark));
            book.jump = quote.jump;
        }
    }

    /// Puts a mark of an earlier run on the board, unless a newer one is there; it triggers nothing.
    pub(crate) fn remember(&self, mark: Mark) {
        if let Some(book) = self.inner.lock().symbols.get_mut(&mark.symbol)
            && book.mark().is_none_or(|known| known.at < mark.at)
        {
            book.put(mark);
        }
    }

    /// Takes a mark. When it is believed it is on the board afterwards. One from the future is not: until its time has come
    /// every true one would look old beside it, and no stop would be hit. For the same reason one that is on the board and
    /// has come to lie in the future, because our clock was set back, does not stand in the way of what comes.
    pub(crate) fn see(&self, mark: &Mark, now: Timestamp) -> Seen {
        let horizon = now.after(self.tolerance);
        if mark.at > horizon {
            return Seen::Ignored;
        }
        match self.inner.lock().symbols.get_mut(&mark.symbol) {
            Some(book) => book.see(mark, self.collar, horizon),
            None => Seen::Ignored,
        }
    }

    /// Takes out whatever the newest mark of `symbol` has triggered, sorted by user.
    pub(crate) fn hits(&self, symbol: &Symbol) -> Vec<Hit> {
        let mut inner = self.inner.lock();
        let Some(book) = inner.symbols.get(symbol) else { return Vec::new() };
        let (decisions, mark) = (book.hits(), book.mark().cloned());
        inner.take(&decisions, mark.as_ref())
    }

    /// Takes out whatever the time `now` has triggered, sorted by user.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Hit> {
        let mut inner = self.inner.lock();
        let decisions = inner.times.iter().take_while(|(at, _)| *at <= now).map(|(_, decision)| *decision).collect();
        inner.take(&decisions, None)
    }

    /// Replaces what a decision waits for. `seen` is the time of the mark that the account has just looked at: what that
    /// mark fulfils has been looked at; what one since then fulfils is a hit at once, also when the market has turned back.
    /// Without `seen`, what the newest mark fulfils is.
    pub(crate) fn arm(&self, user: UserId, watch: Watch, seen: Option<Timestamp>) -> Option<Hit> {
        let mut inner = self.inner.lock();
        let decision = watch.decision;
        inner.disarm(decision);
        if watch.conditions.is_empty() {
            return None;
        }
        let fulfils = |mark: &&Mark| watch.conditions.iter().any(|condition| holds(condition, mark));
        let hit = inner.symbols.get(&watch.symbol).and_then(|book| book.since(seen).find(fulfils).cloned());
        if hit.is_some() {
            return Some(Hit { user, decision, mark: hit });
        }
        inner.arm(user, watch);
        None
    }

    /// How many decisions are waiting for something.
    pub(crate) fn armed(&self) -> usize {
        self.inner.lock().armed.len()
    }
}

fn holds(condition: &Condition, mark: &Mark) -> bool {
    match *condition {
        Condition::BidAtMost(price) => mark.bid <= price,
        Condition::BidAtLeast(price) => mark.bid >= price,
        Condition::AskAtMost(price) => mark.ask <= price,
        Condition::AskAtLeast(price) => mark.ask >= price,
        Condition::TimeAtLeast(_) => false,
    }
}

impl Inner {
    fn take(&mut self, decisions: &BTreeSet<DecisionId>, mark: Option<&Mark>) -> Vec<Hit> {
        let mut hits: Vec<_> = decisions
            .iter()
            .filter_map(|decision| {
                Some(Hit { user: self.disarm(*decision)?, decision: *decision, mark: mark.cloned() })
            })
            .collect();
        hits.sort_unstable_by_key(|hit| (hit.user, hit.decision));
        hits
    }

    fn arm(&mut self, user: UserId, watch: Watch) {
        let decision = watch.decision;
        for condition in &watch.conditions {
            self.entry(&watch.symbol, condition, |set, key| {
                set.insert((key, decision));
            });
            if let Condition::TimeAtLeast(at) = condition {
                self.times.insert((*at, decision));
            }
        }
        self.armed.insert(decision, Armed { user, watch });
    }

    fn disarm(&mut self, decision: DecisionId) -> Option<UserId> {
        let Armed { user, watch } = self.armed.remove(&decision)?;
        for condition in &watch.conditions {
            self.entry(&watch.symbol, condition, |set, key| {
                set.remove(&(key, decision));
            });
            if let Condition::TimeAtLeast(at) = condition {
                self.times.remove(&(*at, decision));
            }
        }
        Some(user)
    }

    /// Applies `change` to the sorted set in which a price condition of `symbol` lives.
    fn entry(
        &mut self,
        symbol: &Symbol,
        condition: &Condition,
        change: impl FnOnce(&mut BTreeSet<(Price, DecisionId)>, Price),
    ) {
        let Some(book) = self.symbols.get_mut(symbol) else { return };
        match *condition {
            Condition::BidAtMost(price) => change(&mut book.bid_at_most, price),
            Condition::BidAtLeast(price) => change(&mut book.bid_at_least, price),
            Condition::AskAtMost(price) => change(&mut book.ask_at_most, price),
            Condition::AskAtLeast(price) => change(&mut book.ask_at_least, price),
            Condition::TimeAtLeast(_) => {}
        }
    }
}

impl Book {
    fn mark(&self) -> Option<&Mark> {
        self.marks.back()
    }

    /// Puts a mark on the board. What claims to be later was taken while our clock was wrong, and goes.
    fn put(&mut self, mark: Mark) {
        while self.mark().is_some_and(|newest| newest.at >= mark.at) {
            self.marks.pop_back();
        }
        // Only after a clock was set back: what lies ahead of the newest mark would never be passed.
        while self.marks.back().is_some_and(|last| last.at >= mark.at) {
            self.marks.pop_back();
        }
        if self.marks.len() >= MARKS_KEPT {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    /// The marks after `seen`, oldest first; the newest one when nothing was seen.
    fn since(&self, seen: Option<Timestamp>) -> impl Iterator<Item = &Mark> {
        let from = match seen {
            Some(seen) => self.marks.partition_point(|mark| mark.at <= seen),
            None => self.marks.len().saturating_sub(1),
        };
        self.marks.range(from..)
    }

    fn see(&mut self, mark: &Mark, collar: Percent, horizon: Timestamp) -> Seen {
        let newest = self.jump.as_ref().or(self.mark());
        if newest.is_some_and(|newest| mark.at <= newest.at && newest.at <= horizon) {
            return Seen::Ignored;
        }
        let near = |other: &Mark| is_near(other.bid, mark.bid, collar) && is_near(other.ask, mark.ask, collar);
        let believed = self.mark().is_none_or(near) || self.jump.as_ref().is_some_and(near);
        if !believed {
            self.jump = Some(mark.clone());
            return Seen::Unconfirmed;
        }
        self.jump = None;
        self.put(mark.clone());
        Seen::Believed
    }

    fn hits(&self) -> BTreeSet<DecisionId> {
        let mut hits = BTreeSet::new();
        let Some(mark) = self.mark() else { return hits };
        let from = |set: &BTreeSet<(Price, DecisionId)>, price: Price, into: &mut BTreeSet<DecisionId>| {
            into.extend(set.iter().rev().take_while(|(at, _)| *at >= price).map(|(_, decision)| *decision));
        };
        let up_to = |set: &BTreeSet<(Price, DecisionId)>, price: Price, into: &mut BTreeSet<DecisionId>| {
            into.extend(set.iter().take_while(|(at, _)| *at <= price).map(|(_, decision)| *decision));
        };
        from(&self.bid_at_most, mark.bid, &mut hits);
        up_to(&self.bid_at_least, mark.bid, &mut hits);
        from(&self.ask_at_most, mark.ask, &mut hits);
        up_to(&self.ask_at_least, mark.ask, &mut hits);
        hits
    }
}

fn is_near(before: Price, now: Price, collar: Percent) -> bool {
    before.distance(now) <= before.percent_up(collar)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LATER: Timestamp = Timestamp::from_micros(1_000_000);
    const USER: UserId = UserId(Uuid::from_u128(1));

    fn symbol() -> Symbol {
        "EURUSD".parse().unwrap()
    }

    fn market() -> Market {
        Market::new([symbol()].into_iter(), Percent::whole(2), Duration::ZERO)
    }

    fn mark(at: i64, bid: i64, ask: i64) -> Mark {
        let (bid, ask) = (Price::whole(bid), Price::whole(ask));
        Mark { symbol: symbol(), bid, ask, at: Timestamp::from_micros(at) }
    }

    fn watch(n: u128, conditions: Vec<Condition>) -> Watch {
        Watch { decision: DecisionId(Uuid::from_u128(n)), symbol: symbol(), conditions }
    }

    #[test]
    fn each_condition_fires_from_its_level_on_and_once() {
        let table = [
            (Condition::BidAtMost(Price::whole(100)), [(101, 102, false), (100, 101, true), (99, 101, true)]),
            (Condition::BidAtLeast(Price::whole(100)), [(99, 101, false), (100, 101, true), (101, 102, true)]),
            (Condition::AskAtMost(Price::whole(100)), [(99, 101, false), (99, 100, true), (98, 99, true)]),
            (Condition::AskAtLeast(Price::whole(100)), [(98, 99, false), (99, 100, true), (100, 101, true)]),
        ];
        for (condition, marks) in table {
            for (bid, ask, fires) in marks {
                let market = market();
                assert_eq!(market.arm(USER, watch(1, vec![condition]), None), None);
                assert_eq!(market.see(&mark(1, bid, ask), LATER), Seen::Believed);
                let hits = market.hits(&symbol());
                assert_eq!(!hits.is_empty(), fires, "{condition:?} at {bid}/{ask}");
                assert!(market.hits(&symbol()).is_empty(), "{condition:?} fires once");
                assert_eq!(market.armed(), usize::from(!fires));
            }
        }
    }

    #[test]
    fn a_hit_takes_all_conditions_of_its_decision_and_a_new_watch_replaces_the_old() {
        let market = market();
        let both = vec![Condition::BidAtMost(Price::whole(90)), Condition::TimeAtLeast(Timestamp::from_micros(50))];
        market.arm(USER, watch(1, both), None);
        market.arm(USER, watch(2, vec![Condition::BidAtMost(Price::whole(90))]), None);
        market.arm(USER, watch(2, vec![Condition::BidAtMost(Price::whole(80))]), None);
        market.see(&mark(1, 90, 91), LATER);
        let hits = market.hits(&symbol());
        let mark = Some(mark(1, 90, 91));
        assert_eq!(hits, [Hit { user: USER, decision: DecisionId(Uuid::from_u128(1)), mark }]);
        assert!(market.due(Timestamp::from_micros(99)).is_empty());
        market.arm(USER, watch(2, Vec::new()), None);
        assert_eq!(market.armed(), 0);
    }

    #[test]
    fn what_holds_already_fires_unless_the_account_has_just_looked_at_it() {
        let market = market();
        market.see(&mark(5, 90, 91), LATER);
        let below = || watch(1, vec![Condition::BidAtMost(Price::whole(95))]);
        assert!(market.arm(USER, below(), None).is_some());
        assert!(market.arm(USER, below(), Some(Timestamp::from_micros(4))).is_some());
        assert!(market.arm(USER, below(), Some(Timestamp::from_micros(5))).is_none());
        market.see(&mark(6, 90, 91), LATER);
        assert_eq!(market.hits(&symbol()).len(), 1);
    }

    #[test]
    fn a_market_that_has_turned_back_since_the_last_look_is_a_hit_by_the_mark_that_fulfilled() {
        let market = market();
        for mark in [mark(1, 100, 101), mark(2, 99, 100), mark(3, 100, 101)] {
            market.see(&mark, LATER);
        }
        let below = || watch(1, vec![Condition::BidAtMost(Price::whole(99))]);
        let hit = market.arm(USER, below(), Some(Timestamp::from_micros(1))).expect("the second mark fulfils it");
        assert_eq!(hit.mark, Some(mark(2, 99, 100)));
        assert!(market.arm(USER, below(), Some(Timestamp::from_micros(2))).is_none());
        assert!(market.arm(USER, below(), None).is_none(), "of what was before it was armed only the newest counts");
    }

    #[test]
    fn marks_stay_in_order_when_the_clock_is_set_back() {
        let market = market();
        assert_eq!(market.see(&mark(500, 100, 101), LATER), Seen::Believed);
        let back = Timestamp::from_micros(100);
        for mark in [mark(10, 99, 100), mark(11, 100, 101)] {
            assert_eq!(market.see(&mark, back), Seen::Believed);
        }
        let below = watch(1, vec![Condition::BidAtMost(Price::whole(99))]);
        let hit = market.arm(USER, below, Some(Timestamp::from_micros(9))).expect("the first mark after it fulfils it");
        assert_eq!(hit.mark, Some(mark(10, 99, 100)));
    }

    #[test]
    fn of_the_marks_that_were_only_the_newest_are_kept() {
        let market = market();
        for at in 1..1_000 {
            market.see(&mark(at, 100, 101), LATER);
        }
        assert_eq!(market.inner.lock().symbols[&symbol()].marks.len(), MARKS_KEPT);
    }

    #[test]
    fn times_fire_when_they_come() {
        let market = market();
        market.arm(USER, watch(1, vec![Condition::TimeAtLeast(Timestamp::from_micros(10))]), None);
        assert!(market.due(Timestamp::from_micros(9)).is_empty());
        assert_eq!(market.due(Timestamp::from_micros(10)).len(), 1);
    }

    #[test]
    fn a_jump_needs_a_second_mark() {
        let market = market();
        let table = [
            (1, 100, Seen::Believed),
            (1, 100, Seen::Ignored),
            (2, 102, Seen::Believed),
            (3, 110, Seen::Unconfirmed),
            (3, 110, Seen::Ignored),
            (4, 102, Seen::Believed),
            (5, 110, Seen::Unconfirmed),
            (6, 111, Seen::Believed),
        ];
        for (at, bid, expected) in table {
            assert_eq!(market.see(&mark(at, bid, bid), LATER), expected, "{bid} at {at}");
        }
        assert_eq!(market.mark(&symbol()), Some(mark(6, 111, 111)));
        let future = market.see(&mark(8, 111, 111), Timestamp::from_micros(7));
        assert_eq!(future, Seen::Ignored);
        assert_eq!(market.see(&mark(7, 111, 111), Timestamp::from_micros(7)), Seen::Believed, "it has hidden nothing");
        let set_back = market.see(&mark(5, 111, 111), Timestamp::from_micros(5));
        assert_eq!(set_back, Seen::Believed, "the clock was set back");
        assert_eq!(market.see(&mark(5, 111, 111), Timestamp::from_micros(6)), Seen::Ignored, "it is not newer");
        let other = Mark { symbol: "NONE".parse().unwrap(), ..mark(1, 1, 1) };
        assert_eq!(market.see(&other, LATER), Seen::Ignored);
    }
}
