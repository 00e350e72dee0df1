//! The report for programs: one object with every digit, amounts as decimal strings.

use std::collections::BTreeMap;

use nexus_engine::ids::Timestamp;
use nexus_engine::units::{Money, Percent};
use serde_json::{Value, json};

use super::Report;
use super::figures::{Busiest, DayResult, Drawdown, OpenPosition, Results, Trade, Unit, UserFigures};
use crate::wire::time;

pub(super) fn of(report: &Report) -> Value {
    let (facts, figures) = (&report.facts, &report.figures);
    let all = &figures.together;
    let exits: BTreeMap<&str, usize> = figures.exits.iter().map(|(kind, n)| (kind.as_str(), *n)).collect();
    json!({
        "source": facts.source, "symbol": facts.symbol, "feed_id": facts.feed_id, "currency": report.currency,
        "first": facts.first.map(time::format), "last": facts.last.map(time::format),
        "bars": facts.bars, "marks": facts.marks, "signals": facts.signals,
        "decisions": figures.decisions, "accepted": figures.accepted, "rejected": figures.rejected(),
        "refused": figures.refused, "orders": figures.orders, "fills": figures.fills,
        "pnl": all.net.to_string(), "gross_pnl": all.gross.to_string(), "fees": all.fees.to_string(),
        "unrealized": all.unrealized.to_string(),
        "trades": all.trades, "wins": all.wins, "losses": all.losses, "win_rate": all.win_rate().map(text),
        "average_win": all.average_win.map(text), "average_loss": all.average_loss.map(text),
        "exits": exits, "cost_of_gaps": figures.cost_of_gaps.to_string(),
        "worst_day": figures.worst_day.as_ref().map(|(user, day)| worst_day(user, day)),
        "worst_day_together": all.worst_day.map(|day| json!({"day": day.day.to_string(), "pnl": day.net.to_string()})),
        "largest_drawdown": figures.largest_drawdown.as_ref().map(|(user, fall)| drawdown(Some(user), fall)),
        "largest_drawdown_together": all.largest_drawdown.as_ref().map(|fall| drawdown(None, fall)),
        "limits": figures.limits.iter().map(limit).collect::<Vec<_>>(),
        "users": figures.users.iter().map(user).collect::<Vec<_>>(),
        "open_positions": figures.open_positions.iter().map(open_position).collect::<Vec<_>>(),
        "examples": {"largest_win": figures.largest_win.as_ref().map(trade),
            "largest_loss": figures.largest_loss.as_ref().map(trade)},
        "elapsed_s": facts.elapsed.as_secs_f64(),
        "marks_per_s": report.per_second(facts.marks),
        "decisions_per_s": report.per_second(figures.decisions as u64),
        "decisions_sha256": figures.decisions_sha256,
        "inconsistencies": figures.inconsistencies,
    })
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

fn worst_day(user: &str, day: &DayResult) -> Value {
    json!({"day": day.day.to_string(), "user": user, "pnl": day.net.to_string()})
}

fn drawdown(user: Option<&str>, fall: &Drawdown) -> Value {
    json!({"user": user, "amount": fall.amount.to_string(), "percent": fall.percent.to_string(),
        "from": fall.from.map(time::format), "to": time::format(fall.to)})
}

fn limit(busiest: &Busiest) -> Value {
    let show = |steps: i64| match busiest.unit {
        Unit::Money => json!(Money::from_steps(steps).to_string()),
        Unit::Percent => json!(Percent::from_steps(steps).to_string()),
        Unit::Count => json!(steps),
    };
    json!({"limit": busiest.limit, "user": busiest.user, "at": time::format(busiest.at), "used": show(busiest.used),
        "allowed": show(busiest.allowed), "percent": busiest.share().to_string()})
}

fn user(user: &UserFigures) -> Value {
    let Results { gross, fees, net, unrealized, trades, wins, losses, worst_day, largest_drawdown, .. } = &user.results;
    json!({
        "username": user.username, "starting_equity": user.results.curve.start.to_string(),
        "equity": user.equity.to_string(), "pnl": net.to_string(), "gross_pnl": gross.to_string(),
        "fees": fees.to_string(), "unrealized": unrealized.to_string(), "trades": trades, "wins": wins, "losses": losses,
        "win_rate": user.results.win_rate().map(text),
        "worst_day": worst_day.map(|day| json!({"day": day.day.to_string(), "pnl": day.net.to_string()})),
        "largest_drawdown": largest_drawdown.as_ref().map(|fall| drawdown(None, fall)),
    })
}

fn open_position(position: &OpenPosition) -> Value {
    json!({
        "user": position.user, "decision_id": position.decision.to_string(), "symbol": position.symbol,
        "side": position.side.as_str(), "quantity": position.quantity.to_string(),
        "entry_price": position.entry_price.to_string(), "stop_loss": position.stop_loss.to_string(),
        "unrealized": position.unrealized.map(text), "opened_at": position.opened_at.map(time::format),
    })
}

fn trade(trade: &Trade) -> Value {
    let at = |time: Timestamp| time::format(time);
    json!({
        "user": trade.user, "decision_id": trade.decision.to_string(), "signal": trade.signal_key,
        "symbol": trade.symbol, "side": trade.side.as_str(), "timeframe": trade.timeframe.to_string(),
        "opened_at": at(trade.opened_at), "closed_at": at(trade.closed_at), "equity": trade.equity.to_string(),
        "risk": trade.risk.to_string(), "sized_at": trade.sized_at.to_string(), "stop_loss": trade.stop_loss.to_string(),
        "take_profit": trade.take_profit.to_string(), "last_stop": trade.last_stop.to_string(),
        "quantity": trade.quantity.to_string(), "entry_price": trade.entry_price.to_string(),
        "exit_price": trade.exit_price.to_string(), "entry_value": trade.entry_value.to_string(),
        "exit_value": trade.exit_value.to_string(), "exit": trade.exit.map(super::figures::ExitKind::as_str),
        "gross": trade.gross.to_string(), "fees": trade.fees.to_string(), "net": trade.net.to_string(), "fills": trade.fills,
    })
}
