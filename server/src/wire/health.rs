//! Health and status: what anybody may know of the engine.
//!
//! No names, no amounts, no versions: these routes ask nobody who they are. The words (`up`, `down`, `degraded`) are what
//! monitors match on.

use std::collections::BTreeMap;

use nexus_actors::engine::EngineStatus;
use nexus_actors::ports::Clock;
use nexus_engine::gate::TradingState;
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// Whether the engine works.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthBody {
    /// `ok`, `degraded` (it works, but something is not as it should be) or `down`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// What this instance is: `owner` serves, `standby` waits for another to end, `starting` waits for its ledger.
    #[schema(value_type = String, example = "owner")]
    pub role: InstanceRole,
    /// What was looked at.
    pub checks: ChecksBody,
}

/// What an instance is among those that share a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceRole {
    /// It waits for its ledger.
    Starting,
    /// Another instance owns the accounts; this one waits to take over.
    Standby,
    /// It owns the accounts and serves.
    Owner,
}

/// What a health check looks at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = Checks)]
pub struct ChecksBody {
    /// `up` or `down`.
    #[schema(example = "up")]
    pub ledger: &'static str,
    /// `up` or `down`; never down when it is in the process. The engine decides without it.
    #[schema(example = "up")]
    pub hot_state: &'static str,
    /// `up` or `down` by venue.
    pub venues: BTreeMap<String, &'static str>,
    /// The trading state: `active`, `reducing` or `halted`; `standby` of an instance that does not trade.
    #[schema(example = "active")]
    pub kill_switch: &'static str,
}

fn up(is_up: bool) -> &'static str {
    if is_up { "up" } else { "down" }
}

impl HealthBody {
    /// Shows the health of the tree.
    pub fn of(status: &EngineStatus) -> Self {
        let venues: BTreeMap<_, _> = status.venues.iter().map(|(name, is_up)| (name.clone(), up(*is_up))).collect();
        let all_well = status.gate.state == TradingState::Active
            && status.stopped.is_empty()
            && status.hot_state_up
            && status.venues.values().all(|is_up| *is_up);
        let is_down = !status.serving || !status.ledger_up;
        let word = if is_down {
            "down"
        } else if all_well {
            "ok"
        } else {
            "degraded"
        };
        Self {
            status: word,
            role: InstanceRole::Owner,
            checks: ChecksBody {
                ledger: up(status.ledger_up),
                hot_state: up(status.hot_state_up),
                venues,
                kill_switch: status.gate.state.as_str(),
            },
        }
    }
}

impl HealthBody {
    /// Shows an instance that does not serve yet. A standby is well, and still not what it should be when all is well.
    pub fn waiting(role: InstanceRole, ledger_up: bool) -> Self {
        let is_well = role == InstanceRole::Standby && ledger_up;
        Self {
            status: if is_well { "degraded" } else { "down" },
            role,
            checks: ChecksBody {
                ledger: up(ledger_up),
                hot_state: "up",
                venues: BTreeMap::new(),
                // It sends nothing, whatever the trading state; that is read when it takes over.
                kill_switch: "standby",
            },
        }
    }
}

/// That the process answers.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Alive)]
pub struct AliveBody {
    /// `ok`.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// What anybody may know of the engine.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Status)]
pub struct StatusBody {
    /// `development` or `production`.
    #[schema(example = "development")]
    pub environment: &'static str,
    /// `wall`, or `simulated` when trading time is that of the marks.
    #[schema(example = "wall")]
    pub clock: &'static str,
    /// The time that decisions are made at.
    pub trading_time: String,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// A name drawn at start-up.
    pub instance: String,
    /// The gate.
    pub risk_engine: RiskEngineBody,
    /// `up` or `down`.
    pub ledger: &'static str,
    /// `up` or `down`.
    pub hot_state: &'static str,
    /// `up` or `down` by venue.
    pub venues: BTreeMap<String, &'static str>,
    /// Accounts in memory now.
    pub accounts: usize,
}

/// The gate.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RiskEngine)]
pub struct RiskEngineBody {
    /// The trading state of everything.
    #[schema(example = "active")]
    pub state: &'static str,
    /// How many feeds, symbols, venues and users are stopped by themselves.
    pub scopes_stopped: usize,
    /// Rises with every change.
    pub epoch: u64,
    /// Since when.
    pub since: String,
    /// Why, when somebody said.
    pub reason: Option<String>,
}

impl StatusBody {
    /// Shows the state of the tree.
    pub fn of(
        status: &EngineStatus,
        environment: &'static str,
        clock: &dyn Clock,
        uptime_s: u64,
        instance: String,
    ) -> Self {
        let HealthBody { checks, .. } = HealthBody::of(status);
        Self {
            environment,
            clock: if clock.simulation().is_some() { "simulated" } else { "wall" },
            trading_time: time::format(clock.now()),
            uptime_s,
            instance,
            risk_engine: RiskEngineBody {
                state: status.gate.state.as_str(),
                scopes_stopped: status.stopped.len(),
                epoch: status.gate.epoch,
                since: time::format(status.gate.since),
                reason: status.gate.reason.clone(),
            },
            ledger: checks.ledger,
            hot_state: checks.hot_state,
            venues: checks.venues,
            accounts: status.active_accounts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_actors::engine::GateStatus;
    use nexus_engine::gate::Scope;
    use nexus_engine::ids::Timestamp;

    #[test]
    fn a_halt_or_a_lost_hot_state_degrades_and_a_lost_ledger_is_down() {
        let table = [
            (TradingState::Active, true, true, true, true, "ok"),
            (TradingState::Halted, true, true, true, true, "degraded"),
            (TradingState::Reducing, true, true, true, true, "degraded"),
            (TradingState::Active, true, true, true, false, "degraded"),
            (TradingState::Active, true, true, false, true, "degraded"),
            (TradingState::Active, true, false, true, true, "down"),
            (TradingState::Active, false, true, true, true, "down"),
        ];
        for (state, serving, ledger_up, hot_state_up, venue_up, expected) in table {
            let gate = GateStatus {
                scope: Scope::Everything,
                state,
                epoch: 1,
                since: Timestamp::ZERO,
                reason: None,
                by: String::new(),
            };
            let status = EngineStatus {
                gate,
                stopped: Vec::new(),
                serving,
                ledger_up,
                hot_state_up,
                venues: [("paper".to_owned(), venue_up)].into(),
                active_accounts: 0,
                restarts: BTreeMap::new(),
            };
            assert_eq!(HealthBody::of(&status).status, expected);
        }
    }
}
