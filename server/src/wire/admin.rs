//! The kill switch on the wire.
//!
//! A stop is read so that nothing in its body can keep it from stopping: what cannot be read, or is not understood,
//! stops everything. A resume is read like any other body.

use nexus_actors::engine::{EngineStatus, Flattened, GateStatus, StopAnswer};
use nexus_engine::gate::{Scope, TradingState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{json, time};

/// The longest reason that is kept, in characters; a longer one is cut.
const REASON_CHARS_MAX: usize = 500;

/// What a stop covers: `"global"`, or one thing by its id or name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Scope, example = json!({"symbol": "EURUSD"}))]
pub enum ScopeBody {
    /// Everything.
    #[default]
    Global,
    /// Whatever trades at the venue of this name.
    Venue(String),
    /// Whatever trades this symbol.
    Symbol(String),
    /// Whatever the feed of this id signals.
    Feed(String),
    /// Whatever the user of this id trades.
    User(String),
}

impl ScopeBody {
    /// The scope; in words, why there is none.
    pub fn read(&self) -> Result<Scope, String> {
        let parse =
            |kind, name: &str| Scope::parse(kind, name).map_err(|_| format!("{name:?} is not the name of a {kind}"));
        match self {
            Self::Global => Ok(Scope::Everything),
            Self::Venue(name) => parse("venue", name),
            Self::Symbol(name) => parse("symbol", name),
            Self::Feed(id) => parse("feed", id),
            Self::User(id) => parse("user", id),
        }
    }
}

impl From<&Scope> for ScopeBody {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::Everything => Self::Global,
            Scope::Venue(_) => Self::Venue(scope.name()),
            Scope::Symbol(_) => Self::Symbol(scope.name()),
            Scope::Feed(_) => Self::Feed(scope.name()),
            Scope::User(_) => Self::User(scope.name()),
        }
    }
}

/// What to stop. May be empty or absent: then everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Stop, example = json!({"reason": "runaway feed"}))]
pub struct StopBody {
    /// Why.
    pub reason: Option<String>,
    /// Whether working entries are cancelled; true when absent. Protection is never cancelled.
    pub cancel_open_orders: Option<bool>,
    /// Whether open positions are closed at the market, after the cancels.
    pub flatten: Option<bool>,
    /// Not carried out in this release; the stop is made, and the answer says so.
    pub freeze_exits: Option<bool>,
    /// Allows orders that shrink a position, instead of none.
    pub reducing: Option<bool>,
    /// What to stop; everything when absent, or when nothing of that name is known.
    pub scope: Option<ScopeBody>,
}

/// What a stop was understood to ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// What.
    pub scope: Scope,
    /// `Halted` or `Reducing`.
    pub state: TradingState,
    /// Why.
    pub reason: Option<String>,
    /// Whether working entries are cancelled.
    pub cancel_open_orders: bool,
    /// Whether open positions are closed.
    pub flatten: bool,
    /// What was asked for and is not done, in words.
    pub warnings: Vec<String>,
}

impl Stop {
    /// Everything, because what was asked for is not known.
    pub fn everything(why: &str) -> Self {
        Self {
            scope: Scope::Everything,
            state: TradingState::Halted,
            reason: None,
            cancel_open_orders: true,
            flatten: false,
            warnings: vec![format!("{why}; everything was stopped")],
        }
    }

    /// The same stop of everything: what was to be stopped is not known. Positions of others are not closed by a slip.
    pub fn widened(mut self, why: &str) -> Self {
        if self.flatten {
            self.warnings.push("nothing was closed: it is not known what was to be".to_owned());
        }
        let mut wide = Self { reason: self.reason, ..Self::everything(why) };
        wide.warnings.extend(self.warnings);
        wide
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
        let scope = body.scope.unwrap_or_default().read();
        if body.freeze_exits == Some(true) {
            warnings.push("freeze_exits is not in this release; protective exits may still leave".to_owned());
        }
        let stop = Self {
            scope: Scope::Everything,
            state: if body.reducing == Some(true) { TradingState::Reducing } else { TradingState::Halted },
            reason: body.reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect()),
            cancel_open_orders: body.cancel_open_orders.unwrap_or(true),
            flatten: body.flatten == Some(true),
            warnings,
        };
        match scope {
            Ok(scope) => Self { scope, ..stop },
            Err(why) => stop.widened(&why),
        }
    }
}

