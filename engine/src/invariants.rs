//! What is true of every account after every step.
//!
//! Run after each step in tests and simulations, and by a risk actor before it believes what it loaded. A violation means
//! that the state cannot be trusted; it is never repaired in place.

use crate::account::Account;
use crate::position::Lot;
use crate::signal::Side;
use crate::units::{Money, Quantity};

impl Account {
    /// The first invariant that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        for (decision, lot) in &self.lots {
            if *decision != lot.decision {
                return Err(format!("lot {} is kept under {decision}", lot.decision));
            }
            lot.check().map_err(|what| format!("lot {decision}: {what}"))?;
        }
        if self.unexplained_risk < Money::ZERO {
            return Err("unexplained risk is negative".into());
        }
        if !self.recent.iter().is_sorted_by_key(|recent| recent.at) {
            return Err("recent acceptances are out of order".into());
        }
        if self.recent.back().is_some_and(|recent| recent.at > self.now) {
            return Err("an acceptance lies in the future".into());
        }
        if self.today.day > self.now.day() {
            return Err("the day lies in the future".into());
        }
        Ok(())
    }
}

impl Lot {
    fn check(&self) -> Result<(), String> {
        let closed = self.exits.iter().fold(Quantity::ZERO, |sum, exit| sum.plus(exit.filled));
        let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        ensure(self.open >= Quantity::ZERO && self.cost >= Money::ZERO, "open or cost is negative")?;
        ensure(self.open == self.entry.filled.minus(closed).or_zero(), "open is not entries less exits")?;
        ensure(!self.open.is_zero() || self.cost.is_zero(), "something flat has a cost")?;
        // An adopted exit's quantity is only the most that it can be.
        let planned = self.exits.iter().filter(|exit| !self.adopted.contains(&exit.id));
        let closing = planned.fold(Quantity::ZERO, |sum, exit| sum.plus(exit.working_quantity()));
        ensure(closing <= self.entry.filled, "exits ask for more than was ever open")?;
        ensure(self.open_risk() >= Money::ZERO && self.reserved_risk() >= Money::ZERO, "a risk is negative")?;
        ensure(self.closed_at.is_none() || self.is_done(), "a closed lot has business left")?;
        ensure(self.opened_at.is_none() == self.entry.filled.is_zero(), "opened without a fill, or the reverse")?;
        ensure(self.exits.iter().all(|exit| exit.side == self.side.opposite()), "an exit would enlarge the position")?;
        let never_loosened = match self.side {
            Side::Buy => self.protection.stop >= self.protection.first_stop,
            Side::Sell => self.protection.stop <= self.protection.first_stop,
        };
        ensure(never_loosened, "the stop is looser than the first one")
    }
}
