//! The figures of a report, computed from records alone.
//!
//! Pure and exact: integers of 1e-8 steps in, integers out, nothing read and nothing rounded but averages and percentages,
//! which say how. What was realised is what fills realised; a trade is a position that is closed; a day is the UTC day of
//! a fill. Equity is looked at where something was realised, so a drawdown here is one of realised equity.

mod busiest;
mod checks;
mod curve;
mod digest;
mod lots;
mod trades;

use std::collections::BTreeMap;

use nexus_engine::ids::{DecisionId, Timestamp};
use nexus_engine::signal::Side;
use nexus_engine::units::{Money, Percent, Price, Quantity};

pub(super) use busiest::{Busiest, Unit};
pub(super) use curve::{Curve, DayResult, Drawdown};
pub(super) use trades::{ExitKind, Trade};

use super::records::{Account, Verdict};
use curve::Days;
use lots::Lots;

/// Everything that a report tells.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) decisions: usize,
    pub(super) accepted: usize,
    /// How often each reason was given.
    pub(super) refused: BTreeMap<String, usize>,
    pub(super) orders: usize,
    pub(super) fills: usize,
    /// Who made how much, and of what.
    pub(super) together: Results,
    pub(super) users: Vec<UserFigures>,
    /// The worst day of one user.
    pub(super) worst_day: Option<(String, DayResult)>,
    /// The largest drawdown of one user.
    pub(super) largest_drawdown: Option<(String, Drawdown)>,
    /// How often positions were left for each reason.
    pub(super) exits: BTreeMap<ExitKind, usize>,
    /// What stops cost beyond their prices because the market had jumped over them.
    pub(super) cost_of_gaps: Money,
    /// The largest share ever used of each limit.
    pub(super) limits: Vec<Busiest>,
    pub(super) open_positions: Vec<OpenPosition>,
    /// The largest win, with all that is needed to check it.
    pub(super) largest_win: Option<Trade>,
    /// The largest loss, likewise.
    pub(super) largest_loss: Option<Trade>,
    pub(super) decisions_sha256: String,
    /// What does not add up.
    pub(super) inconsistencies: Vec<String>,
}

/// A user's figures.
#[derive(Clone, Debug)]
pub(super) struct UserFigures {
    pub(super) username: String,
    /// What the account has now, by the engine's word.
    pub(super) equity: Money,
    pub(super) results: Results,
}

/// What one user, or all together, made.
#[derive(Clone, Debug)]
pub(super) struct Results {
    /// Realised, before fees.
    pub(super) gross: Money,
    pub(super) fees: Money,
    /// Realised, fees included.
    pub(super) net: Money,
    /// Of what is open, at the newest mark, without fees.
    pub(super) unrealized: Money,
    /// Positions that are closed.
    pub(super) trades: usize,
    pub(super) wins: usize,
    pub(super) losses: usize,
    /// Rounded down to a step; none without a win.
    pub(super) average_win: Option<Money>,
    /// Rounded down to a step; none without a loss.
    pub(super) average_loss: Option<Money>,
    pub(super) worst_day: Option<DayResult>,
    pub(super) largest_drawdown: Option<Drawdown>,
    /// Equity where something was realised.
    pub(super) curve: Curve,
}

/// A position that is open at the end.
#[derive(Clone, Debug)]
pub(super) struct OpenPosition {
    pub(super) user: String,
    pub(super) decision: DecisionId,
    pub(super) symbol: String,
    pub(super) side: Side,
    pub(super) quantity: Quantity,
    pub(super) entry_price: Price,
    pub(super) stop_loss: Price,
    pub(super) unrealized: Option<Money>,
    pub(super) opened_at: Option<Timestamp>,
}

impl Figures {
    /// Computes everything.
    pub(super) fn of(accounts: &[Account]) -> Self {
        let lots: Vec<Lots<'_>> = accounts.iter().map(Lots::of).collect();
        let trades: Vec<Trade> = lots.iter().flat_map(Lots::trades).collect();
        let users: Vec<UserFigures> = accounts.iter().map(|account| UserFigures::of(account, &trades)).collect();
        let mut exits: BTreeMap<ExitKind, usize> = ExitKind::REPORTED.iter().map(|kind| (*kind, 0)).collect();
        for kind in lots.iter().flat_map(Lots::exits) {
            *exits.entry(kind).or_insert(0) += 1;
        }
        let sum_of_gaps = lots.iter().fold(Money::ZERO, |sum, lots| sum.plus(lots.cost_of_gaps()));
        let named = |user: &UserFigures| user.username.clone();
        let count = |of: fn(&Account) -> usize| accounts.iter().map(of).sum();
        Self {
            decisions: count(|account| account.decisions.len()),
            accepted: count(|account| account.decisions.iter().filter(|d| d.plan().is_some()).count()),
            refused: refusals(accounts),
            orders: count(|account| account.orders.len()),
            fills: count(|account| account.fills.len()),
            together: Results::of(accounts, &trades.iter().collect::<Vec<_>>()),
            // Of equals, the first in the order of users.
            worst_day: users
                .iter()
                .filter_map(|user| Some((named(user), user.results.worst_day?)))
                .min_by_key(|(_, day)| (day.net, day.day)),
            largest_drawdown: users
                .iter()
                .filter_map(|user| Some((named(user), user.results.largest_drawdown?)))
                .min_by_key(|(_, drawdown)| (drawdown.amount.negated(), drawdown.to)),
            users,
            exits,
            cost_of_gaps: sum_of_gaps,
            limits: busiest::of_all(&lots),
            open_positions: accounts.iter().flat_map(open_positions).collect(),
            largest_win: trades.iter().filter(|t| t.is_win()).min_by_key(|t| t.rank(t.net.negated())).cloned(),
            largest_loss: trades.iter().filter(|t| t.is_loss()).min_by_key(|t| t.rank(t.net)).cloned(),
            decisions_sha256: digest::of(accounts),
            inconsistencies: lots.iter().flat_map(checks::of).collect(),
        }
    }

