//! How long a router waits before it tries an order again.
//!
//! Exponential backoff with full jitter (the "Exponential Backoff And Jitter" article of the AWS architecture blog gives
//! the reasoning), as a pure function of the order's id and the attempt: no two orders march in step, and a replay or a
//! restart waits exactly as long.

use std::time::Duration;

use uuid::Uuid;

use crate::ids::ClientOrderId;

/// The upper bound of the first wait.
const BASE_MS: u64 = 50;
/// No wait is longer.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// An entry that could not be sent in so many attempts is given up, proven unsent. Exits are tried for ever.
pub const ATTEMPTS_MAX: u32 = 8;

/// The wait before attempt number `attempt` (the first retry is 1): uniform in 1 ms up to `50 ms * 2^(attempt-1)`, at most 5 s.
pub fn backoff(order: ClientOrderId, attempt: u32) -> Duration {
    let cap_ms = u64::try_from(BACKOFF_MAX.as_millis()).unwrap_or(u64::MAX);
    let ceiling_ms = BASE_MS.checked_shl(attempt.saturating_sub(1)).unwrap_or(cap_ms).clamp(BASE_MS, cap_ms);
    let draw = Uuid::new_v5(&order.decision.0, format!("{order}/{attempt}").as_bytes());
    let (high, _) = draw.as_u64_pair();
    Duration::from_millis(1 + high % ceiling_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DecisionId;

    #[test]
    fn waits_grow_are_bounded_and_repeat() {
        let orders = (0..200).map(|n| ClientOrderId::entry(DecisionId(Uuid::from_u128(n))));
        for (attempt, ceiling_ms) in [(1, 50), (2, 100), (5, 800), (8, 5_000), (40, 5_000), (u32::MAX, 5_000)] {
            let waits: Vec<_> = orders.clone().map(|order| backoff(order, attempt)).collect();
            let again: Vec<_> = orders.clone().map(|order| backoff(order, attempt)).collect();
            assert_eq!(waits, again);
            assert!(waits.iter().all(|w| (1..=ceiling_ms).contains(&w.as_millis())), "attempt {attempt}");
            // Full jitter: the waits of many orders spread over the whole range.
            assert!(waits.iter().any(|w| w.as_millis() < ceiling_ms / 4));
            assert!(waits.iter().any(|w| w.as_millis() > ceiling_ms * 3 / 4));
        }
    }
}
