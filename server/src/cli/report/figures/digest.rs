//! One hash over all decisions, so that two runs are compared by one word.
//!
//! A line a decision, sorted by time, signal and user, so that neither the order of users nor that of commits matters.
//! Anybody can make the same lines from the ledger and hash them with `sha256sum`.

use sha2::{Digest, Sha256};

use crate::cli::report::records::{Account, Decision, Verdict};
use crate::wire::time;

/// The SHA-256, in hexadecimal digits.
pub(super) fn of(accounts: &[Account]) -> String {
    let mut decisions: Vec<(&str, &Decision)> = accounts
        .iter()
        .flat_map(|account| account.decisions.iter().map(|decision| (account.username.as_str(), decision)))
        .collect();
    decisions.sort_by_key(|(username, decision)| (decision.at, decision.signal_key.as_str(), *username));
    let mut hasher = Sha256::new();
    for (username, decision) in decisions {
        hasher.update(line(username, decision));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `at|signal_key|username|verdict|reasons|client_order_id|quantity|sized_at|stop_loss|take_profit|risk|used_before|cap`.
fn line(username: &str, decision: &Decision) -> String {
    let head = format!("{}|{}|{username}", time::format(decision.at), decision.signal_key);
    match &decision.verdict {
        Verdict::Rejected(reasons) => format!("{head}|rejected|{}||||||||\n", reasons.join(",")),
        Verdict::Accepted(plan) => format!(
            "{head}|accepted||{}|{}|{}|{}|{}|{}|{}|{}\n",
            plan.client_order_id,
            plan.quantity,
            plan.sized_at,
            plan.stop_loss,
            plan.take_profit,
            plan.risk,
            plan.used_before,
            plan.cap,
        ),
    }
}
