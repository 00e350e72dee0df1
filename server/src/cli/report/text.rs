//! The report for a terminal: what a trader wants to see on one screen.
//!
//! Some fifty lines of at most a hundred columns, rounded to cents; what does not fit (users beyond the first ones, every
//! digit) is in the JSON and on the page. What does not add up is always shown, however long.

use std::fmt::Write as _;

use super::Report;
use super::amounts::{count, money, percent, signed, used};
use super::figures::{Figures, Results, Trade};
use crate::cli::output;
use crate::wire::time;

/// The widest line.
const WIDTH: usize = 100;
/// Users that are shown; a screen has no place for a thousand.
const USERS: usize = 10;

pub(super) fn of(report: &Report) -> String {
    let figures = &report.figures;
    let mut parts = vec![head(report), totals(report), users(figures), limits(figures)];
    parts.extend(examples(figures));
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
    let (accepted, rejected) = (count(figures.accepted), count(figures.rejected()));
    let mut lines =
        vec![("decisions", format!("{} ({accepted} accepted, {rejected} refused)", count(figures.decisions)))];
    let refused: Vec<String> = figures.refused.iter().map(|(reason, n)| format!("{reason} {}", count(*n))).collect();
    lines.extend(in_lines("refused", &refused));
    lines.push(("orders", format!("{}, {} fills", count(figures.orders), count(figures.fills))));
    let (net, gross, fees) = (signed(all.net), signed(all.gross), money(all.fees));
    lines.push(("P&L", format!("{net} {} net = {gross} gross - {fees} fees", report.currency)));
    lines.extend(in_lines("trades", &trades(all)));
    if let Some((user, day)) = &figures.worst_day {
        let together = all.worst_day.map(|day| format!("{} of all together on {}", signed(day.net), day.day));
        let own = format!("{} of {user} on {}", signed(day.net), day.day);
        lines.extend(in_lines("worst day", &[own].into_iter().chain(together).collect::<Vec<_>>()));
    }
    if let Some((user, fall)) = &figures.largest_drawdown {
        let from = fall.from.or(report.facts.first).map_or_else(String::new, |from| format!(", from {}", from.day()));
        let (amount, share) = (money(fall.amount), percent(fall.percent));
        lines.push(("drawdown", format!("{amount} ({share}) of {user}{from} to {}", fall.to.day())));
    }
    let exits = figures.exits.iter().map(|(kind, n)| format!("{} {}", kind.in_words(), count(*n)));
    lines.extend(in_lines("exits", &exits.collect::<Vec<_>>()));
    lines.push(("", gaps(figures)));
    if !figures.open_positions.is_empty() {
        let (open, worth) = (figures.open_positions.len(), signed(all.unrealized));
        lines.push(("open", format!("{} positions at the end, {worth} at the last mark", count(open))));
    }
    output::pairs(&lines)
}

/// What a gap is and what all of them cost: why a day can lose more than was admitted.
pub(super) fn gaps(figures: &Figures) -> String {
    let cost = money(figures.cost_of_gaps);
    format!("a gap is a stop filled beyond the slippage allowed for; all together cost {cost}")
}

fn trades(results: &Results) -> Vec<String> {
    let won = format!("{}: {} won", count(results.trades), count(results.wins));
    let mut parts = vec![won, format!("{} lost", count(results.losses))];
    parts.extend(results.win_rate().map(|rate| format!("win rate {}", percent(rate))));
    parts.extend(results.average_win.map(|amount| format!("average win {}", signed(amount))));
    parts.extend(results.average_loss.map(|amount| format!("average loss {}", signed(amount))));
    parts
}

/// `parts` with commas between, in as many lines as they need; the name stands before the first.
fn in_lines<'a>(name: &'a str, parts: &[String]) -> Vec<(&'a str, String)> {
    // Room for the longest name and its distance.
    let width = WIDTH - "decisions  ".len();
    let mut lines = vec![(name, String::new())];
    for (n, part) in parts.iter().enumerate() {
        let part = if n + 1 < parts.len() { format!("{part},") } else { part.clone() };
        let line = lines.last().map_or(0, |(_, line)| line.chars().count());
        if line > 0 && line + 1 + part.chars().count() > width {
            lines.push(("", String::new()));
        }
        if let Some((_, line)) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(&part);
        }
    }
    lines
}

fn users(figures: &Figures) -> String {
    let rows: Vec<[String; 8]> = figures
        .users
        .iter()
        .take(USERS)
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
    let mut table =
        output::table(["USER", "BEGAN", "NOW", "P&L", "TRADES", "WIN RATE", "WORST DAY", "DRAWDOWN"], &rows);
    if let Some(more) = figures.users.len().checked_sub(USERS).filter(|more| *more > 0) {
        // Writing to a String cannot fail.
        let _ = write!(table, "\nand {} more, all of whom --json and --html show", count(more));
    }
    table
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
            [busiest.limit.to_string(), used, allowed, percent(busiest.share()), busiest.user.clone(), at]
        })
        .collect();
    output::table(["LIMIT", "MOST USED", "OF", "SHARE", "BY", "AT"], &rows)
}

fn examples(figures: &Figures) -> Vec<String> {
    let named = [("largest win", &figures.largest_win), ("largest loss", &figures.largest_loss)];
    named.into_iter().filter_map(|(name, trade)| Some(example(name, trade.as_ref()?))).collect()
}

/// A trade with every number that is needed to check it by hand.
pub(super) fn example(name: &str, trade: &Trade) -> String {
    let exit = trade.exit.map_or("-", super::figures::ExitKind::in_words);
    let side = trade.side.as_str();
    let lines = [
        format!("{name}: {} ({})", trade.signal_key, trade.user),
        format!(
            "  {side} {} at {} on {}, stop {}, target {}",
            trade.quantity,
            trade.entry_price,
            time::format(trade.opened_at),
            trade.stop_loss,
            trade.take_profit
        ),
        format!(
            "  left at {} on {} ({exit}; stop then {})",
            trade.exit_price,
            time::format(trade.closed_at),
            trade.last_stop
        ),
        format!(
            "  {} - {} = {} gross; less fees of {}: {} net",
            trade.proceeds(),
            trade.outlay(),
            trade.gross,
            trade.fees,
            trade.net
        ),
        format!("  at risk were {} of an equity of {}", trade.risk, trade.equity),
    ];
    lines.join("\n")
}
