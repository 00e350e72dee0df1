//! What an account should be, worked out a second time and another way.
//!
//! The model keeps nothing but a list of what happened. Every figure (loss, risk, counts, streaks, open quantities) is
//! worked out from the whole list each time it is asked for, in plain 128-bit integers of 1e-8. That is slow, and easy
//! to believe. It uses no function of the engine, so a mistake would have to be made twice to stay hidden. The rules
//! that decide on a signal are in `verdict.rs`, those that move stops and close positions in `watching.rs`.

use std::collections::{BTreeMap, BTreeSet};

/// A number in steps of 1e-8.
pub type Steps = i128;
/// Microseconds.
pub type Micros = i64;

/// Steps in one.
pub const ONE: Steps = 100_000_000;
/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;
/// Microseconds in an hour.
pub const HOUR: Micros = 3_600 * SECOND;
/// Microseconds in a day.
pub const DAY: Micros = 24 * HOUR;

/// `a / b` towards less.
pub fn floor(a: Steps, b: Steps) -> Steps {
    let quotient = a / b;
    if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }
}

/// `a / b` towards more.
pub fn ceil(a: Steps, b: Steps) -> Steps {
    -floor(-a, b)
}

/// What a quantity is worth at a price: a cost, so rounded up.
pub fn cost(quantity: Steps, price: Steps) -> Steps {
    ceil(quantity * price, ONE)
}

/// What a quantity is worth at a price: an income, so rounded down.
pub fn income(quantity: Steps, price: Steps) -> Steps {
    floor(quantity * price, ONE)
}

/// A percentage of an amount, rounded up.
pub fn percent_up(amount: Steps, percent: Steps) -> Steps {
    ceil(amount * percent, ONE * 100)
}

/// The limits of a user, as plain numbers.
#[derive(Clone, Debug)]
pub struct Limits {
    pub cap: Steps,
    pub risk_percent: Steps,
    /// Minutes of the timeframe, and trades a day.
    pub timeframes: BTreeMap<i64, u32>,
    pub duplicate_window: Micros,
    pub signal_age: Micros,
    pub future_tolerance: Micros,
    pub mark_age: Micros,
    pub collar_percent: Steps,
    pub open_positions: u32,
    pub orders_per_minute: u32,
    pub order_value: Steps,
    pub order_quantity: Steps,
    pub exposure: Steps,
    pub loss_streak: u32,
    pub cooldown: Micros,
    pub repeated_executions: u32,
    pub slippage_percent: Steps,
}

/// How a stop moves.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub breakeven_at: Option<Steps>,
    pub trail_distance: Option<Steps>,
    pub trail_after: Option<Steps>,
    pub max_hold: Option<Micros>,
}

/// What was agreed when a signal was accepted.
#[derive(Clone, Debug)]
pub struct Terms {
    pub symbol: String,
    pub long: bool,
    pub minutes: i64,
    pub quantity: Steps,
    pub sized_at: Steps,
    pub stop: Steps,
    pub target: Steps,
    pub risk: Steps,
    /// The worst loss of one unit.
    pub unit: Steps,
    pub fee_percent: Steps,
    pub tick: Steps,
    pub expires_at: Micros,
    pub plan: Plan,
}

/// One trade.
#[derive(Clone, Debug)]
pub struct Trade {
    /// 0 is the entry, n the n-th exit.
    pub leg: usize,
    pub execution: String,
    pub quantity: Steps,
    pub price: Steps,
    pub fee: Steps,
}

/// Something that happened. Lots go by the number of their decision.
#[derive(Clone, Debug)]
pub enum What {
    /// Something was recorded that changes nothing but the time.
    Noticed,
    Limits(Limits),
    Trading(bool),
    Quarantine(bool),
    Accepted(u128, Terms),
    Traded(u128, Trade),
    /// The venue has an order.
    Known(u128, usize),
    /// An order ended.
    Ended(u128, usize),
    /// An exit was sent for this quantity.
    Exit(u128, Steps),
    /// The stop went here, for this reason.
    Stop(u128, Steps, &'static str),
    /// The entry is to be cancelled.
    CancelAsked(u128),
    /// Somebody else wrote into the counters: risk, profit or loss, an acceptance of bars of so many minutes.
    Others {
        reserved: Steps,
        net: Steps,
        minutes: Option<i64>,
    },
}

/// An order, as the list tells it.
#[derive(Clone, Debug, Default)]
pub struct Leg {
    pub asked: Steps,
    pub traded: Steps,
    /// The venue has spoken of it as its own, so nobody can prove any more that it was never sent.
    pub known: bool,
    pub ended: bool,
}

impl Leg {
    /// What can still trade.
    pub fn working(&self) -> Steps {
        if self.ended { 0 } else { (self.asked - self.traded).max(0) }
    }
}

/// A lot, as the list tells it.
#[derive(Clone, Debug)]
pub struct Lot {
    pub terms: Terms,
    pub accepted_at: Micros,
    pub entry: Leg,
    pub exits: Vec<Leg>,
    pub open: Steps,
    pub cost: Steps,
    pub realized: Steps,
    /// What the entry's trades were worth.
    pub entered: Steps,
    pub opened_at: Option<Micros>,
    pub stop: Steps,
    pub stop_kind: &'static str,
    pub closed: bool,
    pub cancel_asked: bool,
    pub executions: BTreeSet<String>,
    /// What exits closed before we heard that it was open, or what a venue closed against its word; and its worth.
    pub owed: (Steps, Steps),
}

/// All that follows from the list.
#[derive(Clone, Debug)]
pub struct Picture {
    pub limits: Limits,
    pub trading: bool,
    pub quarantined: bool,
    pub lots: BTreeMap<u128, Lot>,
    /// Net profit and loss by day.
    pub net: BTreeMap<i64, Steps>,
    pub streak: u32,
    pub cooling_until: Option<Micros>,
    /// Risk that others have reserved.
    pub others_reserved: Steps,
    /// Acceptances of others by day and minutes of the timeframe.
    pub others_counts: BTreeMap<(i64, i64), u32>,
}

/// The list of what happened.
#[derive(Clone, Debug)]
pub struct Model {
    pub starting: Steps,
    pub currency: String,
    pub limits: Limits,
    pub facts: Vec<(Micros, What)>,
}

impl Model {
    /// Notes that something happened. Time does not run backwards.
    pub fn note(&mut self, at: Micros, what: What) {
        let at = at.max(self.now());
        self.facts.push((at, what));
    }

