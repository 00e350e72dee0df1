//! The report as a page of its own: no script, no network, light and dark by the reader's own choice.
//!
//! The figures are those of the text; each user has an equity curve with the drawdowns under it, on the same time axis.

use std::fmt::Write as _;

use nexus_engine::ids::Timestamp;
use nexus_engine::units::Money;

use super::Report;
use super::amounts::{count, money, percent, signed, used};
use super::chart::Chart;
use super::figures::{Results, UserFigures};
use super::text::example;
use crate::wire::time;

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1e21;--dim:#6a6f76;--line:#e4e5e7;--up:#0b7a53;--down:#b3261e;--curve:#2458c5}\
@media(prefers-color-scheme:dark){:root{--bg:#111315;--card:#191c1f;--ink:#e8eaed;--dim:#9aa0a6;--line:#2c3035;--up:#4cc38a;--down:#ff8a80;--curve:#7ea8ff}}\
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}\
main{max-width:1040px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:36px 0 12px}\
p{margin:0 0 12px}.dim{color:var(--dim)}.up{color:var(--up)}.down{color:var(--down)}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}\
.card,.user,.scroll{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}\
.card b{display:block;font-size:21px;font-weight:600}.scroll{overflow-x:auto;padding:4px 16px}\
table{border-collapse:collapse;width:100%;white-space:nowrap}th,td{padding:7px 12px 7px 0;text-align:right;border-bottom:1px solid var(--line)}\
th{color:var(--dim);font-weight:500}th:first-child,td:first-child{text-align:left}tr:last-child td{border:0}\
.users{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:16px}.user h3{margin:0;font-size:15px}\
.chart{display:block;width:100%;height:auto}.chart text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--line);stroke-width:1}\
.line{fill:none;stroke:var(--curve);stroke-width:1.6}.drawdown .line{stroke:var(--down)}.drawdown .area{fill:var(--down);opacity:.16}\
pre{margin:0;padding:14px 0;white-space:pre-wrap;font:13px/1.55 ui-monospace,monospace}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}";

pub(super) fn of(report: &Report) -> String {
    let facts = &report.facts;
    let title = format!("{} replayed from {}", escape(&facts.symbol), escape(&facts.source));
    let body = [head(report, &title), cards(report), tables(report), charts(report), examples(report), closing(report)];
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,\
         initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\n{}\n</main></body></html>\n",
        body.join("\n")
    )
}

fn head(report: &Report, title: &str) -> String {
    let facts = &report.facts;
    let (from, to) = span(report);
    format!(
        "<h1>{title}</h1><p class=\"dim\">{} to {} · {} bars · {} marks · {} signals · {} users · {:.1} s</p>",
        from.day(),
        to.day(),
        count(facts.bars),
        count(facts.marks),
        count(facts.signals),
        facts.users.len(),
        facts.elapsed.as_secs_f64()
    )
}

fn cards(report: &Report) -> String {
    let (figures, all) = (&report.figures, &report.figures.together);
    let none = || "–".to_owned();
    let worst = figures.worst_day.as_ref();
    let deepest = figures.largest_drawdown.as_ref();
    let cards = [
        ("net P&amp;L", coloured(all.net), format!("{} gross, {} fees", signed(all.gross), money(all.fees))),
        (
            "win rate",
            all.win_rate().map_or_else(none, percent),
            format!("{} of {} trades", count(all.wins), count(all.trades)),
        ),
        (
            "worst day of a user",
            worst.map_or_else(none, |(_, day)| coloured(day.net)),
            worst.map_or_else(none, |(user, day)| format!("{} on {}", escape(user), day.day)),
        ),
        (
            "largest drawdown",
            deepest.map_or_else(none, |(_, fall)| coloured(fall.amount.negated())),
            deepest.map_or_else(none, |(user, fall)| format!("{} of {}", percent(fall.percent), escape(user))),
        ),
        (
            "decisions",
            count(figures.decisions),
            format!("{} accepted, {} refused", count(figures.accepted), count(figures.rejected())),
        ),
        ("orders", count(figures.orders), format!("{} fills", count(figures.fills))),
    ];
    let card = |(name, value, more): (&str, String, String)| {
        format!(
            "<div class=\"card\"><span class=\"dim\">{name}</span><b>{value}</b><span class=\"dim\">{more}</span></div>"
        )
    };
    format!("<div class=\"cards\">{}</div>", cards.map(card).join(""))
}