/// What a stop did.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StopAnswer)]
pub struct StopAnswerBody {
    /// What is stopped.
    pub scope: ScopeBody,
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
    /// What became of closing the positions, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flattened: Option<FlattenedBody>,
    /// The instances that have stopped.
    pub instances: InstancesBody,
    /// What was asked for and is not done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What became of closing the positions by the time of the answer.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Flattened)]
pub struct FlattenedBody {
    /// Exits that were sent.
    pub exits: usize,
    /// Positions that are not known to be closed; they go on being closed as long as the stop is in force.
    pub still_open: usize,
    /// Whether none is.
    pub complete: bool,
}

impl From<Flattened> for FlattenedBody {
    fn from(flattened: Flattened) -> Self {
        let Flattened { exits, still_open } = flattened;
        Self { exits, still_open, complete: still_open == 0 }
    }
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
            scope: (&answer.scope).into(),
            state: answer.state.as_str(),
            epoch: answer.epoch,
            engaged_at: time::format(answer.engaged_at),
            by: answer.by,
            reason: answer.reason,
            persisted: answer.persisted,
            cancelled_orders: answer.cancelled_orders,
            flattened: answer.flattened.map(FlattenedBody::from),
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
    /// What to resume; what was stopped of everything when absent. Each stop is lifted by its own scope.
    pub scope: Option<ScopeBody>,
}

/// The state in force after a resume.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ResumeAnswer)]
pub struct ResumeAnswerBody {
    /// What is resumed.
    pub scope: ScopeBody,
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
    /// What is stopped all the same.
    pub still_stopped: Vec<StoppedBody>,
}

/// A scope that is stopped.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Stopped)]
pub struct StoppedBody {
    /// What.
    pub scope: ScopeBody,
    /// `reducing` or `halted`.
    #[schema(example = "halted")]
    pub state: &'static str,
    /// Rises with every change of any state.
    pub epoch: u64,
    /// Since when.
    pub since: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

impl From<GateStatus> for StoppedBody {
    fn from(gate: GateStatus) -> Self {
        Self {
            scope: (&gate.scope).into(),
            state: gate.state.as_str(),
            epoch: gate.epoch,
            since: time::format(gate.since),
            by: gate.by,
            reason: gate.reason,
        }
    }
}

/// Everything that is stopped.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Stops)]
pub struct StopsBody {
    /// The stop of everything first, when there is one.
    pub items: Vec<StoppedBody>,
}

impl StopsBody {
    /// Shows every stop that is in force.
    pub fn of(status: EngineStatus) -> Self {
        let everything = (status.gate.state != TradingState::Active).then_some(status.gate);
        Self { items: everything.into_iter().chain(status.stopped).map(StoppedBody::from).collect() }
    }
}

impl ResumeAnswerBody {
    /// Shows the gate, and what else is stopped.
    pub fn of(gate: GateStatus, status: EngineStatus) -> Self {
        Self {
            scope: (&gate.scope).into(),
            still_stopped: StopsBody::of(status).items,
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
        for scope in
            [r#""feed:breakout""#, r#"{"symbol":"eurusd"}"#, r#"{"feed":"breakout"}"#, r#"{"planet":"x"}"#, "{}"]
        {
            let body = format!(r#"{{"scope":{scope},"reducing":true,"cancel_open_orders":false}}"#);
            let stop = Stop::read(body.as_bytes());
            let read = (stop.scope, stop.state, stop.cancel_open_orders, stop.warnings.len());
            assert_eq!(read, (Scope::Everything, TradingState::Halted, true, 1), "{scope}");
        }
    }

    #[test]
    fn a_readable_stop_does_what_it_asks_for() {
        let stop = Stop::read(br#"{"reason":"drill","reducing":true,"cancel_open_orders":false,"scope":"global"}"#);
        let expected = Stop {
            scope: Scope::Everything,
            state: TradingState::Reducing,
            reason: Some("drill".to_owned()),
            cancel_open_orders: false,
            flatten: false,
            warnings: Vec::new(),
        };
        assert_eq!(stop, expected);
        let stop = Stop::read(br#"{"flatten":true,"freeze_exits":true}"#);
        assert_eq!((stop.flatten, stop.warnings.len()), (true, 1));
        let slip = Stop::read(br#"{"flatten":true,"scope":{"feed":"x"}}"#);
        assert_eq!((slip.scope, slip.flatten, slip.warnings.len()), (Scope::Everything, false, 2));
        assert_eq!(Stop::read(b"{}").warnings.len(), 0);
        let id = "00000000-0000-0000-0000-000000000001";
        for (kind, name) in [("feed", id), ("user", id), ("symbol", "EURUSD"), ("venue", "paper")] {
            let body = format!(r#"{{"scope":{{"{kind}":"{name}"}},"reducing":true}}"#);
            let stop = Stop::read(body.as_bytes());
            let scope = Scope::parse(kind, name).unwrap();
            assert_eq!((stop.state, stop.warnings.len()), (TradingState::Reducing, 0), "{body}");
            assert_eq!(serde_json::to_string(&ScopeBody::from(&scope)).unwrap(), format!(r#"{{"{kind}":"{name}"}}"#));
            assert_eq!(stop.scope, scope);
        }
    }
}