    /// The time of the newest fact.
    pub fn now(&self) -> Micros {
        self.facts.last().map_or(0, |(at, _)| *at)
    }

    /// Works everything out from the beginning.
    pub fn picture(&self) -> Picture {
        let mut picture = Picture {
            limits: self.limits.clone(),
            trading: true,
            quarantined: false,
            lots: BTreeMap::new(),
            net: BTreeMap::new(),
            streak: 0,
            cooling_until: None,
            others_reserved: 0,
            others_counts: BTreeMap::new(),
        };
        for (at, what) in &self.facts {
            picture.add(*at, what);
        }
        picture
    }

    /// Starting equity and all profit and loss since.
    pub fn equity(&self, picture: &Picture) -> Steps {
        self.starting + picture.net.values().sum::<Steps>()
    }
}

impl Picture {
    fn add(&mut self, at: Micros, what: &What) {
        match what {
            What::Noticed => {}
            What::Limits(limits) => self.limits = limits.clone(),
            What::Trading(enabled) => self.trading = *enabled,
            What::Quarantine(on) => self.quarantined = *on,
            What::Accepted(id, terms) => {
                self.lots.insert(*id, Lot::accepted(at, terms));
            }
            What::Traded(id, trade) => {
                let made = self.lot(*id).trade(at, trade);
                *self.net.entry(at.div_euclid(DAY)).or_default() += made;
                self.close_when_done(*id, at);
            }
            What::Known(id, leg) => self.lot(*id).leg(*leg).known = true,
            What::Ended(id, leg) => {
                self.lot(*id).leg(*leg).ended = true;
                self.close_when_done(*id, at);
            }
            What::Exit(id, quantity) => {
                self.lot(*id).exits.push(Leg { asked: *quantity, ..Leg::default() });
            }
            What::Stop(id, to, kind) => {
                let lot = self.lot(*id);
                lot.stop = *to;
                lot.stop_kind = kind;
            }
            What::CancelAsked(id) => self.lot(*id).cancel_asked = true,
            What::Others { reserved, net, minutes } => {
                let day = at.div_euclid(DAY);
                self.others_reserved += reserved;
                *self.net.entry(day).or_default() += net;
                if let Some(minutes) = minutes {
                    *self.others_counts.entry((day, *minutes)).or_default() += 1;
                }
            }
        }
    }

    fn lot(&mut self, id: u128) -> &mut Lot {
        self.lots.get_mut(&id).expect("facts are noted only about lots that were accepted")
    }

    /// A lot is done when nothing is open and nothing can trade. Losers in a row start a cool-down.
    fn close_when_done(&mut self, id: u128, at: Micros) {
        let lot = self.lot(id);
        let done = lot.open == 0 && lot.entry.traded > 0 && lot.entry.ended && lot.exits.iter().all(|exit| exit.ended);
        let newly = done && !lot.closed;
        lot.closed = done;
        if !newly {
            return;
        }
        self.streak = if lot.realized < 0 { self.streak + 1 } else { 0 };
        if self.streak >= self.limits.loss_streak {
            self.streak = 0;
            self.cooling_until = Some(at + self.limits.cooldown);
        }
    }

    /// The day's loss, when it is one.
    pub fn realized_loss(&self, now: Micros) -> Steps {
        (-self.net.get(&now.div_euclid(DAY)).copied().unwrap_or(0)).max(0)
    }

    /// The worst that open positions can lose.
    pub fn open_risk(&self) -> Steps {
        self.lots.values().map(Lot::open_risk).sum()
    }

    /// The worst that working entries can lose, and what others have reserved.
    pub fn reserved(&self) -> Steps {
        self.others_reserved + self.lots.values().map(Lot::reserved).sum::<Steps>()
    }

