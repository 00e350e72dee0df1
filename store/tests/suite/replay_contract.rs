//! The contract of a replay: an untouched ledger has no difference, whatever is altered by hand is found and named, and what
//! others write is a correction once a turn has told of it.
//!
//! The alterations are those of an intruder who may do everything: triggers and CHECKs are out of the way. The statements
//! are such that both databases understand them.

use std::collections::BTreeSet;

use nexus_actors::ports::{CommitVerdict, Ledger};
use nexus_engine::account::{Account, Event, Input};
use nexus_engine::ids::ClientOrderId;
use nexus_engine::limits::Limits;
use nexus_engine::order::News;
use nexus_store::directory::Directory;
use nexus_store::{LedgerReplay, UserReplay};

use crate::contract::Database;
use crate::story::{DAY, Story, acceptance_of, decision_of, minutes, money, user_id};

macro_rules! replay_contract {
    ($database:ty) => {
        cases! { replay_contract, $database:
            an_untouched_history_has_no_difference,
            whatever_is_altered_is_found_and_named,
            what_others_wrote_is_a_correction_once_a_turn_tells_of_it,
            an_acceptance_of_others_is_a_correction_once_a_turn_tells_of_it,
            a_trade_that_a_venue_names_twice_is_recorded_once,
            users_are_found_and_rows_of_nobody_are_named,
        }
    };
}

/// Every table that an alteration touches.
const TABLES: &[&str] = &[
    "opened_accounts",
    "signals",
    "decisions",
    "orders",
    "fills",
    "positions",
    "events",
    "limits",
    "accounts",
    "daily_risk",
    "daily_counts",
    "duplicate_window",
];

/// What a day has left in the ledger, to be named.
pub struct Names(Vec<(&'static str, String)>);

impl Names {
    pub fn fill_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, word)| text.replace(name, word))
    }
}

/// Losses, a cancelled entry, an open position, refusals, and what a person sets; then a refusal on the next day.
pub async fn a_day<S: Ledger + Directory>(story: &mut Story<'_, S>) -> Names {
    let mut account = story.load(1).await;
    let first = story.signal("first", "3H", 1);
    let (entry, quantity) = accepted(story, &mut account, &first).await;
    let decision = entry.decision;
    let bought = story.fill(&mut account, entry, quantity, "1.08500");
    committed(story, vec![bought]).await;
    let look = story.look(&mut account, decision, "1.08290");
    committed(story, vec![look]).await;
    let sold = story.fill(&mut account, ClientOrderId::exit(decision, 1), quantity, "1.08300");
    let fill = execution_of(&sold.turn.events);
    committed(story, vec![sold]).await;

    let (entry, _) = accepted(story, &mut account, &story.signal("second", "6H", 1)).await;
    let known = story.report(&mut account, entry, News::Acknowledged);
    let gone = story.report(&mut account, entry, News::Cancelled { reason: "asked for".into() });
    committed(story, vec![known, gone]).await;
    let (entry, quantity) = accepted(story, &mut account, &story.signal("third", "9H", 1)).await;
    let bought = story.fill(&mut account, entry, quantity, "1.08500");
    committed(story, vec![bought]).await;

    let refused = story.decide(&mut account, &story.signal("fourth", "3H", 1));
    let rejected = decision_of(&refused).id.to_string();
    let off = story.turn(&mut account, Input::SetTrading(false), None);
    let on = story.turn(&mut account, Input::SetTrading(true), None);
    let limits = Limits { max_daily_loss: money("9.00"), ..account.limits.clone() };
    let set = story.turn(&mut account, Input::SetLimits(limits), None);
    committed(story, vec![refused, off, on, set]).await;
    story.now = minutes(24 * 60);
    let last = story.decide(&mut account, &story.signal("last", "12H", 1));
    let names = vec![
        ("{accepted}", decision.to_string()),
        ("{entry}", ClientOrderId::entry(decision).to_string()),
        ("{fill}", fill),
        ("{rejected}", rejected),
        ("{last}", decision_of(&last).id.to_string()),
        ("{signal}", first.signal.id.to_string()),
        ("{turns}", account.version.to_string()),
        ("{user}", user_id(1).to_string()),
        ("{other}", user_id(2).to_string()),
        ("{day}", DAY.to_owned()),
        ("{new}", "ffffffff-0000-5000-8000-000000000000".to_owned()),
    ];
    committed(story, vec![last]).await;
    Names(names)
}

