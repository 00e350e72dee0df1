//! Counters and histograms of the tree, in one place.
//!
//! Their handles are looked up once and kept: the hot path looks nothing up, and a name is spelt in one place only.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use nexus_engine::account::{Decision, Verdict};

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
    pub(crate) accounts_active: Gauge,
    pub(crate) triggers_armed: Gauge,
    pub(crate) gate_state: Gauge,
}

impl Meters {
    /// Looks every handle up once.
    pub(crate) fn new() -> Meters {
        Meters {
            signals: counter!("signals_total"),
            accepted: counter!("decisions_total", "verdict" => "accepted"),
            rejected: counter!("decisions_total", "verdict" => "rejected"),
            overloaded: counter!("signals_overloaded_total"),
            decide_seconds: histogram!("decide_seconds"),
            commit_seconds: histogram!("commit_seconds"),
            commit_batch_size: histogram!("commit_batch_size"),
            commits_voided: counter!("commits_voided_total"),
            orders_sent: counter!("orders_sent_total"),
            orders_unknown: counter!("orders_unknown"),
            order_retries: counter!("order_retries_total"),
            reports_unexplained: counter!("reports_unexplained_total"),
            reports_dead: counter!("reports_dead_total"),
            step_panics: counter!("step_panics_total"),
            stops: counter!("stops_total"),
            permits_available: gauge!("permits_available"),
            accounts_active: gauge!("accounts_active"),
            triggers_armed: gauge!("triggers_armed"),
            gate_state: gauge!("gate_state"),
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