    /// What may still be put at risk today.
    pub fn remaining(&self, now: Micros) -> Steps {
        (self.limits.cap - self.realized_loss(now) - self.open_risk() - self.reserved()).max(0)
    }

    /// Trades of a timeframe today: acceptances, without those that are proven to have bought nothing; and those of others.
    pub fn count(&self, now: Micros, minutes: i64) -> u32 {
        let today = |lot: &&Lot| lot.accepted_at.div_euclid(DAY) == now.div_euclid(DAY);
        let counts = |lot: &&Lot| lot.terms.minutes == minutes && !(lot.entry.ended && lot.entry.traded == 0);
        let number = self.lots.values().filter(today).filter(counts).count();
        let others = self.others_counts.get(&(now.div_euclid(DAY), minutes)).copied().unwrap_or(0);
        u32::try_from(number).expect("a test makes few lots") + others
    }
}

impl Lot {
    fn accepted(at: Micros, terms: &Terms) -> Lot {
        Lot {
            terms: terms.clone(),
            accepted_at: at,
            entry: Leg { asked: terms.quantity, ..Leg::default() },
            exits: Vec::new(),
            open: 0,
            cost: 0,
            realized: 0,
            entered: 0,
            opened_at: None,
            stop: terms.stop,
            stop_kind: "stop_loss",
            closed: false,
            cancel_asked: false,
            executions: BTreeSet::new(),
            owed: (0, 0),
        }
    }

    /// Leg 0 is the entry.
    pub fn leg(&mut self, leg: usize) -> &mut Leg {
        if leg == 0 { &mut self.entry } else { &mut self.exits[leg - 1] }
    }

    /// Counts a trade and says what it realised. The entry realises its fee; an exit its part of the cost.
    fn trade(&mut self, at: Micros, trade: &Trade) -> Steps {
        if !self.executions.insert(trade.execution.clone()) {
            return 0;
        }
        let leg = self.leg(trade.leg);
        leg.traded += trade.quantity;
        leg.known = true;
        leg.ended |= leg.traded >= leg.asked;
        // Buying costs, selling brings; a long enters by buying, a short by selling.
        let buys = self.terms.long == (trade.leg == 0);
        let worth = if buys { cost(trade.quantity, trade.price) } else { income(trade.quantity, trade.price) };
        let (booked, rest) = if trade.leg == 0 { self.enter(at, trade, worth) } else { self.leave(trade, worth) };
        let gross = if self.terms.long { rest - booked } else { booked - rest };
        let made = gross - trade.fee;
        self.realized += made;
        made
    }

    /// An entry's trade opens, but for what exits have closed already. Says what that part cost, and what it had brought.
    fn enter(&mut self, at: Micros, trade: &Trade, worth: Steps) -> (Steps, Steps) {
        let (owed, owed_worth) = self.owed;
        let part = trade.quantity.min(owed);
        let paid = floor(worth * part, trade.quantity);
        let brought = if part == owed { owed_worth } else { floor(owed_worth * part, owed) };
        self.owed = (owed - part, owed_worth - brought);
        self.open += trade.quantity - part;
        self.cost += worth - paid;
        self.entered += worth;
        self.opened_at.get_or_insert(at);
        (paid, brought)
    }

    /// An exit's trade closes what is open. Says what that part cost, and what it brought.
    fn leave(&mut self, trade: &Trade, worth: Steps) -> (Steps, Steps) {
        let part = trade.quantity.min(self.open);
        let paid = if part == self.open { self.cost } else { floor(self.cost * part, self.open) };
        let brought = floor(worth * part, trade.quantity);
        self.owed = (self.owed.0 + trade.quantity - part, self.owed.1 + worth - brought);
        self.open -= part;
        self.cost -= paid;
        (paid, brought)
    }

    /// The loss, fees included, when everything open is closed at the stop.
    pub fn open_risk(&self) -> Steps {
        if self.open == 0 {
            return 0;
        }
        let fee = cost(percent_up(self.stop, self.terms.fee_percent), self.open);
        let loss = if self.terms.long {
            self.cost - income(self.open, self.stop)
        } else {
            cost(self.open, self.stop) - self.cost
        };
        (loss + fee).max(0)
    }

    /// What is held for the part of the entry that can still trade.
    pub fn reserved(&self) -> Steps {
        cost(self.entry.working(), self.terms.unit)
    }

    /// What the position and its working entry are worth.
    pub fn exposure(&self) -> Steps {
        let open = if self.open > 0 { self.cost } else { 0 };
        open + cost(self.entry.working(), self.terms.sized_at)
    }

    /// Whether it stands in the way of the other side.
    pub fn is_exposed(&self) -> bool {
        self.open > 0 || !self.entry.ended
    }

    /// Whether it takes one of the places for positions.
    pub fn is_busy(&self) -> bool {
        self.is_exposed() || self.exits.iter().any(|exit| !exit.ended)
    }

    /// What exits that can still trade would close.
    pub fn leaving(&self) -> Steps {
        self.exits.iter().map(Leg::working).sum()
    }
}