/// A turn is committed in the middle of each replay: its rows are not of that moment, and the next replay sees them.
pub async fn is_of_one_moment<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    accepted(&story, &mut account, &story.signal("a", "3H", 1)).await;
    let mut replay = database.replay().await;
    let runtime = tokio::runtime::Handle::current();
    for (turns, enabled) in (1..).zip([false, true, false]) {
        let mut turn = Some(story.turn(&mut account, Input::SetTrading(enabled), None));
        let mut commit = || {
            if let Some(turn) = turn.take() {
                tokio::task::block_in_place(|| runtime.block_on(committed(&story, vec![turn])));
            }
        };
        let report = replay.replay(user_id(1), &mut commit).await.unwrap();
        assert_eq!(report, UserReplay { turns, decisions: 1, ..UserReplay::default() });
    }
}

async fn accepted<S: Ledger + Directory>(
    story: &Story<'_, S>,
    account: &mut Account,
    signal: &std::sync::Arc<nexus_actors::ports::SignalRecord>,
) -> (ClientOrderId, nexus_engine::units::Quantity) {
    let acceptance = story.accepted(account, signal).await;
    (acceptance.order, acceptance.quantity)
}

async fn committed<S: Ledger + Directory>(story: &Story<'_, S>, turns: Vec<nexus_actors::ports::TurnRecord>) {
    let expected = vec![CommitVerdict::Committed; turns.len()];
    assert_eq!(story.commit(turns).await, expected);
}

fn execution_of(events: &[Event]) -> String {
    let found = events.iter().find_map(|event| match event {
        Event::Filled(fill) => Some(fill.execution.to_string()),
        _ => None,
    });
    found.expect("it traded")
}

pub async fn replayed(replay: &mut LedgerReplay, n: u128) -> UserReplay {
    replay.replay(user_id(n), &mut || {}).await.unwrap()
}

/// What the first difference is about.
async fn differs<D: Database>(database: &D, n: u128) -> String {
    let found = replayed(&mut database.replay().await, n).await.difference;
    let found = found.expect("a difference");
    assert_ne!(found.expected, found.found);
    found.what
}

/// Alters the ledger of a day, again and again, and puts back what was there.
pub async fn check_alterations<D: Database>(database: &D, names: &Names, alterations: &[(&str, &str)]) {
    let (whole, account) = D::SNAPSHOT;
    let tables: BTreeSet<&str> = TABLES.iter().copied().chain([whole]).collect();
    let fill_in = |text: &str| names.fill_in(text).replace("{whole}", whole).replace("{account}", account);
    database.written_whole().await;
    let keep: Vec<_> =
        tables.iter().map(|table| format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).collect();
    database.alter(&keep).await;
    let put_back: Vec<_> = tables
        .iter()
        .flat_map(|table| [format!("DELETE FROM {table}"), format!("INSERT INTO {table} SELECT * FROM kept_{table}")])
        .collect();
    for (sql, named) in alterations {
        let (sql, named) = (fill_in(sql), fill_in(named));
        assert_eq!(database.alter(std::slice::from_ref(&sql)).await, 1, "{sql}");
        let found = replayed(&mut database.replay().await, 1).await.difference;
        let found = found.unwrap_or_else(|| panic!("not found: {sql}"));
        assert!(found.what.contains(&named), "{sql}\n{found:?} is found, and not {named}");
        assert_ne!(found.expected, found.found, "{sql}");
        database.alter(&put_back).await;
    }
    let again = replayed(&mut database.replay().await, 1).await;
    assert_eq!(again.difference, None, "everything was put back");
}

pub async fn an_untouched_history_has_no_difference<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 2).await;
    let names = a_day(&mut story).await;
    let turns: u64 = names.fill_in("{turns}").parse().unwrap();
    let mut taken = 0;
    let mut replay = database.replay().await;
    let report = replay.replay(user_id(1), &mut || taken += 1).await.unwrap();
    assert_eq!(report, UserReplay { turns, decisions: 5, ..UserReplay::default() });
    assert_eq!(taken, report.turns);
    assert_eq!(replayed(&mut replay, 2).await, UserReplay::default());
}

