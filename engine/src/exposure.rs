//! What is at risk, and how much is held.
//!
//! Risk is counted from the decision, not from the fill: an acceptance reserves its worst case, fills move it to open
//! risk, exits realise it. Nothing here depends on marks, so what is counted cannot drift between two looks.

use crate::account::Account;
use crate::position::Lot;
use crate::signal::Side;
use crate::units::Money;

impl Lot {
    /// The worst case of what has been accepted and may still fill. An order whose outcome is unknown may still fill.
    pub fn reserved_risk(&self) -> Money {
        self.entry.working_quantity().value_up(self.unit_loss)
    }

    /// The worst loss of what is open, from its cost to the stop in force, with the exit's fee; zero at least.
    pub fn open_risk(&self) -> Money {
        if self.open.is_zero() {
            return Money::ZERO;
        }
        let stop = self.protection.stop;
        let fee = self.open.value_up(stop.percent_up(self.fee_percent));
        let loss = match self.side {
            Side::Buy => self.cost.minus(self.open.value_down(stop)),
            Side::Sell => self.open.value_up(stop).minus(self.cost),
        };
        loss.plus(fee).or_zero()
    }

    /// What the open part cost and what a working entry would cost.
    pub fn exposure(&self) -> Money {
        self.cost.plus(self.entry.working_quantity().value_up(self.sized_at))
    }
}

impl Account {
    /// The worst loss of all open positions at their stops in force.
    pub fn open_risk(&self) -> Money {
        self.lots.values().fold(Money::ZERO, |sum, lot| sum.plus(lot.open_risk()))
    }

    /// The worst loss of accepted entries not yet filled, and unexplained risk.
    pub fn reserved_risk(&self) -> Money {
        self.lots.values().fold(self.unexplained_risk, |sum, lot| sum.plus(lot.reserved_risk()))
    }

    /// What all positions and working entries are worth together.
    pub fn exposure(&self) -> Money {
        self.lots.values().fold(Money::ZERO, |sum, lot| sum.plus(lot.exposure()))
    }
}
