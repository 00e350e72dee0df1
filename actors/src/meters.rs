//! Counters and histograms of the tree, in one place.
//!
//! Their handles are looked up once and kept: the hot path looks nothing up, and a name is spelt in one place only.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use nexus_engine::account::{Decision, Verdict};

const DECISIONS: &str = "nexus_decisions_total";

/// Every meter of the tree.
pub(crate) struct Meters {
    pub(crate) signals: Counter,
    accepted: Counter,
    rejected: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) decide_seconds: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) commit_batch_size: Histogram,
    pub(crate) commits_voided: Counter,
    pub(crate) orders_sent: Counter,
    pub(crate) orders_unknown: Counter,
    pub(crate) order_retries: Counter,
    pub(crate) reports_unexplained: Counter,
    pub(crate) reports_dead: Counter,
    pub(crate) step_panics: Counter,
    pub(crate) stops: Counter,
    pub(crate) permits_available: Gauge,
    pub(crate) triggers_armed: Gauge,
}

impl Meters {
    /// Looks every handle up once: whoever wants to see them has to be there before the tree.
    pub(crate) fn new() -> Meters {
        describe_counter!(DECISIONS, "Durable decisions, by verdict");
        Meters {
            signals: counted("nexus_signals_total", "Signals that came in, repeats included"),
            accepted: counter!(DECISIONS, "verdict" => "accepted"),
            rejected: counter!(DECISIONS, "verdict" => "rejected"),
            overloaded: counted("nexus_signals_overloaded_total", "Signals shed because too much was under way"),
            decide_seconds: spread("nexus_decide_seconds", "Seconds that a step of an account takes"),
            commit_seconds: spread("nexus_commit_seconds", "Seconds that a batch takes to become durable"),
            commit_batch_size: spread("nexus_commit_batch_size", "Turns in a batch"),
            commits_voided: counted(
                "nexus_commits_voided_total",
                "Times that the ledger proved an account in memory wrong",
            ),
            orders_sent: counted("nexus_orders_sent_total", "Attempts to send an order"),
            orders_unknown: counted("nexus_orders_unknown_total", "Attempts whose outcome had to be asked about"),
            order_retries: counted("nexus_order_retries_total", "Attempts that did not leave and are made again"),
            reports_unexplained: counted("nexus_reports_unexplained_total", "Reports that no decision explains"),
            reports_dead: counted("nexus_reports_dead_total", "Reports that could not be taken into their account"),
            step_panics: counted("nexus_step_panics_total", "Steps that panicked"),
            stops: counted("nexus_stops_total", "Stops that changed the trading state"),
            permits_available: measured("nexus_permits_available", "Decisions that may still begin"),
            triggers_armed: measured("nexus_triggers_armed", "Positions and entries that wait for a price or a time"),
        }
    }

    /// Counts a durable decision.
    pub(crate) fn decided(&self, decision: &Decision) {
        match decision.verdict {
            Verdict::Accepted(_) => self.accepted.increment(1),
            Verdict::Rejected(_) => self.rejected.increment(1),
        }
    }
}

fn counted(name: &'static str, what: &'static str) -> Counter {
    describe_counter!(name, what);
    counter!(name)
}

fn spread(name: &'static str, what: &'static str) -> Histogram {
    describe_histogram!(name, what);
    histogram!(name)
}

fn measured(name: &'static str, what: &'static str) -> Gauge {
    describe_gauge!(name, what);
    gauge!(name)
}
