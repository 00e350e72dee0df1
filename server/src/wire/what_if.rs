//! The answer to a what-if: how a signal would be decided now, and what each limit would have left.
//!
//! It has the counts and reasons of the answer to a real signal, and no ids: there is no decision and no order that could be
//! asked for later.

use std::collections::BTreeMap;

use nexus_actors::preview::{Preview, SignalPreview};
use nexus_engine::headroom::Headroom;
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// Decisions shown in one answer, as of a real signal.
const DECISIONS_SHOWN_MAX: usize = 100;

/// How a signal would be decided now.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = WhatIf)]
pub struct WhatIfBody {
    /// Always true: nothing was decided.
    pub dry_run: bool,
    /// Subscribers that would be decided.
    pub decided: usize,
    /// Of those, accepted.
    pub accepted: usize,
    /// Of those, rejected.
    pub rejected: usize,
    /// How often each reason would be given.
    pub reasons: BTreeMap<&'static str, usize>,
    /// Subscribers whose account cannot be decided.
    pub undecidable: usize,
    /// The first 100, by user.
    pub decisions: Vec<WouldBody>,
}

/// How it would be decided for one user.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Would)]
pub struct WouldBody {
    /// For whom.
    pub user_id: String,
    /// `accepted` or `rejected`.
    #[schema(example = "accepted")]
    pub verdict: &'static str,
    /// How much, when accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2400")]
    pub quantity: Option<String>,
    /// The worst-case loss that would be reserved, when accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "4.80")]
    pub risk: Option<String>,
    /// Why not, when rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<&'static str>>,
    /// What each limit would have left afterwards.
    pub left: LeftBody,
}

/// What the limits of an account leave, in its currency and for the signal's symbol, side and timeframe.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Left)]
pub struct LeftBody {
    /// The UTC day of the figures.
    #[schema(example = "2026-11-24")]
    pub day: String,
    /// What may still be lost, at risk or in flight on this day.
    #[schema(example = "5.19")]
    pub daily_loss: String,
    /// What one trade may risk; not used up by trades.
    #[schema(example = "5.00")]
    pub risk_per_trade: String,
    /// Acceptances left of the day's for the timeframe.
    pub timeframe_trades: u32,
    /// Positions that may still be opened.
    pub open_positions: u32,
    /// Entries that may still be accepted within this minute.
    pub orders_this_minute: u32,
    /// What further positions may be worth together.
    #[schema(example = "248000.00")]
    pub exposure: String,
    /// The end of the window in which a repetition is refused; null when it is not open.
    pub duplicate_until: Option<String>,
    /// Losing trades in a row that would start a cool-down.
    pub losing_trades: u32,
    /// The end of the cool-down; null when there is none.
    pub cooling_until: Option<String>,
}

impl WhatIfBody {
    /// Shows a preview.
    pub fn of(preview: &SignalPreview) -> Self {
        let (mut reasons, mut accepted) = (BTreeMap::new(), 0);
        for preview in &preview.previews {
            match &preview.verdict {
                Ok(_) => accepted += 1,
                Err(why) => why.iter().for_each(|reason| *reasons.entry(reason.code()).or_insert(0) += 1),
            }
        }
        let decided = preview.previews.len();
        Self {
            dry_run: true,
            decided,
            accepted,
            rejected: decided - accepted,
            reasons,
            undecidable: preview.undecidable,
            decisions: preview.previews.iter().take(DECISIONS_SHOWN_MAX).map(WouldBody::of).collect(),
        }
    }
}

impl WouldBody {
    fn of(preview: &Preview) -> Self {
        let (verdict, trade, reasons) = match &preview.verdict {
            Ok(trade) => ("accepted", Some(trade), None),
            Err(reasons) => ("rejected", None, Some(reasons.iter().map(|reason| reason.code()).collect())),
        };
        Self {
            user_id: preview.user.to_string(),
            verdict,
            quantity: trade.map(|trade| trade.quantity.to_string()),
            risk: trade.map(|trade| trade.risk.to_string()),
            reasons,
            left: LeftBody::of(&preview.left),
        }
    }
}

impl LeftBody {
    fn of(left: &Headroom) -> Self {
        Self {
            day: left.day.to_string(),
            daily_loss: left.daily_loss.to_string(),
            risk_per_trade: left.trade_risk.to_string(),
            timeframe_trades: left.timeframe_trades,
            open_positions: left.open_positions,
            orders_this_minute: left.orders_this_minute,
            exposure: left.exposure.to_string(),
            duplicate_until: left.duplicate_until.map(time::format),
            losing_trades: left.losing_trades,
            cooling_until: left.cooling_until.map(time::format),
        }
    }
}
