//! Limits under which every user can be traded for as long as it takes.
//!
//! The accounts are opened under them and the engine is started with them as its ceilings, so that no refusal comes from a limit
//! that the measurement did not mean.

use std::time::Duration;

use nexus_engine::ids::Timeframe;
use nexus_engine::limits::Limits;
use nexus_engine::units::{Money, Percent};

/// In units of the account's currency: more than is ever used.
const ENOUGH: i64 = 100_000_000;
/// More than is ever counted.
const MANY: u32 = 10_000;
/// The same for a loss streak, of which the settings allow fewer.
const STREAK: u32 = 1_000;

/// As the accounts hold them.
pub fn of_the_bench() -> Limits {
    Limits {
        max_daily_loss: Money::whole(ENOUGH),
        max_risk_percent: Percent::from_steps(100_000),
        timeframes: [(Timeframe::hours(3), MANY)].into(),
        duplicate_window: Duration::ZERO,
        max_open_positions: MANY,
        max_orders_per_minute: MANY,
        max_exposure: Money::whole(ENOUGH),
        loss_streak: STREAK,
        max_repeated_executions: MANY,
        ..Limits::default()
    }
}

/// As the engine is told them.
pub fn variables() -> Vec<(&'static str, String)> {
    let limits = of_the_bench();
    vec![
        ("MAX_DAILY_LOSS", ENOUGH.to_string()),
        ("MAX_RISK_PERCENT", limits.max_risk_percent.to_string()),
        ("TIMEFRAME_LIMITS", format!("3H={MANY}")),
        ("DUPLICATE_WINDOW_MINUTES", "0".to_owned()),
        ("MAX_OPEN_POSITIONS", MANY.to_string()),
        ("MAX_ORDERS_PER_MINUTE", MANY.to_string()),
        ("MAX_EXPOSURE", ENOUGH.to_string()),
        ("LOSS_STREAK", STREAK.to_string()),
        ("MAX_REPEATED_EXECUTIONS", MANY.to_string()),
    ]
}