/// What is altered, and what must be named.
const ALTERATIONS: &[(&str, &str)] = &[
    ("UPDATE decisions SET quantity_e8 = 999900000000 WHERE id = '{accepted}'", "decisions {accepted}: quantity_e8"),
    ("UPDATE decisions SET used_before_e8 = 1 WHERE id = '{accepted}'", "decisions {accepted}: used_before_e8"),
    ("UPDATE decisions SET used_before_e8 = -1 WHERE id = '{accepted}'", "decisions {accepted}: used_before_e8"),
    ("UPDATE decisions SET cap_e8 = cap_e8 + 1 WHERE id = '{accepted}'", "decisions {accepted}: cap_e8"),
    ("UPDATE decisions SET risk_max_e8 = risk_max_e8 + 1 WHERE id = '{accepted}'", "decisions {accepted}: risk_max_e8"),
    ("UPDATE decisions SET verdict = 'accepted' WHERE id = '{rejected}'", "decisions {rejected}: verdict"),
    ("UPDATE decisions SET reasons = '[\"day_closed\"]' WHERE id = '{rejected}'", "decisions {rejected}: reasons"),
    ("DELETE FROM decisions WHERE id = '{rejected}'", "decisions {rejected}"),
    ("UPDATE decisions SET seq = seq + 1000 WHERE id = '{rejected}'", "decisions {last}"),
    (
        "INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, reasons)
         VALUES ('{new}', '{new}', '{user}', 1, 'rejected', '[\"day_closed\"]')",
        "decisions {new}",
    ),
    (ACCEPTED_BY_OTHERS, "decisions {new}"),
    (
        "UPDATE events SET events = replace(events, '\"quantity\":\"2500\"', '\"quantity\":\"9999\"')
          WHERE user_id = '{user}' AND version = 1",
        "events 1: events[0].decided.verdict.accepted.quantity",
    ),
    (
        "UPDATE events SET input = replace(input, '\"1.083\"', '\"1.0831\"') WHERE user_id = '{user}' AND version = 1",
        "events 1: events[0].decided.verdict.accepted",
    ),
    // A refusal that does not depend on the price: the signal's own row tells.
    (
        "UPDATE events SET input = replace(input, '\"1.089\"', '\"1.09\"') WHERE user_id = '{user}' AND events LIKE '%{rejected}%'",
        ": take_profit_e8",
    ),
    (
        "UPDATE events SET input = replace(input, '\"1.085\"', '\"1.08501\"') WHERE user_id = '{user}' AND version = 2",
        "events 2: events[0].filled.price",
    ),
    (
        "UPDATE events SET context = replace(context, 'active', 'halted') WHERE user_id = '{user}' AND version = 1",
        "events 1: events[0].decided.verdict",
    ),
    ("UPDATE events SET input = 'no JSON' WHERE user_id = '{user}' AND version = 2", "events 2: input"),
    ("UPDATE events SET context = '{}' WHERE user_id = '{user}' AND version = 2", "events 2: context"),
    ("UPDATE events SET events = '[]' WHERE user_id = '{user}' AND version = 2", "events 2: events[0]"),
    (
        "UPDATE events SET events = replace(events, '[', '[{\"corrected\":{\"realized\":\"0\",\"open\":\"0\",\"reserved\":\"0\",
         \"today\":null}},') WHERE user_id = '{user}' AND version = 5",
        "events 5: events[0]",
    ),
    ("UPDATE events SET now_us = now_us + 1 WHERE user_id = '{user}' AND version = 1", "events 1: events[0].decided.at"),
    ("DELETE FROM events WHERE user_id = '{user}' AND version = 2", "events 2"),
    ("DELETE FROM events WHERE user_id = '{user}' AND events LIKE '%{last}%'", "decisions {last}"),
    (
        "INSERT INTO events (user_id, version, now_us, input, context, events)
         SELECT user_id, 1000, now_us, input, context, events FROM events WHERE user_id = '{user}' AND version = 2",
        "events ",
    ),
    ("UPDATE signals SET stop_loss_e8 = stop_loss_e8 + 1 WHERE key = 'first'", "signals {signal}: stop_loss_e8"),
    ("UPDATE signals SET key = 'other' WHERE key = 'first'", "signals {signal}: key"),
    (
        "UPDATE signals SET signal = replace(signal, '\"1.089\"', '\"1.09\"') WHERE key = 'first'",
        "signals {signal}: signal.take_profit",
    ),
    ("DELETE FROM signals WHERE key = 'first'", "signals {signal}"),
    (
        "UPDATE {whole} SET {account} = replace({account}, '\"losing_streak\":1', '\"losing_streak\":7') WHERE user_id = '{user}'",
        "{whole}: {account}.losing_streak",
    ),
    ("UPDATE {whole} SET {account} = '' WHERE user_id = '{user}'", "{whole}: {account}"),
    ("UPDATE accounts SET version = version + 1 WHERE user_id = '{user}'", "accounts: version"),
    ("UPDATE accounts SET currency = 'EUR' WHERE user_id = '{user}'", "accounts: currency"),
    ("UPDATE accounts SET open_e8 = open_e8 - 1 WHERE user_id = '{user}'", "accounts: open_e8"),
    ("UPDATE accounts SET reserved_e8 = reserved_e8 + 1 WHERE user_id = '{user}'", "accounts: reserved_e8"),
    ("UPDATE accounts SET net_realized_e8 = 0 WHERE user_id = '{user}'", "accounts: net_realized_e8"),
    ("UPDATE accounts SET starting_equity_e8 = 1 WHERE user_id = '{user}'", "accounts: starting_equity_e8"),
    ("UPDATE accounts SET open_business = NOT open_business WHERE user_id = '{user}'", "accounts: open_business"),
    ("UPDATE accounts SET now_us = now_us + 1 WHERE user_id = '{user}'", "accounts: now_us"),
    ("DELETE FROM accounts WHERE user_id = '{user}'", "accounts"),
    (
        "UPDATE opened_accounts SET account = replace(account, '\"starting_equity\":\"500', '\"starting_equity\":\"600')
          WHERE user_id = '{user}'",
        "events 1: events[0].decided.verdict.accepted",
    ),
    (
        "UPDATE opened_accounts SET account = replace(account, '\"losing_streak\":0', '\"losing_streak\":1') WHERE user_id = '{user}'",
        "opened_accounts: account.losing_streak",
    ),
    ("DELETE FROM opened_accounts WHERE user_id = '{user}'", "opened_accounts"),
    ("UPDATE limits SET max_daily_loss_e8 = max_daily_loss_e8 * 2 WHERE user_id = '{user}'", "limits: max_daily_loss_e8"),
    ("UPDATE limits SET version = 9 WHERE user_id = '{user}'", "limits: version"),
    (
        "UPDATE limits SET limits = replace(limits, '\"loss_streak\":5', '\"loss_streak\":99') WHERE user_id = '{user}'",
        "limits: limits.loss_streak",
    ),
    ("UPDATE daily_risk SET realized_e8 = realized_e8 / 2 WHERE user_id = '{user}'", "daily_risk {day}: realized_e8"),
    ("DELETE FROM daily_risk WHERE user_id = '{user}'", "daily_risk {day}"),
    ("INSERT INTO daily_risk VALUES ('{user}', '2001-01-01', -1)", "daily_risk 2001-01-01"),
    ("UPDATE daily_counts SET used = used - 1 WHERE user_id = '{user}' AND timeframe = '3H'", "daily_counts {day} 3H: used"),
    ("UPDATE daily_counts SET used = used + 1 WHERE user_id = '{user}' AND timeframe = '6H'", "daily_counts {day} 6H: used"),
    (
        "UPDATE duplicate_window SET last_accepted_us = 1 WHERE user_id = '{user}' AND timeframe = '3H'",
        "duplicate_window EURUSD buy 3H: last_accepted_us",
    ),
    ("DELETE FROM duplicate_window WHERE user_id = '{user}' AND timeframe = '3H'", "duplicate_window EURUSD buy 3H"),
    ("UPDATE fills SET price_e8 = price_e8 + 1 WHERE execution_id = '{fill}'", "fills paper {fill}: price_e8"),
    ("UPDATE fills SET user_id = '{other}' WHERE execution_id = '{fill}'", "fills paper {fill}"),
    ("DELETE FROM fills WHERE execution_id = '{fill}'", "fills paper {fill}"),
    (
        "INSERT INTO fills (venue, execution_id, client_order_id, user_id, symbol, side, quantity_e8, price_e8, fee_e8, at_us, realized_e8)
         SELECT venue, 'added', client_order_id, user_id, symbol, side, quantity_e8, price_e8, fee_e8, at_us, realized_e8
           FROM fills WHERE execution_id = '{fill}'",
        "fills paper added",
    ),
    ("UPDATE positions SET realized_e8 = 0 WHERE decision_id = '{accepted}'", "positions {accepted}: realized_e8"),
    ("UPDATE positions SET closed_at_us = NULL WHERE decision_id = '{accepted}'", "positions {accepted}: closed_at_us"),
    ("UPDATE positions SET opened_at_us = 1 WHERE decision_id = '{accepted}'", "positions {accepted}: opened_at_us"),
    ("DELETE FROM positions WHERE decision_id = '{accepted}'", "positions {accepted}"),
    ("UPDATE orders SET status = 'rejected' WHERE client_order_id = '{entry}'", "orders {entry}: status"),
    ("UPDATE orders SET unknown = NOT unknown WHERE client_order_id = '{entry}'", "orders {entry}: unknown"),
    ("UPDATE orders SET created_at_us = 1 WHERE client_order_id = '{entry}'", "orders {entry}: created_at_us"),
    ("DELETE FROM orders WHERE client_order_id = '{entry}'", "orders {entry}"),
];