    /// Refused decisions.
    pub(super) fn rejected(&self) -> usize {
        self.decisions - self.accepted
    }
}

impl UserFigures {
    fn of(account: &Account, trades: &[Trade]) -> Self {
        let own: Vec<&Trade> = trades.iter().filter(|trade| trade.user == account.username).collect();
        Self {
            username: account.username.clone(),
            equity: account.equity,
            results: Results::of(std::slice::from_ref(account), &own),
        }
    }
}

impl Results {
    fn of(accounts: &[Account], trades: &[&Trade]) -> Self {
        let fills = || accounts.iter().flat_map(|account| &account.fills);
        let sum = |amounts: &mut dyn Iterator<Item = Money>| amounts.fold(Money::ZERO, Money::plus);
        let net = sum(&mut fills().map(|fill| fill.realized));
        let fees = sum(&mut fills().map(|fill| fill.fee));
        let open = accounts.iter().flat_map(|account| &account.open);
        let starting_equity = sum(&mut accounts.iter().map(|account| account.starting_equity));
        let realized = || fills().map(|fill| (fill.at, fill.realized));
        let curve = Curve::of(starting_equity, realized());
        let wins: Vec<Money> = trades.iter().filter(|trade| trade.is_win()).map(|trade| trade.net).collect();
        let losses: Vec<Money> = trades.iter().filter(|trade| trade.is_loss()).map(|trade| trade.net).collect();
        Self {
            gross: net.plus(fees),
            fees,
            net,
            unrealized: sum(&mut open.filter_map(|position| position.unrealized)),
            trades: trades.len(),
            wins: wins.len(),
            losses: losses.len(),
            average_win: average(&wins),
            average_loss: average(&losses),
            worst_day: Days::of(realized()).worst(),
            largest_drawdown: curve.largest_drawdown(),
            curve,
        }
    }

    /// Wins of a hundred trades, to the nearest hundredth; none without a trade.
    pub(super) fn win_rate(&self) -> Option<Percent> {
        let (wins, trades) = (i128::try_from(self.wins).ok()?, i128::try_from(self.trades).ok()?);
        let hundredths = (wins * 20_000 + trades).checked_div(trades * 2)?;
        Some(Percent::from_steps(i64::try_from(hundredths * HUNDREDTH).ok()?))
    }
}

/// Steps in a hundredth.
const HUNDREDTH: i128 = nexus_engine::units::SCALE as i128 / 100;

/// `part` of a hundred parts of `whole`, in steps, rounded up to a multiple of `grain`; zero of nothing.
fn percent_up(part: i64, whole: i64, grain: i128) -> Percent {
    if whole <= 0 {
        return Percent::ZERO;
    }
    let scaled = i128::from(part) * 100 * i128::from(nexus_engine::units::SCALE);
    let grains = -(-scaled).div_euclid(i128::from(whole) * grain);
    Percent::from_steps(i64::try_from(grains * grain).unwrap_or(i64::MAX))
}

fn average(amounts: &[Money]) -> Option<Money> {
    let sum = amounts.iter().fold(Money::ZERO, |sum, amount| sum.plus(*amount));
    let count = i64::try_from(amounts.len()).ok().filter(|count| *count > 0)?;
    Some(Money::from_steps(sum.steps().div_euclid(count)))
}

fn refusals(accounts: &[Account]) -> BTreeMap<String, usize> {
    let mut refused = BTreeMap::new();
    for decision in accounts.iter().flat_map(|account| &account.decisions) {
        if let Verdict::Rejected(reasons) = &decision.verdict {
            for reason in reasons {
                *refused.entry(reason.clone()).or_insert(0) += 1;
            }
        }
    }
    refused
}

fn open_positions(account: &Account) -> impl Iterator<Item = OpenPosition> {
    account.open.iter().map(|position| OpenPosition {
        user: account.username.clone(),
        decision: position.decision_id,
        symbol: position.symbol.clone(),
        side: position.side,
        quantity: position.quantity,
        entry_price: position.entry_price,
        stop_loss: position.stop_loss,
        unrealized: position.unrealized,
        opened_at: position.opened_at,
    })
}
