//! How the simulated exchange behaves, and the dice by which it misbehaves.
//!
//! Every mishap is drawn from a pure function of the seed, the client order id, what is drawn and a count: never from a
//! generator that is shared, whose next number would depend on which thread came first. So a run that went wrong goes
//! wrong again in the same way. By default nothing is drawn at all: every order is taken, and trades at once and whole.

use std::time::Duration;

use nexus_engine::ids::{ClientOrderId, Leg};
use nexus_engine::units::{Percent, SCALE};

/// How the exchange behaves. The default is an exchange without friction; fees stand in the instruments.
///
/// Times here pass on the wall. Under a simulated clock, where an answer must be complete before the next mark, every
/// one of them must be zero and the chances that use them (`timeout_percent`, `delayed_report_percent`,
/// `reordered_report_percent`) must be zero too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaperSettings {
    /// Where all draws begin.
    pub seed: u64,
    /// How much worse than the mark a market order trades, in percent of the price.
    pub slippage_percent: Percent,
    /// The shortest time that a request is on its way to the book.
    pub latency_min: Duration,
    /// The longest. Requests share one line: a later one never overtakes.
    pub latency_max: Duration,
    /// How often an order fills in 2 to 4 parts: at once in steps, or one part a mark.
    pub partial_fill_percent: Percent,
    /// How often an order is rejected.
    pub rejection_percent: Percent,
    /// How often a request does not reach the book while the caller cannot know.
    pub lost_request_percent: Percent,
    /// How often the book took a request and the caller does not hear of it.
    pub lost_reply_percent: Percent,
    /// How often a reply comes only after `timeout_hold`.
    pub timeout_percent: Percent,
    /// Longer than any caller waits.
    pub timeout_hold: Duration,
    /// How often a report is sent twice.
    pub doubled_report_percent: Percent,
    /// How often a report lets others go first.
    pub reordered_report_percent: Percent,
    /// How often a report comes late.
    pub delayed_report_percent: Percent,
    /// By how much at most.
    pub report_delay_max: Duration,
}

impl Default for PaperSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            slippage_percent: Percent::ZERO,
            latency_min: Duration::ZERO,
            latency_max: Duration::ZERO,
            partial_fill_percent: Percent::ZERO,
            rejection_percent: Percent::ZERO,
            lost_request_percent: Percent::ZERO,
            lost_reply_percent: Percent::ZERO,
            timeout_percent: Percent::ZERO,
            timeout_hold: Duration::from_secs(5),
            doubled_report_percent: Percent::ZERO,
            reordered_report_percent: Percent::ZERO,
            delayed_report_percent: Percent::ZERO,
            report_delay_max: Duration::from_millis(50),
        }
    }
}

impl PaperSettings {
    /// An exchange on its worst day: everything that can go wrong does, often, and the same again for the same seed.
    pub fn hostile(seed: u64) -> Self {
        Self {
            seed,
            slippage_percent: Percent::from_steps(SCALE / 100),
            latency_min: Duration::ZERO,
            latency_max: Duration::from_millis(2),
            partial_fill_percent: Percent::whole(40),
            rejection_percent: Percent::whole(5),
            lost_request_percent: Percent::whole(10),
            lost_reply_percent: Percent::whole(10),
            timeout_percent: Percent::whole(3),
            doubled_report_percent: Percent::whole(20),
            reordered_report_percent: Percent::whole(20),
            delayed_report_percent: Percent::whole(20),
            ..Self::default()
        }
    }

    /// Whether a request can be on its way for any time at all.
    pub(crate) fn has_latency(&self) -> bool {
        !self.latency_max.is_zero()
    }

    /// What becomes of a call about `id`, of which `failed` in a row have not been answered.
    pub(crate) fn fate(&self, call: Draw, id: ClientOrderId, failed: u32) -> Fate {
        let hits = |chance, salt: u32| self.hits(chance, call, id, failed.wrapping_mul(4).wrapping_add(salt));
        if hits(self.lost_request_percent, 0) {
            Fate::LostRequest
        } else if hits(self.lost_reply_percent, 1) {
            Fate::LostReply
        } else if hits(self.timeout_percent, 2) {
            Fate::LateReply
        } else {
            Fate::Answered
        }
    }

