//! The signals that are sent: to one user each, with the verdict that they are meant to get.
//!
//! The refused ones are refused by three different rules, an early one and two late ones, whatever the user has done before;
//! the accepted ones are filled by the paper venue at once. So a measurement knows each answer beforehand, and a run in which
//! something else was measured than was meant ends at the first wrong one.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use uuid::Uuid;

use super::client::Connection;
use crate::load::Caller;
use crate::world::Chance;

/// Where signals go.
pub const PATH: &str = "/api/v1/signals";
/// The timeframe that the limits allow.
pub const TIMEFRAME: &str = "3H";
/// A day old: older than any limit takes.
const STALE: Duration = Duration::from_secs(24 * 3_600);

/// Which verdicts a run is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// Every signal is accepted.
    Accepted,
    /// 30 % are accepted, 70 % refused.
    Mixed,
    /// Every signal is refused: wakes accounts up without leaving anything in them.
    Refused,
}

impl Mix {
    /// How it is called in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Mix::Accepted => "all accepted",
            Mix::Mixed => "30 % accepted",
            Mix::Refused => "all refused",
        }
    }

    const fn accepted_percent(self) -> u64 {
        match self {
            Mix::Accepted => 100,
            Mix::Mixed => 30,
            Mix::Refused => 0,
        }
    }
}

/// What a signal is meant to be answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meant {
    /// Accepted.
    Accepted,
    /// Too old.
    Stale,
    /// Of a timeframe that is not traded.
    Timeframe,
    /// Its price is far from the market.
    Collar,
}

impl Meant {
    /// The part of the answer that shows it.
    const fn sign(self) -> &'static str {
        match self {
            Meant::Accepted => "\"accepted\":1,\"rejected\":0",
            Meant::Stale => "\"reasons\":{\"stale_signal\":1}",
            Meant::Timeframe => "\"reasons\":{\"timeframe_limit\":1}",
            Meant::Collar => "\"reasons\":{\"price_collar\":1}",
        }
    }

    /// The part of the answer that shows the verdict alone.
    const fn verdict(self) -> &'static str {
        match self {
            Meant::Accepted => "\"verdict\":\"accepted\"",
            Meant::Stale | Meant::Timeframe | Meant::Collar => "\"verdict\":\"rejected\"",
        }
    }

    /// A letter for the signal's key: the plain handler knows by it what to write, without deciding anything.
    const fn letter(self) -> char {
        match self {
            Meant::Accepted => 'a',
            Meant::Stale | Meant::Timeframe | Meant::Collar => 'r',
        }
    }
}

/// A market of the example instruments, at a price that stands still.
struct Market {
    symbol: &'static str,
    bid: &'static str,
    ask: &'static str,
    entry: &'static str,
    stop: &'static str,
    target: &'static str,
    /// A limit, a stop and a target that are in order among themselves and far from the market.
    far: [&'static str; 3],
}

const MARKETS: [Market; 4] = [
    Market {
        symbol: "EURUSD",
        bid: "1.08495",
        ask: "1.08505",
        entry: "1.08500",
        stop: "1.08300",
        target: "1.08900",
        far: ["1.02000", "1.01800", "1.02400"],
    },
    Market {
        symbol: "GBPUSD",
        bid: "1.26995",
        ask: "1.27005",
        entry: "1.27000",
        stop: "1.26750",
        target: "1.27500",
        far: ["1.20000", "1.19750", "1.20500"],
    },
    Market {
        symbol: "BTCUSD",
        bid: "94999.50",
        ask: "95000.50",
        entry: "95000.00",
        stop: "94500.00",
        target: "96000.00",
        far: ["90000.00", "89500.00", "91000.00"],
    },
    Market {
        symbol: "ETHUSD",
        bid: "3399.95",
        ask: "3400.05",
        entry: "3400.00",
        stop: "3375.00",
        target: "3450.00",
        far: ["3200.00", "3175.00", "3250.00"],
    },
];

/// The marks of all markets, now.
pub fn marks() -> String {
    let at = jiff::Timestamp::now();
    let mark = |it: &Market| {
        format!("{{\"symbol\":\"{}\",\"bid\":\"{}\",\"ask\":\"{}\",\"at\":\"{at}\"}}", it.symbol, it.bid, it.ask)
    };
    format!("[{}]", MARKETS.iter().map(mark).collect::<Vec<_>>().join(","))
}

/// Whom signals are for, and how they are to be answered.
pub struct Plan {
    /// Comes first in each key: no two runs on one ledger have the same.
    pub run: String,
    /// The users, in whose order signals go round.
    pub users: Arc<[Uuid]>,
    /// Which verdicts.
    pub mix: Mix,
    /// When the signals are said to have been made.
    pub issued_at: jiff::Timestamp,
}

impl Plan {
    /// What the signal of this number is meant to be answered with.
    fn meant(&self, number: u64) -> Meant {
        let mut chance = Chance::seeded(number);
        if chance.percent(self.mix.accepted_percent()) {
            return Meant::Accepted;
        }
        [Meant::Stale, Meant::Timeframe, Meant::Collar][chance.below(3)]
    }

