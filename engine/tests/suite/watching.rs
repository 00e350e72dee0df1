//! What should follow when somebody looks at a position: it is closed, its stop moves, its entry is called back.
//!
//! Exits come first: at the stop, at the target, at the end of its time. Only a position that stays is worth moving a
//! stop for, and a stop only ever moves towards the market.

use crate::model::{Lot, Micros, ONE, Steps, floor};
use crate::verdict::Mark;

/// What should be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Close this much, for this reason.
    Exit(&'static str, Steps),
    /// Move the stop here, for this reason.
    Stop(Steps, &'static str),
    /// Ask for the entry's cancellation.
    CancelEntry,
}

impl Lot {
    /// What a look at the market and the clock should lead to.
    pub fn look(&self, now: Micros, mark: Option<Mark>) -> Vec<Doing> {
        let mut doings = Vec::new();
        if self.open > 0 {
            match self.exit_reason(now, mark) {
                Some(reason) => {
                    let rest = self.open - self.leaving();
                    if rest > 0 {
                        doings.push(Doing::Exit(reason, rest));
                    }
                }
                None if self.open > self.leaving() => {
                    doings.extend(mark.into_iter().flat_map(|mark| self.better_stops(mark)));
                }
                None => {}
            }
        }
        // What has not filled is too old, or of a trade that is being given up.
        let leaves = matches!(doings[..], [Doing::Exit(..)]);
        if (leaves || now >= self.terms.expires_at) && !self.entry.ended && !self.cancel_asked {
            doings.push(Doing::CancelEntry);
        }
        doings
    }

    fn exit_reason(&self, now: Micros, mark: Option<Mark>) -> Option<&'static str> {
        if let Some(Mark { bid, ask, .. }) = mark {
            if if self.terms.long { bid <= self.stop } else { ask >= self.stop } {
                return Some(self.stop_kind);
            }
            if if self.terms.long { bid >= self.terms.target } else { ask <= self.terms.target } {
                return Some("take_profit");
            }
        }
        let until = self.opened_at? + self.terms.plan.max_hold?;
        (now >= until).then_some("max_hold")
    }

    /// Where the stop should go: to break-even, and on from there behind the market.
    fn better_stops(&self, mark: Mark) -> Vec<Doing> {
        let plan = &self.terms.plan;
        let tick = self.terms.tick;
        let average = floor(self.entered * ONE, self.entry.traded);
        let initial = (average - self.terms.stop).abs();
        // Everything below is told for a long; a short is its reflection.
        let sign: Steps = if self.terms.long { 1 } else { -1 };
        let exit = if self.terms.long { mark.bid } else { mark.ask };
        let profit = (exit - average) * sign;
        let reached = |multiple: Steps| profit * ONE >= multiple * initial;
        let down = |price: Steps| floor(price, tick) * tick;
        let towards_market = |price: Steps| sign * -down(-(price * sign));
        let away_from_market = |price: Steps| sign * down(price * sign);
        let (mut stop, mut moves) = (self.stop, Vec::new());
        if plan.breakeven_at.is_some_and(reached) {
            let even = towards_market(average);
            if (even - stop) * sign > 0 {
                stop = even;
                moves.push(Doing::Stop(even, "break_even"));
            }
        }
        if let Some(distance) = plan.trail_distance
            && plan.trail_after.is_none_or(reached)
        {
            let trailed = away_from_market(exit - sign * distance);
            let gained = (trailed - stop) * sign;
            if gained > 0 && gained * 10 >= initial {
                moves.push(Doing::Stop(trailed, "trailing"));
            }
        }
        moves
    }
}