/// As somebody would type it who knows the tables.
const ACCEPTED_BY_OTHERS: &str = "INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, symbol, side, timeframe, kind, quantity_e8,
            sized_at_e8, stop_loss_e8, take_profit_e8, risk_e8, used_before_e8, cap_e8, risk_max_e8, equity_e8, expires_at_us, venue)
     SELECT '{new}', '{new}', user_id, at_us, verdict, symbol, side, timeframe, kind, quantity_e8, sized_at_e8, stop_loss_e8,
            take_profit_e8, 300000000, used_before_e8, cap_e8, risk_max_e8, equity_e8, expires_at_us, venue
       FROM decisions WHERE id = '{accepted}'";

pub async fn whatever_is_altered_is_found_and_named<D: Database>(database: D) {
    let names = a_day(&mut Story::begins(database.store(), 2).await).await;
    check_alterations(&database, &names, ALTERATIONS).await;
}

pub async fn what_others_wrote_is_a_correction_once_a_turn_tells_of_it<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let limits = Limits { max_risk_percent: "0.5".parse().unwrap(), ..account.limits.clone() };
    let set = story.turn(&mut account, Input::SetLimits(limits), None);
    committed(&story, vec![set]).await;
    accepted(&story, &mut account, &story.signal("before", "3H", 1)).await;
    database.reserve_behind_its_back(user_id(1), money("1.00")).await;
    database.realize_behind_its_back(user_id(1), DAY, money("-0.50")).await;
    // The account in memory does not know of it yet, and what is left suffices.
    let between = story.decide(&mut account, &story.signal("between", "9H", 1));
    let decision = decision_of(&between).id;
    assert_eq!(acceptance_of(&between).used_before, money("2.50"));
    committed(&story, vec![between]).await;
    assert_eq!(differs(&database, 1).await, format!("decisions {decision}: used_before_e8"));

    let mut account = story.load(1).await;
    let off = story.turn(&mut account, Input::SetTrading(false), None);
    assert!(matches!(off.turn.events[..], [Event::Corrected(_), Event::TradingSet(false)]), "{:?}", off.turn.events);
    committed(&story, vec![off]).await;
    assert_eq!(story.load(1).await, account);
    let on = story.turn(&mut account, Input::SetTrading(true), None);
    assert_eq!(on.turn.events, [Event::TradingSet(true)]);
    committed(&story, vec![on]).await;
    let report = replayed(&mut database.replay().await, 1).await;
    assert_eq!((report.turns, report.decisions, report.corrections, report.difference), (5, 2, 1, None));
    let correction = report.correction.unwrap();
    let what = "risk that no decision explains 0.00 to 1.00, realised on the day 0.00 to -0.50";
    assert_eq!((correction.version, correction.what.as_str()), (4, what));

    // More than what was told of is not explained by it; and what nobody has told of since is a difference.
    let sql = format!("UPDATE decisions SET used_before_e8 = used_before_e8 + 1 WHERE id = '{decision}'");
    assert_eq!(database.alter(std::slice::from_ref(&sql)).await, 1);
    assert_eq!(differs(&database, 1).await, format!("decisions {decision}: used_before_e8"));
    database.alter(&[sql.replace("+ 1", "- 1")]).await;
    assert_eq!(replayed(&mut database.replay().await, 1).await.difference, None);
    database.reserve_behind_its_back(user_id(1), money("1.00")).await;
    assert_eq!(differs(&database, 1).await, "accounts: reserved_e8");
    // Somebody has looked, and gives back what was held: that is told of as well.
    database.reserve_behind_its_back(user_id(1), money("-2.00")).await;
    let mut account = story.load(1).await;
    let off = story.turn(&mut account, Input::SetTrading(false), None);
    committed(&story, vec![off]).await;
    let report = replayed(&mut database.replay().await, 1).await;
    assert_eq!((report.corrections, report.difference), (2, None));
}