    /// Writes the signal of this number; returns what it is meant to be answered with.
    fn write(&self, number: u64, body: &mut String) -> Result<Meant> {
        let meant = self.meant(number);
        let place = usize::try_from(number)?;
        let (user, market) = (self.users[place % self.users.len()], &MARKETS[place % MARKETS.len()]);
        let issued_at = if meant == Meant::Stale { self.issued_at - STALE } else { self.issued_at };
        let timeframe = if meant == Meant::Timeframe { "6H" } else { TIMEFRAME };
        let (kind, [entry, stop, target]) = match meant {
            Meant::Collar => ("limit", market.far),
            Meant::Accepted | Meant::Stale | Meant::Timeframe => ("market", [market.entry, market.stop, market.target]),
        };
        body.clear();
        write!(
            body,
            "{{\"id\":\"{}-{number}-{}\",\"symbol\":\"{}\",\"side\":\"buy\",\"timeframe\":\"{timeframe}\",\"order_type\":\"{kind}\",\
             \"entry_price\":\"{entry}\",\"stop_loss\":\"{stop}\",\"take_profit\":\"{target}\",\"issued_at\":\"{issued_at}\",\
             \"user_id\":\"{user}\"}}",
            self.run,
            meant.letter(),
            market.symbol,
        )?;
        Ok(meant)
    }
}

/// A connection on which signals are sent, one after the other.
pub struct Sender {
    plan: Arc<Plan>,
    api_key: Arc<str>,
    path: &'static str,
    connection: Connection,
    body: String,
    meant: Meant,
    judge: Judge,
    /// This number and those after it are not sent.
    last: u64,
}

/// How closely answers are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// The verdict and its reason are those that were meant.
    Closely,
    /// The verdict is.
    Loosely,
    /// An echo answers everything alike.
    Not,
}

impl Sender {
    /// So many of them, connected.
    pub async fn connect(
        addr: SocketAddr,
        how_many: usize,
        path: &'static str,
        api_key: &str,
        plan: Plan,
    ) -> Result<Vec<Sender>> {
        let (plan, api_key) = (Arc::new(plan), Arc::from(api_key));
        let mut senders = Vec::with_capacity(how_many);
        for _ in 0..how_many {
            let connection = Connection::open(addr).await?;
            let (plan, api_key) = (Arc::clone(&plan), Arc::clone(&api_key));
            let (body, meant) = (String::new(), Meant::Accepted);
            let (judge, last) = (Judge::Closely, u64::MAX);
            senders.push(Sender { plan, api_key, path, connection, body, meant, judge, last });
        }
        Ok(senders)
    }

    /// Does not ask for reasons.
    pub fn loosely_judged(self) -> Sender {
        Sender { judge: Judge::Loosely, ..self }
    }

    /// Takes every answer for good.
    pub fn unjudged(self) -> Sender {
        Sender { judge: Judge::Not, ..self }
    }

    /// Ends at this number.
    pub fn until(self, last: u64) -> Sender {
        Sender { last, ..self }
    }
}

impl Caller for Sender {
    fn prepare(&mut self, number: u64) -> Result<bool> {
        if number >= self.last {
            return Ok(false);
        }
        self.meant = self.plan.write(number, &mut self.body)?;
        self.connection.prepare(self.path, &self.api_key, &self.body);
        Ok(true)
    }

    async fn call(&mut self) -> Result<()> {
        let answer = self.connection.call().await?;
        let as_meant = match self.judge {
            Judge::Closely => answer.contains(self.meant.sign()) && answer.contains("\"duplicate\":false"),
            Judge::Loosely => answer.contains(self.meant.verdict()),
            Judge::Not => true,
        };
        ensure!(as_meant, "{:?} was meant by {} and answered by {answer}", self.meant, self.body);
        Ok(())
    }
}
