//! What stands in the values: JSON that a person can read, behind a stamp where the newest has to win.
//!
//! A stamp is 20 digits, so that texts compare as the numbers do, in a script as here.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use nexus_actors::ports::{InstanceRole, KeptAnswer, Presence, TradingStateRecord};
use nexus_engine::account::Decision;
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::Timestamp;
use nexus_engine::signal::Signal;
use serde::{Deserialize, Serialize};

/// Bytes of a stamp.
pub(super) const STAMP_LENGTH: usize = 20;

/// A value whose newest has to win.
pub(super) fn stamped<T: Serialize>(stamp: u64, value: &T) -> serde_json::Result<Vec<u8>> {
    let mut text = format!("{stamp:0STAMP_LENGTH$}").into_bytes();
    serde_json::to_writer(&mut text, value)?;
    Ok(text)
}

/// The stamp of a time. Nothing here is older than the epoch.
pub(super) fn stamp_of(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap_or(0)
}

/// Milliseconds, as expiry takes them; at least one.
pub(super) fn millis(time: Duration) -> u64 {
    /// What expires later than in a thousand years is as good as kept.
    const MAX_MS: u64 = 1_000 * 365 * 24 * 3_600 * 1_000;
    u64::try_from(time.as_millis()).unwrap_or(MAX_MS).clamp(1, MAX_MS)
}

#[derive(Serialize, Deserialize)]
pub(super) struct State {
    state: TradingState,
    epoch: u64,
    since: Timestamp,
    by: String,
    reason: Option<String>,
}

impl From<State> for TradingStateRecord {
    fn from(text: State) -> Self {
        let State { state, epoch, since, by, reason } = text;
        Self { scope: Scope::Everything, state, epoch, since, by, reason }
    }
}

impl From<&TradingStateRecord> for State {
    fn from(record: &TradingStateRecord) -> Self {
        let TradingStateRecord { scope: _, state, epoch, since, by, reason } = record.clone();
        Self { state, epoch, since, by, reason }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) signal: Arc<Signal>,
    pub(super) decisions: Vec<Arc<Decision>>,
}

impl From<&KeptAnswer> for Answer {
    fn from(answer: &KeptAnswer) -> Self {
        Self { signal: Arc::clone(&answer.signal), decisions: answer.decisions.clone() }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Instance {
    name: CompactString,
    role: Role,
    fence: u64,
    since: Timestamp,
    /// Makes each word of an instance another: so it knows its last one again.
    beat: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Owner,
    Standby,
}

impl Instance {
    pub(super) fn of(presence: &Presence, beat: u64) -> Self {
        let role = match presence.role {
            InstanceRole::Owner => Role::Owner,
            InstanceRole::Standby => Role::Standby,
        };
        Self { name: presence.name.clone(), role, fence: presence.fence, since: presence.since, beat }
    }
}

impl From<Instance> for Presence {
    fn from(text: Instance) -> Self {
        let role = match text.role {
            Role::Owner => InstanceRole::Owner,
            Role::Standby => InstanceRole::Standby,
        };
        Self { name: text.name, role, fence: text.fence, since: text.since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_compare_as_their_numbers_do() {
        let texts = [0, 9, 10, u64::MAX - 1, u64::MAX].map(|stamp| stamped(stamp, &1).unwrap());
        assert!(texts.is_sorted());
        assert!(texts.iter().all(|text| text.len() == STAMP_LENGTH + 1));
    }
}