pub async fn an_acceptance_of_others_is_a_correction_once_a_turn_tells_of_it<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 2).await;
    let names = a_day(&mut story).await;
    assert_eq!(database.alter(&[names.fill_in(ACCEPTED_BY_OTHERS)]).await, 1);
    let sql = "UPDATE duplicate_window SET last_accepted_us = (SELECT at_us FROM decisions WHERE id = '{new}')
                WHERE user_id = '{user}' AND timeframe = '3H'";
    assert_eq!(database.alter(&[names.fill_in(sql)]).await, 1);
    // Less than its risk of 3.00 is not it.
    for (reserved, expected) in [("2.99", Some("decisions {new}")), ("0.01", None)] {
        database.reserve_behind_its_back(user_id(1), money(reserved)).await;
        let mut account = story.load(1).await;
        let toggled = story.turn(&mut account, Input::SetTrading(expected.is_none()), None);
        committed(&story, vec![toggled]).await;
        let difference = replayed(&mut database.replay().await, 1).await.difference;
        assert_eq!(difference.map(|it| it.what), expected.map(|what| names.fill_in(what)));
    }
}

pub async fn a_trade_that_a_venue_names_twice_is_recorded_once<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    for (n, key, timeframe) in [(1, "a", "3H"), (2, "b", "9H")] {
        let (order, quantity) = accepted(&story, &mut account, &story.signal(key, timeframe, 1)).await;
        let (price, fee) = ("1.08500".parse().unwrap(), money("0.01"));
        let news = News::Filled { execution: "the same".into(), quantity, price, fee };
        let bought = story.report(&mut account, order, news);
        committed(&story, vec![bought]).await;
        assert_eq!(story.store.fills(user_id(1), crate::ledger_contract::page(10)).await.unwrap().items.len(), 1);
        let report = replayed(&mut database.replay().await, 1).await;
        assert_eq!((report.decisions, report.difference), (n, None));
    }
}

pub async fn users_are_found_and_rows_of_nobody_are_named<D: Database>(database: D) {
    Story::begins(database.store(), 2).await;
    let mut replay = database.replay().await;
    let (one, two) = ((user_id(1), "user1".to_owned()), (user_id(2), "user2".to_owned()));
    assert_eq!(replay.users(None).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(replay.users(Some(one.0)).await.unwrap(), std::slice::from_ref(&two));
    assert_eq!(replay.user("user2").await.unwrap(), Some(two.clone()));
    assert_eq!(replay.user(&two.0.to_string()).await.unwrap(), Some(two));
    assert_eq!(replay.user("nobody").await.unwrap(), None);
    assert_eq!(replay.stranger().await.unwrap(), None);
    let nobody = user_id(9);
    database.alter(&[format!("INSERT INTO daily_risk VALUES ('{nobody}', '2001-01-01', -1)")]).await;
    let (user, difference) = replay.stranger().await.unwrap().expect("a stranger");
    assert_eq!(user, nobody.to_string());
    assert_eq!(difference.what, format!("daily_risk of {nobody}, who is no user"));
}
