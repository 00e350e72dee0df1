//! The gate: whether new exposure may be taken at all, and where.
//!
//! A stop covers everything, or one feed, symbol, venue or user; for an order the tightest state of those that cover it is in
//! force. [`Gates`] is that rule as data. What is in force lives outside of the engine, because a stop must not queue behind
//! anything; the engine is told what the gates said of a signal when its turn began, and the router asks them again right
//! before it writes to a venue. What is not known of an order is taken to be covered.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::ids::{FeedId, NameError, Symbol, UserId};
use crate::rules::Refusal;

/// What trading is allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TradingState {
    /// Everything within the limits.
    Active,
    /// Only orders that shrink a position.
    Reducing,
    /// No new order but protective exits.
    Halted,
}

impl TradingState {
    /// The name used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Reducing => "reducing",
            Self::Halted => "halted",
        }
    }

    /// Refuses an entry that this state does not allow.
    pub const fn admit_entry(self) -> Result<(), Refusal> {
        match self {
            Self::Active => Ok(()),
            Self::Reducing => Err(Refusal::ReducingOnly),
            Self::Halted => Err(Refusal::TradingHalted),
        }
    }
}

/// What the gate said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// The trading state.
    pub state: TradingState,
    /// Rises with every change of any state.
    pub epoch: u64,
}

/// What a stop covers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of it.
    Everything,
    /// Whatever trades at one venue.
    Venue(CompactString),
    /// Whatever trades one symbol.
    Symbol(Symbol),
    /// Whatever one feed signals.
    Feed(FeedId),
    /// Whatever one user trades.
    User(UserId),
}

impl Scope {
    /// The kind of it, as tables, files and JSON spell it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Venue(_) => "venue",
            Self::Symbol(_) => "symbol",
            Self::Feed(_) => "feed",
            Self::User(_) => "user",
        }
    }

    /// Which of its kind; empty for everything.
    pub fn name(&self) -> String {
        match self {
            Self::Everything => String::new(),
            Self::Venue(venue) => venue.to_string(),
            Self::Symbol(symbol) => symbol.to_string(),
            Self::Feed(feed) => feed.to_string(),
            Self::User(user) => user.to_string(),
        }
    }

    /// The scope of this kind and name.
    pub fn parse(kind: &str, name: &str) -> Result<Scope, NameError> {
        let error = || NameError("a scope (everything, or a venue, symbol, feed or user and its name)");
        Ok(match (kind, name) {
            ("everything", "") => Self::Everything,
            ("venue", name) if is_venue(name) => Self::Venue(name.into()),
            ("symbol", name) => Self::Symbol(name.parse()?),
            ("feed", name) => Self::Feed(name.parse().map_err(|_| error())?),
            ("user", name) => Self::User(name.parse().map_err(|_| error())?),
            _ => return Err(error()),
        })
    }

    /// Whether an order of this reach is covered.
    pub fn covers(&self, reach: &Reach) -> bool {
        match self {
            Self::Everything => true,
            Self::Venue(venue) => reach.venue.as_ref().is_none_or(|known| known == venue),
            Self::Symbol(symbol) => reach.symbol == *symbol,
            Self::Feed(feed) => reach.feed.is_none_or(|known| known == *feed),
            Self::User(user) => reach.user == *user,
        }
    }
}

/// One word, so that it can be told apart in a line of text.
fn is_venue(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str(self.kind()),
            Self::Venue(_) | Self::Symbol(_) | Self::Feed(_) | Self::User(_) => {
                write!(f, "{} {}", self.kind(), self.name())
            }
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
        Self::parse(kind, name.trim())
    }
}

/// Whose an order is, what it trades and where: all that a stop can be about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Whose.
    pub user: UserId,
    /// By which feed's signal, where that is known.
    pub feed: Option<FeedId>,
    /// What.
    pub symbol: Symbol,
    /// Where, when it trades anywhere.
    pub venue: Option<CompactString>,
}

/// The state of every scope that was ever set, each with the epoch of its last change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gates {
    epoch: u64,
    states: BTreeMap<Scope, Gate>,
}

impl Gates {
    /// Everything in one state.
    pub fn new(everything: Gate) -> Gates {
        Gates { epoch: everything.epoch, states: BTreeMap::from([(Scope::Everything, everything)]) }
    }

    /// Puts a scope into a state. One that is active again is kept: what was decided before it was stopped must not leave.
    pub fn set(&mut self, scope: Scope, gate: Gate) {
        self.epoch = self.epoch.max(gate.epoch);
        self.states.insert(scope, gate);
    }

    /// What is said of everything.
    pub fn everything(&self) -> Gate {
        let state = self.states.get(&Scope::Everything).map_or(TradingState::Halted, |gate| gate.state);
        Gate { state, epoch: self.epoch }
    }

    /// What is said of an order: the tightest of all that cover it.
    pub fn of(&self, reach: &Reach) -> Gate {
        let state = self.covering(reach).map(|gate| gate.state).max();
        Gate { state: state.unwrap_or(TradingState::Halted), epoch: self.epoch }
    }

