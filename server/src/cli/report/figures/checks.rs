//! What must add up, checked and not assumed.
//!
//! Each record is made from the same facts by another way: a fill's realised amount by the engine, a position's by the
//! ledger, the gross result here from prices and quantities alone. Where two ways disagree, the report says so.

use std::collections::{BTreeMap, BTreeSet};

use nexus_engine::ids::DecisionId;
use nexus_engine::units::{Money, Quantity};

use super::lots::{Lot, Lots, Sum};
use super::trades::gross;
use crate::cli::report::records::Position;

/// Everything of an account that does not add up, in words.
pub(super) fn of(lots: &Lots<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for lot in &lots.all {
        of_lot(lot, &mut faults);
    }
    of_account(lots, &mut faults);
    faults.into_iter().map(|fault| format!("{}: {fault}", lots.account.username)).collect()
}

fn of_lot(lot: &Lot<'_>, faults: &mut Vec<String>) {
    let name = lot.decision.id;
    for order in &lot.orders {
        let filled = Sum::of(lot.fills_of(order.client_order_id)).quantity;
        if filled != order.filled_quantity {
            let (id, told) = (order.client_order_id, order.filled_quantity);
            faults.push(format!("order {id} has filled {told}, its fills {filled}"));
        }
    }
    for fill in &lot.fills {
        if !lot.orders.iter().any(|order| order.client_order_id == fill.client_order_id) {
            faults.push(format!("a fill of {} has no order", fill.client_order_id));
        }
    }
    match lot.position {
        Some(position) => of_position(lot, position, faults),
        None if lot.fills.is_empty() => {}
        None => faults.push(format!("decision {name} has fills and no position")),
    }
}

fn of_position(lot: &Lot<'_>, position: &Position, faults: &mut Vec<String>) {
    let name = position.decision_id;
    let (entries, exits) = (Sum::of(lot.entries()), Sum::of(lot.exits()));
    let (realized, fees) = (entries.realized.plus(exits.realized), entries.fees.plus(exits.fees));
    if realized != position.realized {
        faults.push(format!("position {name} has realised {}, its fills {realized}", position.realized));
    }
    let (bought, sold) = (entries.quantity, exits.quantity);
    if bought.minus(sold) != position.quantity {
        faults.push(format!("position {name} holds {}, its fills leave {}", position.quantity, bought.minus(sold)));
    }
    if position.closed_at.is_none() {
        return;
    }
    if bought != sold {
        faults.push(format!("position {name} is closed with {bought} in and {sold} out"));
    }
    let gross = gross(position.side, &entries, &exits);
    if gross.minus(fees) != position.realized {
        let net = position.realized;
        faults.push(format!("position {name} made {gross} gross with fees of {fees}, and says {net} net"));
    }
}

fn of_account(lots: &Lots<'_>, faults: &mut Vec<String>) {
    let account = lots.account;
    let expected = account.starting_equity.plus(account.realized_by_all);
    if expected != account.equity {
        let (start, realized) = (account.starting_equity, account.realized_by_all);
        let equity = account.equity;
        faults.push(format!("equity is {equity}; {start} at the start and {realized} realised make {expected}"));
    }
    let mut keys = BTreeSet::new();
    for decision in &account.decisions {
        if !keys.insert(&decision.signal_key) {
            faults.push(format!("signal {} was decided twice", decision.signal_key));
        }
    }
    let held = |positions: &[Position]| -> BTreeMap<DecisionId, (Quantity, Money)> {
        let open = positions.iter().filter(|position| !position.quantity.is_zero());
        open.map(|position| (position.decision_id, (position.quantity, position.realized))).collect()
    };
    let (recorded, told) = (held(&account.positions), held(&account.open));
    for name in recorded.keys().chain(told.keys()).collect::<BTreeSet<_>>() {
        if recorded.get(name) != told.get(name) {
            faults.push(format!("position {name} is open in the account or in the record, not alike in both"));
        }
    }
}