    /// Whether something that happens in `chance` of all cases happens in this one.
    pub(crate) fn hits(&self, chance: Percent, what: Draw, id: ClientOrderId, n: u32) -> bool {
        !chance.is_zero() && self.draw(what, id, n) % (SCALE.unsigned_abs() * 100) < chance.steps().unsigned_abs()
    }

    /// A time between two, both included.
    pub(crate) fn between(&self, min: Duration, max: Duration, what: Draw, id: ClientOrderId, n: u32) -> Duration {
        let span_us = u64::try_from(max.saturating_sub(min).as_micros()).unwrap_or(u64::MAX - 1);
        min + Duration::from_micros(self.draw(what, id, n) % (span_us + 1))
    }

    /// The number that belongs to these, and to nothing else.
    pub(crate) fn draw(&self, what: Draw, id: ClientOrderId, n: u32) -> u64 {
        let (high, low) = id.decision.0.as_u64_pair();
        let leg = match id.leg {
            Leg::Entry => 0,
            Leg::Exit(n) => u64::from(n) + 1,
        };
        let words = [high, low, leg, what as u64, u64::from(n)];
        words.into_iter().fold(mix(self.seed), |state, word| mix(state ^ word))
    }
}

/// What is drawn. The numbers are part of every seed's meaning: append, never reorder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Draw {
    Rejection = 1,
    Split = 2,
    SplitParts = 3,
    SplitPace = 4,
    PartSize = 5,
    Latency = 6,
    Submit = 7,
    Cancel = 8,
    Doubled = 9,
    Reordered = 10,
    Delayed = 11,
    DelayTime = 12,
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is carried out and answered.
    Answered,
    /// It is not carried out; the caller cannot know.
    LostRequest,
    /// It is carried out; the caller does not hear of it.
    LostReply,
    /// It is carried out, and answered when the caller has given up.
    LateReply,
}

/// The output step of SplitMix64 (Steele, Lea and Flood, 2014): every input bit reaches every output bit.
const fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::ids::DecisionId;
    use uuid::Uuid;

    fn id(n: u128) -> ClientOrderId {
        ClientOrderId::entry(DecisionId(Uuid::from_u128(n)))
    }

    #[test]
    fn draws_repeat_and_differ_by_each_of_their_grounds() {
        let settings = PaperSettings::hostile(7);
        let base = settings.draw(Draw::Split, id(1), 0);
        assert_eq!(base, PaperSettings::hostile(7).draw(Draw::Split, id(1), 0));
        let exit = ClientOrderId::exit(id(1).decision, 1);
        for other in [
            PaperSettings::hostile(8).draw(Draw::Split, id(1), 0),
            settings.draw(Draw::Rejection, id(1), 0),
            settings.draw(Draw::Split, id(2), 0),
            settings.draw(Draw::Split, exit, 0),
            settings.draw(Draw::Split, id(1), 1),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_chance_comes_true_as_often_as_it_says() {
        let settings = PaperSettings::default();
        for (percent, low, high) in [(0, 0, 0), (10, 900, 1_100), (100, 10_000, 10_000)] {
            let hits = (0..10_000).filter(|n| settings.hits(Percent::whole(percent), Draw::Split, id(*n), 0)).count();
            assert!((low..=high).contains(&hits), "{percent} % hit {hits} of 10,000");
        }
    }

    #[test]
    fn a_lost_request_gets_through_when_it_is_tried_often_enough() {
        let settings = PaperSettings { lost_request_percent: Percent::whole(90), ..PaperSettings::default() };
        for n in 0..100 {
            let tries = (0..1_000).find(|failed| settings.fate(Draw::Submit, id(n), *failed) == Fate::Answered);
            assert!(tries.is_some());
        }
    }

    #[test]
    fn a_time_lies_between_its_ends() {
        let settings = PaperSettings::default();
        let (min, max) = (Duration::from_millis(1), Duration::from_millis(3));
        for n in 0..1_000 {
            let time = settings.between(min, max, Draw::Latency, id(1), n);
            assert!(time >= min && time <= max);
        }
        assert_eq!(settings.between(min, min, Draw::Latency, id(1), 0), min);
    }
}
