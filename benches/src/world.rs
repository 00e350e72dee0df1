//! A small deterministic world: markets that walk, a feed that signals, and chance with a seed.
//!
//! Both scenarios draw their signals from here, so that what `decide` measures alone is what `actors` measures as a part.

use std::sync::Arc;
use std::time::Duration;

use nexus_engine::ids::{FeedId, SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::signal::{OrderKind, ProtectionPlan, Side, Signal};
use nexus_engine::units::{Money, Multiple, Percent, Price, Quantity};
use uuid::Uuid;

/// The feed that everybody follows.
pub const FEED: FeedId = FeedId(Uuid::from_u128(0xfeed));
/// 2026-11-23T00:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_795_392_000_000_000);

/// Chance that repeats itself: the splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed, the same run.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// An instrument and where its price is now.
#[derive(Clone, Debug)]
pub struct Market {
    /// The instrument.
    pub instrument: Arc<Instrument>,
    middle: Price,
    /// A typical step of its price from one mark to the next.
    step: Price,
}

impl Market {
    fn new(symbol: &str, tick: &str, lot: &str, fee: &str, middle: &str, step: &str) -> Self {
        let price = |text: &str| text.parse::<Price>().expect("a literal");
        let instrument = Instrument {
            symbol: symbol.parse().expect("a literal"),
            tick: price(tick),
            lot: lot.parse().expect("a literal"),
            fee_percent: fee.parse().expect("a literal"),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        };
        Self { instrument: Arc::new(instrument), middle: price(middle), step: price(step) }
    }

    /// The four instruments of the embedded default.
    pub fn all() -> Vec<Market> {
        vec![
            Market::new("EURUSD", "0.00001", "1", "0.002", "1.08500", "0.00040"),
            Market::new("GBPUSD", "0.00001", "1", "0.002", "1.27000", "0.00050"),
            Market::new("BTCUSD", "0.01", "0.00001", "0.1", "95000.00", "60.00"),
            Market::new("ETHUSD", "0.01", "0.0001", "0.1", "3400.00", "3.00"),
        ]
    }

    /// Its name.
    pub fn symbol(&self) -> &Symbol {
        &self.instrument.symbol
    }

    /// Takes a step up or down, of at most two typical ones.
    pub fn walk(&mut self, chance: &mut Chance) {
        let ticks = self.step.steps() * 2 / self.instrument.tick.steps();
        let width = usize::try_from(ticks * 2 + 1).unwrap_or(1);
        let moved = (i64::try_from(chance.below(width)).unwrap_or(0) - ticks) * self.instrument.tick.steps();
        self.middle = Price::from_steps((self.middle.steps() + moved).max(self.step.steps() * 100));
    }

    /// Its best prices.
    pub fn mark(&self, at: Timestamp) -> Mark {
        let spread = Price::from_steps(self.instrument.tick.steps() * 5);
        let (bid, ask) = (self.middle.minus(spread), self.middle.plus(spread));
        Mark { symbol: self.symbol().clone(), bid, ask, at }
    }

    /// A signal that is in order: stop at 4 typical steps, target at 6, now and then a limit entry, protection often.
    pub fn signal(&self, number: u64, at: Timestamp, chance: &mut Chance) -> Signal {
        let side = if chance.percent(50) { Side::Buy } else { Side::Sell };
        let away = |steps: i64, against: bool| {
            let distance = Price::from_steps(self.step.steps() * steps);
            if (side == Side::Buy) == against { self.middle.minus(distance) } else { self.middle.plus(distance) }
        };
        let limit = chance.percent(20).then(|| away(1, true));
        let key = format!("signal-{number}");
        Signal {
            id: SignalId::derive(FEED, &key),
            feed: FEED,
            key: key.into(),
            symbol: self.symbol().clone(),
            side,
            timeframe: Timeframe::hours([3, 6, 9][chance.below(3)]),
            kind: limit.map_or(OrderKind::Market, OrderKind::Limit),
            entry_price: Some(limit.unwrap_or(self.middle)),
            stop_loss: away(4, true),
            take_profit: away(6, false),
            protection: if chance.percent(70) { self.plan() } else { ProtectionPlan::default() },
            only_user: None,
            issued_at: at,
            issued_at_given: true,
        }
    }

    fn plan(&self) -> ProtectionPlan {
        ProtectionPlan {
            breakeven_at: Some(Multiple::from_steps(50_000_000)),
            trail_distance: Some(Price::from_steps(self.step.steps() * 2)),
            trail_after: Some(Multiple::from_steps(75_000_000)),
            max_hold: Some(Duration::from_secs(9 * 3_600)),
        }
    }
}

/// The n-th user.
pub fn user(n: usize) -> UserId {
    UserId(Uuid::from_u128(0x7573_6572_0000_0000_0000_0000_0000_0000 + n as u128))
}

/// Limits under which an account of 10,000 has a busy day: some signals pass, each rule has something to refuse.
pub fn limits() -> Limits {
    let hours = |hours, count| (Timeframe::hours(hours), count);
    Limits {
        max_daily_loss: Money::whole(100),
        max_risk_percent: Percent::from_steps(20_000_000),
        timeframes: [hours(3, 6), hours(6, 6), hours(9, 6)].into(),
        max_order_quantity: Quantity::whole(100_000),
        ..Limits::default()
    }
}
