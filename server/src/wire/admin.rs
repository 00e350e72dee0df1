//! The kill switch on the wire.
//!
//! A stop is read so that nothing in its body can keep it from stopping: what cannot be read, or is not understood,
//! stops everything. A resume is read like any other body.

use nexus_actors::engine::{GateStatus, StopAnswer};
use nexus_engine::gate::TradingState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{json, time};

/// The longest reason that is kept, in characters; a longer one is cut.
const REASON_CHARS_MAX: usize = 500;

/// What to stop. May be empty or absent: then everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Stop, example = json!({"reason": "runaway feed"}))]
pub struct StopBody {
    /// Why.
    pub reason: Option<String>,
    /// Whether working entries are cancelled; true when absent. Protection is never cancelled.
    pub cancel_open_orders: Option<bool>,
    /// Not carried out in this release; the stop is made, and the answer says so.
    pub flatten: Option<bool>,
    /// Not carried out in this release; the stop is made, and the answer says so.
    pub freeze_exits: Option<bool>,
    /// Allows orders that shrink a position, instead of none.
    pub reducing: Option<bool>,
    /// `global`. Any other scope stops everything, and the answer says so.
    pub scope: Option<String>,
}

/// What a stop was understood to ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// `Halted` or `Reducing`.
    pub state: TradingState,
    /// Why.
    pub reason: Option<String>,
    /// Whether working entries are cancelled.
    pub cancel_open_orders: bool,
    /// What was asked for and is not done, in words.
    pub warnings: Vec<String>,
}

impl Stop {
    /// Everything, because what was asked for is not known.
    pub fn everything(why: &str) -> Self {
        Self {
            state: TradingState::Halted,
            reason: None,
            cancel_open_orders: true,
            warnings: vec![format!("{why}; everything was stopped")],
        }
    }

    /// Reads the body of a stop. Never fails: what cannot be read stops everything.
    pub fn read(body: &[u8]) -> Self {
        if body.trim_ascii().is_empty() {
            return StopBody::default().into();
        }
        match json::decode::<StopBody>(body) {
            Ok(stop) => stop.into(),
            Err(error) => Self::everything(&format!("the body could not be read ({error})")),
        }
    }
}

impl From<StopBody> for Stop {
    fn from(body: StopBody) -> Self {
        let mut warnings = Vec::new();
        let is_global = body.scope.as_deref().is_none_or(|scope| scope == "global");
        if !is_global {
            warnings.push("scopes are not in this release; everything was stopped".to_owned());
        }
        if body.flatten == Some(true) {
            warnings.push("flatten is not in this release; open positions keep their stops".to_owned());
        }
        if body.freeze_exits == Some(true) {
            warnings.push("freeze_exits is not in this release; protective exits may still leave".to_owned());
        }
        let is_reducing = body.reducing == Some(true) && is_global;
        Self {
            state: if is_reducing { TradingState::Reducing } else { TradingState::Halted },
            reason: body.reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect()),
            cancel_open_orders: body.cancel_open_orders.unwrap_or(true) || !is_global,
            warnings,
        }
    }
}

/// What a stop did.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StopAnswer)]
pub struct StopAnswerBody {
    /// The state in force.
    #[schema(example = "halted")]
    pub state: &'static str,
    /// Rises with every change of the state.
    pub epoch: u64,
    /// Since when.
    pub engaged_at: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether the ledger holds it already. The file `HALT` in the data folder does in any case.
    pub persisted: bool,
    /// Working entries whose cancellation was asked for.
    pub cancelled_orders: usize,
    /// The instances that have stopped.
    pub instances: InstancesBody,
    /// What was asked for and is not done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The instances that have stopped.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Instances)]
pub struct InstancesBody {
    /// All.
    pub total: u32,
    /// Those that have said so.
    pub acknowledged: u32,
    /// Whether that is all.
    pub complete: bool,
}

impl StopAnswerBody {
    /// Shows what a stop did. This release runs as one instance, and that one has just answered.
    pub fn of(answer: StopAnswer, warnings: Vec<String>) -> Self {
        Self {
            state: answer.state.as_str(),
            epoch: answer.epoch,
            engaged_at: time::format(answer.engaged_at),
            by: answer.by,
            reason: answer.reason,
            persisted: answer.persisted,
            cancelled_orders: answer.cancelled_orders,
            instances: InstancesBody { total: 1, acknowledged: 1, complete: true },
            warnings,
        }
    }
}

/// What to resume. May be absent.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Resume, example = json!({"reason": "feed repaired"}))]
pub struct ResumeBody {
    /// Why.
    pub reason: Option<String>,
    /// A one-time password. Nobody can enrol one in this release, so what is sent is not looked at.
    #[serde(rename = "totp")]
    pub _totp: Option<String>,
    /// `global`; other scopes are not in this release.
    pub scope: Option<String>,
}

/// The state in force after a resume.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ResumeAnswer)]
pub struct ResumeAnswerBody {
    /// The state in force.
    #[schema(example = "active")]
    pub state: &'static str,
    /// Rises with every change of the state.
    pub epoch: u64,
    /// Since when.
    pub since: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

impl ResumeAnswerBody {
    /// Shows the gate.
    pub fn of(gate: GateStatus) -> Self {
        Self {
            state: gate.state.as_str(),
            epoch: gate.epoch,
            since: time::format(gate.since),
            by: gate.by,
            reason: gate.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_body_keeps_a_stop_from_stopping() {
        let unreadable: [&[u8]; 9] = [
            b"",
            b"  ",
            b"{",
            b"\xff\xfe",
            b"reason=panic",
            b"[]",
            b"{\"reason\":5}",
            b"{\"reducing\":\"yes\"}",
            b"{\"unknown\":1}",
        ];
        for body in unreadable {
            let stop = Stop::read(body);
            assert_eq!((stop.state, stop.cancel_open_orders), (TradingState::Halted, true));
        }
        let scoped = Stop::read(br#"{"scope":"feed:breakout","reducing":true,"cancel_open_orders":false}"#);
        assert_eq!((scoped.state, scoped.cancel_open_orders), (TradingState::Halted, true));
        assert_eq!(scoped.warnings.len(), 1);
    }

    #[test]
    fn a_readable_stop_does_what_it_asks_for() {
        let stop = Stop::read(br#"{"reason":"drill","reducing":true,"cancel_open_orders":false,"scope":"global"}"#);
        let expected = Stop {
            state: TradingState::Reducing,
            reason: Some("drill".to_owned()),
            cancel_open_orders: false,
            warnings: Vec::new(),
        };
        assert_eq!(stop, expected);
        assert_eq!(Stop::read(br#"{"flatten":true,"freeze_exits":true}"#).warnings.len(), 2);
        assert_eq!(Stop::read(b"{}").warnings.len(), 0);
    }
}