fn tables(report: &Report) -> String {
    let figures = &report.figures;
    let users = figures.users.iter().map(|user| {
        let results = &user.results;
        let none = || "–".to_owned();
        vec![
            escape(&user.username),
            money(results.curve.start),
            money(user.equity),
            coloured(results.net),
            results.trades.to_string(),
            results.win_rate().map_or_else(none, percent),
            results.worst_day.map_or_else(none, |day| coloured(day.net)),
            results.largest_drawdown.map_or_else(none, |fall| money(fall.amount)),
        ]
    });
    let limits = figures.limits.iter().map(|busiest| {
        let (used, allowed) = used(busiest);
        let at = time::format(busiest.at);
        vec![escape(&busiest.limit), used, allowed, percent(busiest.share()), escape(&busiest.user), at]
    });
    let refused = figures.refused.iter().map(|(reason, n)| vec![escape(reason), count(*n)]);
    let exits = figures.exits.iter().map(|(kind, n)| vec![kind.in_words().to_owned(), count(*n)]);
    [
        table("Users", &["user", "began", "now", "P&amp;L", "trades", "win rate", "worst day", "drawdown"], users),
        table("Limits: the most that was ever used of each", &["limit", "used", "of", "share", "by", "at"], limits),
        table("Refused, by reason", &["reason", "decisions"], refused),
        table("Exits, by kind", &["kind", "exits"], exits),
        format!(
            "<p class=\"dim\">A gap is a stop that the market jumped over: filled beyond the slippage that its size allowed for. \
             Together they cost {} more than at the prices of their stops.</p>",
            money(figures.cost_of_gaps)
        ),
    ]
    .join("\n")
}

fn table(title: &str, heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading: String = heading.iter().map(|name| format!("<th>{name}</th>")).collect();
    let row = |cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr>{cells}</tr>")
    };
    let rows: String = rows.map(row).collect();
    format!("<h2>{title}</h2><div class=\"scroll\"><table><tr>{heading}</tr>{rows}</table></div>")
}

fn charts(report: &Report) -> String {
    let span = span(report);
    let users: String = report.figures.users.iter().map(|user| charts_of(user, span)).collect();
    format!("<h2>Equity and drawdown, as realised</h2><div class=\"users\">{users}</div>")
}

fn charts_of(user: &UserFigures, span: (Timestamp, Timestamp)) -> String {
    let Results { curve, net, .. } = &user.results;
    let name = escape(&user.username);
    let falls = curve.falls();
    let equity = Chart {
        title: &format!("equity of {name}"),
        class: "equity",
        points: &curve.points,
        start: curve.start,
        span,
        height: 180.0,
        filled: false,
        dated: false,
    };
    let drawdown = Chart {
        title: &format!("drawdown of {name}"),
        class: "drawdown",
        points: &falls,
        start: Money::ZERO,
        height: 100.0,
        filled: true,
        dated: true,
        ..equity
    };
    let (equity, drawdown) = (equity.to_svg(), drawdown.to_svg());
    format!("<div class=\"user\"><h3>{name} {}</h3>{equity}{drawdown}</div>", coloured(*net))
}

fn examples(report: &Report) -> String {
    let figures = &report.figures;
    let named = [("the largest win", &figures.largest_win), ("the largest loss", &figures.largest_loss)];
    let texts = named.into_iter().filter_map(|(name, trade)| Some(escape(&example(name, trade.as_ref()?))));
    let texts = texts.collect::<Vec<_>>().join("\n\n");
    if texts.is_empty() {
        return String::new();
    }
    format!("<h2>Two trades to check by hand</h2><div class=\"scroll\"><pre>{texts}</pre></div>")
}

fn closing(report: &Report) -> String {
    let figures = &report.figures;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if !figures.open_positions.is_empty() {
        let (n, worth) = (figures.open_positions.len(), money(figures.together.unrealized));
        let _ = write!(text, "<p>{n} positions are open at the end, worth {worth} at the last mark.</p>");
    }
    let _ = write!(
        text,
        "<h2>The same run gives the same decisions</h2><p class=\"dim\">SHA-256 over all decisions in order: <code>{}</code></p>",
        figures.decisions_sha256
    );
    if !figures.inconsistencies.is_empty() {
        let faults: String =
            figures.inconsistencies.iter().map(|fault| format!("<li>{}</li>", escape(fault))).collect();
        let _ = write!(text, "<h2 class=\"down\">What does not add up</h2><ul>{faults}</ul>");
    }
    text
}

/// The time that all charts show.
fn span(report: &Report) -> (Timestamp, Timestamp) {
    let points = || report.figures.together.curve.points.iter().map(|(at, _)| *at);
    let first = report.facts.first.or_else(|| points().next()).unwrap_or(Timestamp::ZERO);
    let last = report.facts.last.or_else(|| points().next_back()).unwrap_or(first);
    (first, last)
}

fn coloured(amount: Money) -> String {
    let class = if amount < Money::ZERO { "down" } else { "up" };
    format!("<span class=\"{class}\">{}</span>", signed(amount))
}

/// A text as it may stand in a page or an attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place() {
        assert_eq!(escape("<script src='x'>&\""), "&lt;script src=&#39;x&#39;&gt;&amp;&quot;");
    }
}
