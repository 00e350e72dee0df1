//! The records of an account, gathered by the decision behind them.

use std::collections::BTreeMap;

use nexus_engine::ids::{ClientOrderId, DecisionId};
use nexus_engine::order::Purpose;
use nexus_engine::units::{Money, Quantity};

use crate::cli::report::records::{Account, Decision, Fill, Order, Plan, Position};

/// An account's accepted decisions, in the order in which they were taken.
pub(super) struct Lots<'a> {
    pub(super) account: &'a Account,
    pub(super) all: Vec<Lot<'a>>,
}

/// All records of one accepted decision.
pub(super) struct Lot<'a> {
    pub(super) decision: &'a Decision,
    pub(super) plan: &'a Plan,
    /// None while nothing has filled.
    pub(super) position: Option<&'a Position>,
    pub(super) orders: Vec<&'a Order>,
    /// In the order of their times.
    pub(super) fills: Vec<&'a Fill>,
}

impl<'a> Lots<'a> {
    pub(super) fn of(account: &'a Account) -> Self {
        let mut positions: BTreeMap<DecisionId, &Position> = BTreeMap::new();
        let mut orders: BTreeMap<DecisionId, Vec<&Order>> = BTreeMap::new();
        let mut fills: BTreeMap<DecisionId, Vec<&Fill>> = BTreeMap::new();
        for position in &account.positions {
            positions.insert(position.decision_id, position);
        }
        for order in &account.orders {
            orders.entry(order.client_order_id.decision).or_default().push(order);
        }
        for fill in &account.fills {
            fills.entry(fill.decision()).or_default().push(fill);
        }
        let lot = |decision: &'a Decision| {
            let id = &decision.id;
            Some(Lot {
                decision,
                plan: decision.plan()?,
                position: positions.get(id).copied(),
                orders: orders.remove(id).unwrap_or_default(),
                fills: fills.remove(id).unwrap_or_default(),
            })
        };
        let mut all: Vec<Lot<'a>> = account.decisions.iter().filter_map(lot).collect();
        all.sort_by_key(|lot| (lot.decision.at, &lot.decision.signal_key));
        Self { account, all }
    }
}

impl<'a> Lot<'a> {
    pub(super) fn entry(&self) -> Option<&'a Order> {
        self.orders.iter().copied().find(|order| order.purpose == Purpose::Entry)
    }

    /// Whether the entry ended without any trade: such a lot uses nothing up for long.
    pub(super) fn came_to_nothing(&self) -> bool {
        self.fills.is_empty() && self.entry().is_some_and(|entry| entry.status.is_terminal())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &'a Fill> {
        self.fills.iter().copied().filter(|fill| fill.client_order_id.is_entry())
    }

    pub(super) fn exits(&self) -> impl Iterator<Item = &'a Fill> {
        self.fills.iter().copied().filter(|fill| !fill.client_order_id.is_entry())
    }

    pub(super) fn fills_of(&self, order: ClientOrderId) -> impl Iterator<Item = &'a Fill> {
        self.fills.iter().copied().filter(move |fill| fill.client_order_id == order)
    }
}

/// How much, for how much, and what it cost to trade.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum {
    pub(super) quantity: Quantity,
    pub(super) value: Money,
    pub(super) fees: Money,
    pub(super) realized: Money,
}

impl Sum {
    pub(super) fn of<'a>(fills: impl Iterator<Item = &'a Fill>) -> Self {
        fills.fold(Self::default(), |sum, fill| Self {
            quantity: sum.quantity.plus(fill.quantity),
            value: sum.value.plus(fill.value()),
            fees: sum.fees.plus(fill.fee),
            realized: sum.realized.plus(fill.realized),
        })
    }
}