    /// Whether an entry that was decided in `epoch` may leave: nothing that covers it is stopped, or has been since.
    pub fn admit(&self, reach: &Reach, epoch: u64) -> bool {
        self.covering(reach).all(|gate| gate.state == TradingState::Active && gate.epoch <= epoch)
    }

    fn covering(&self, reach: &Reach) -> impl Iterator<Item = Gate> {
        let is_one = self.states.len() == 1;
        let known = [
            Some(Scope::Everything),
            reach.venue.clone().filter(|_| !is_one).map(Scope::Venue),
            (!is_one).then(|| Scope::Symbol(reach.symbol.clone())),
            reach.feed.filter(|_| !is_one).map(Scope::Feed),
            (!is_one).then_some(Scope::User(reach.user)),
        ];
        let of_unknown = self.states.iter().filter(|(scope, _)| match scope {
            Scope::Venue(_) => reach.venue.is_none(),
            Scope::Feed(_) => reach.feed.is_none(),
            Scope::Everything | Scope::Symbol(_) | Scope::User(_) => false,
        });
        let of_unknown = of_unknown.take(if reach.venue.is_none() || reach.feed.is_none() { usize::MAX } else { 0 });
        known
            .into_iter()
            .flatten()
            .filter_map(|scope| self.states.get(&scope).copied())
            .chain(of_unknown.map(|(_, gate)| *gate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn reach() -> Reach {
        Reach {
            user: UserId(Uuid::from_u128(1)),
            feed: Some(FeedId(Uuid::from_u128(2))),
            symbol: "EURUSD".parse().unwrap(),
            venue: Some("paper".into()),
        }
    }

    fn scopes() -> [Scope; 5] {
        let Reach { user, feed, symbol, venue } = reach();
        let (feed, venue) = (feed.unwrap(), venue.unwrap());
        [Scope::Everything, Scope::Venue(venue), Scope::Symbol(symbol), Scope::Feed(feed), Scope::User(user)]
    }

    fn others() -> [Scope; 4] {
        [
            Scope::Venue("other".into()),
            Scope::Symbol("GBPUSD".parse().unwrap()),
            Scope::Feed(FeedId(Uuid::from_u128(9))),
            Scope::User(UserId(Uuid::from_u128(9))),
        ]
    }

    fn active() -> Gates {
        Gates::new(Gate { state: TradingState::Active, epoch: 1 })
    }

    #[test]
    fn the_tightest_of_all_that_cover_an_order_is_in_force() {
        for scope in scopes() {
            for state in [TradingState::Reducing, TradingState::Halted] {
                let mut gates = active();
                gates.set(scope.clone(), Gate { state, epoch: 2 });
                assert_eq!(gates.of(&reach()), Gate { state, epoch: 2 }, "{scope}");
                assert!(!gates.admit(&reach(), 2), "{scope}");
            }
        }
        for scope in others() {
            let mut gates = active();
            gates.set(scope.clone(), Gate { state: TradingState::Halted, epoch: 2 });
            assert_eq!(gates.of(&reach()), Gate { state: TradingState::Active, epoch: 2 }, "{scope}");
            assert!(gates.admit(&reach(), 1), "{scope}: somebody else's stop holds nothing up");
        }
        let mut gates = active();
        let [_, venue, symbol, _, user] = scopes();
        for (scope, state) in
            [(venue, TradingState::Reducing), (symbol, TradingState::Active), (user, TradingState::Halted)]
        {
            gates.set(scope, Gate { state, epoch: 3 });
        }
        assert_eq!(gates.of(&reach()).state, TradingState::Halted);
        assert_eq!(gates.everything().state, TradingState::Active);
    }

    #[test]
    fn what_was_decided_before_a_scope_was_stopped_does_not_leave_after_it_was_resumed() {
        for scope in scopes() {
            let mut gates = active();
            gates.set(scope.clone(), Gate { state: TradingState::Halted, epoch: 2 });
            gates.set(scope.clone(), Gate { state: TradingState::Active, epoch: 3 });
            assert!(!gates.admit(&reach(), 1), "{scope}");
            assert!(gates.admit(&reach(), 3), "{scope}");
        }
    }

    #[test]
    fn what_is_not_known_of_an_order_is_taken_to_be_covered() {
        let [venue, _, feed, _] = others();
        for (scope, reach) in [(venue, Reach { venue: None, ..reach() }), (feed, Reach { feed: None, ..reach() })] {
            let mut gates = active();
            gates.set(scope.clone(), Gate { state: TradingState::Halted, epoch: 2 });
            assert!(scope.covers(&reach) && !gates.admit(&reach, 2), "{scope}");
            assert_eq!(gates.of(&reach).state, TradingState::Halted, "{scope}");
        }
    }

    #[test]
    fn a_scope_is_read_as_it_is_written_and_nothing_else_is_one() {
        for scope in scopes().into_iter().chain(others()) {
            assert_eq!(scope.to_string().parse(), Ok(scope.clone()));
            assert_eq!(Scope::parse(scope.kind(), &scope.name()), Ok(scope.clone()));
            assert_eq!(scope.covers(&reach()), scopes().contains(&scope), "{scope}");
        }
        for text in
            ["", "everything else", "symbol", "symbol eurusd", "feed x", "user", "venue", "venue a b", "planet x"]
        {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }
}
