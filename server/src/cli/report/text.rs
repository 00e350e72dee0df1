//! The report for a terminal: what a trader wants to see on one screen.

use std::fmt::Write as _;

use super::Report;
use super::amounts::{count, money, percent, signed, used};
use super::figures::{Figures, Trade};
use crate::cli::output;
use crate::wire::time;

pub(super) fn of(report: &Report) -> String {
    let figures = &report.figures;
    let mut parts = vec![head(report), totals(report), exits(figures), users(figures), limits(figures)];
    parts.extend(examples(figures));
    parts.push(open_positions(figures));
    parts.push(format!("decisions_sha256  {}", figures.decisions_sha256));
    if !figures.inconsistencies.is_empty() {
        parts.push(format!("WHAT DOES NOT ADD UP\n{}", figures.inconsistencies.join("\n")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn head(report: &Report) -> String {
    let facts = &report.facts;
    let day = |at: Option<nexus_engine::ids::Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.day().to_string());
    let (marks, decisions) = (report.per_second(facts.marks), report.per_second(report.figures.decisions as u64));
    format!(
        "{} from {}, {} to {}\n{} bars, {} marks, {} signals in {:.1} s ({marks:.0} marks/s, {decisions:.0} decisions/s)",
        facts.symbol,
        facts.source,
        day(facts.first),
        day(facts.last),
        count(facts.bars),
        count(facts.marks),
        count(facts.signals),
        facts.elapsed.as_secs_f64(),
    )
}

fn totals(report: &Report) -> String {
    let (figures, all) = (&report.figures, &report.figures.together);
    let refused: Vec<String> = figures.refused.iter().map(|(reason, n)| format!("{reason} {}", count(*n))).collect();
    let rate = all.win_rate().map_or_else(|| "-".to_owned(), percent);
    let average = |amount: Option<_>| amount.map_or_else(|| "-".to_owned(), signed);
    let mut lines = vec![
        (
            "decisions",
            format!(
                "{} ({} accepted, {} refused)",
                count(figures.decisions),
                count(figures.accepted),
                count(figures.rejected())
            ),
        ),
        ("refused", refused.join(", ")),
        ("orders", format!("{}, {} fills", count(figures.orders), count(figures.fills))),
        (
            "P&L",
            format!(
                "{} {} net = {} gross - {} fees",
                signed(all.net),
                report.currency,
                signed(all.gross),
                money(all.fees)
            ),
        ),
        (
            "trades",
            format!(
                "{}: {} won, {} lost, win rate {rate}, average win {}, average loss {}",
                count(all.trades),
                count(all.wins),
                count(all.losses),
                average(all.average_win),
                average(all.average_loss)
            ),
        ),
    ];
    if let Some((user, day)) = &figures.worst_day {
        lines.push(("worst day", format!("{} of {user} on {}", signed(day.net), day.day)));
    }
    if let Some((user, fall)) = &figures.largest_drawdown {
        let until = fall.to.day();
        lines
            .push(("drawdown", format!("{} ({}) of {user}, until {until}", money(fall.amount), percent(fall.percent))));
    }
    output::pairs(&lines)
}

fn exits(figures: &Figures) -> String {
    let kinds: Vec<String> =
        figures.exits.iter().map(|(kind, n)| format!("{} {}", kind.in_words(), count(*n))).collect();
    format!(
        "exits  {}\n       A gap is a stop that the market jumped over, filled beyond the slippage that its size allowed for.\n       \
         Together they cost {} more than at the prices of their stops.",
        kinds.join(", "),
        money(figures.cost_of_gaps)
    )
}

fn users(figures: &Figures) -> String {
    let rows: Vec<[String; 8]> = figures
        .users
        .iter()
        .map(|user| {
            let results = &user.results;
            [
                user.username.clone(),
                money(results.curve.start),
                money(user.equity),
                signed(results.net),
                results.trades.to_string(),
                results.win_rate().map_or_else(|| "-".to_owned(), percent),
                results.worst_day.map_or_else(|| "-".to_owned(), |day| signed(day.net)),
                results.largest_drawdown.map_or_else(|| "-".to_owned(), |fall| money(fall.amount)),
            ]
        })
        .collect();
    output::table(["USER", "BEGAN", "NOW", "P&L", "TRADES", "WIN RATE", "WORST DAY", "DRAWDOWN"], &rows)
}

fn limits(figures: &Figures) -> String {
    if figures.limits.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; 6]> = figures
        .limits
        .iter()
        .map(|busiest| {
            let (used, allowed) = used(busiest);
            let at = time::format(busiest.at);
            [busiest.limit.clone(), used, allowed, percent(busiest.share()), busiest.user.clone(), at]
        })
        .collect();
    output::table(["LIMIT", "MOST USED", "OF", "SHARE", "BY", "AT"], &rows)
}

fn examples(figures: &Figures) -> Vec<String> {
    let named = [("the largest win", &figures.largest_win), ("the largest loss", &figures.largest_loss)];
    named.into_iter().filter_map(|(name, trade)| Some(example(name, trade.as_ref()?))).collect()
}

/// A trade with every number that is needed to check it by hand.
pub(super) fn example(name: &str, trade: &Trade) -> String {
    let mut text = format!("to check by hand, {name}: {} ({})\n", trade.signal_key, trade.user);
    let exit = trade.exit.map_or("-", super::figures::ExitKind::in_words);
    let side = trade.side.as_str();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "  {side} {} at {} on {}, stop {}, target {}, risk {} of equity {}\n  left at {} on {} ({exit}, stop then {}): \
         {} - {} = {} gross, fees {}, net {}",
        trade.quantity,
        trade.entry_price,
        time::format(trade.opened_at),
        trade.stop_loss,
        trade.take_profit,
        trade.risk,
        trade.equity,
        trade.exit_price,
        time::format(trade.closed_at),
        trade.last_stop,
        trade.proceeds(),
        trade.outlay(),
        trade.gross,
        trade.fees,
        trade.net,
    );
    text
}

fn open_positions(figures: &Figures) -> String {
    if figures.open_positions.is_empty() {
        return String::new();
    }
    let unrealized = money(figures.together.unrealized);
    format!("{} positions are open at the end, worth {unrealized} at the last mark", figures.open_positions.len())
}
