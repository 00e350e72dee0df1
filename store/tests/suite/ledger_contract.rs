//! The contract of the ledger port: what the actors may rely on, whatever the database.

use std::sync::Arc;
use std::task::Poll;

use nexus_actors::ports::{CommitVerdict, Ledger, SignalRecord, TradingStateRecord};
use nexus_engine::account::{Account, Event, Input, Verdict};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{ClientOrderId, DecisionId, Timestamp};
use nexus_engine::limits::Limits;
use nexus_engine::order::News;
use nexus_engine::rules::Refusal;
use nexus_engine::units::{Money, Quantity};
use nexus_store::directory::{Directory, PageRequest};

use crate::contract::Database;
use crate::story::{DAY, Story, acceptance_in, acceptance_of, account, decision_of, feed_id, minutes, money, user_id};

/// Runs the whole contract against one implementation.
macro_rules! ledger_contract {
    ($database:ty) => {
        cases! { ledger_contract, $database:
            what_was_committed_comes_back_equal,
            an_empty_batch_has_no_verdicts,
            one_signal_and_one_user_make_one_decision,
            a_stale_turn_fails_nobody_else,
            a_refused_turn_makes_the_later_turns_of_its_account_stale,
            the_snapshot_is_that_of_the_last_committed_turn,
            the_ledger_vetoes_by_its_own_counters,
            realised_loss_of_the_day_counts_against_the_cap,
            a_turn_cannot_claim_a_cap_that_the_ledger_does_not_hold,
            tightened_limits_hold_in_the_ledger,
            a_trade_risks_no_more_than_its_percent,
            the_duplicate_window_is_kept_by_the_ledger,
            counters_are_added_to_and_not_overwritten,
            a_loss_beyond_the_cap_is_a_fact,
            a_fill_is_recorded_once,
            a_commit_goes_on_when_its_caller_is_gone,
            a_cut_off_fan_out_is_found,
            a_signal_is_recorded_once,
            open_business_is_known_while_it_lasts,
            an_older_epoch_never_overwrites_a_newer_one,
            turns_replayed_from_the_opening_give_the_same_account,
            a_snapshot_at_hand_is_believed_only_when_it_is_the_stored_one,
        }
    };
}

pub fn page(limit: u32) -> PageRequest {
    PageRequest { limit, after: None }
}

pub async fn what_was_committed_comes_back_equal<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let record = story.signal("a", "3H", 1);
    let turn = story.decide(&mut account, &record);
    let decision = decision_of(&turn).clone();
    let entry = acceptance_of(&turn).order;
    assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
    assert_eq!(story.load(1).await, account);

    let mut batch = vec![story.report(&mut account, entry, News::Acknowledged)];
    batch.push(story.fill(&mut account, entry, Quantity::whole(1_000), "1.08500"));
    batch.push(story.fill(&mut account, entry, Quantity::whole(1_500), "1.08500"));
    assert_eq!(story.commit(batch).await, vec![CommitVerdict::Committed; 3]);
    assert_eq!(story.load(1).await, account);
    assert_eq!(account.open_risk(), money("5.00"));

    let database = database.reopen().await;
    let store = database.store();
    assert_eq!(store.load_account(user_id(1), None).await.unwrap(), Some(account.clone()));
    assert_eq!(store.find_signal(record.signal.id).await.unwrap().as_ref(), Some(&*record));
    assert_eq!(store.decisions_on(record.signal.id).await.unwrap(), std::slice::from_ref(&decision));
    assert_eq!(store.owner_of(decision.id).await.unwrap(), Some(user_id(1)));
    assert_eq!(store.owner_of(DecisionId(record.signal.id.0)).await.unwrap(), None);
    let orders = store.orders(user_id(1), page(10)).await.unwrap().items;
    assert_eq!(orders.iter().map(|row| &row.order).collect::<Vec<_>>(), [&account.lots[&decision.id].entry]);
    let positions = store.positions(user_id(1), true, page(10)).await.unwrap().items;
    assert_eq!(positions.len(), 1);
    assert_eq!((positions[0].quantity, positions[0].decision), (Quantity::whole(2_500), decision.id));
    assert_eq!(store.fills(user_id(1), page(10)).await.unwrap().items.len(), 2);
    assert_eq!(store.load_account(user_id(9), None).await.unwrap(), None);
    store.ping().await.unwrap();
}

pub async fn an_empty_batch_has_no_verdicts<D: Database>(database: D) {
    assert_eq!(database.store().commit(Vec::new()).await, Ok(Vec::new()));
}

pub async fn one_signal_and_one_user_make_one_decision<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let record = story.signal("a", "3H", 1);
    story.accepted(&mut account, &record).await;

    // Two accounts that have forgotten the trade: one still remembers the acceptance, one does not.
    let mut refusing = account.clone();
    refusing.lots.clear();
    let mut accepting = refusing.clone();
    (accepting.recent, accepting.today.timeframes) = Default::default();
    let refused = story.decide(&mut refusing, &record);
    assert!(matches!(decision_of(&refused).verdict, Verdict::Rejected(_)));
    let accepted = story.decide(&mut accepting, &record);
    acceptance_of(&accepted);
    for repeated in [refused, accepted] {
        assert_eq!(story.commit_one(repeated).await, CommitVerdict::AlreadyDecided);
    }
    assert_eq!(story.load(1).await, account, "nothing of the refused turn was written");
    assert_eq!(story.store.decisions_on(record.signal.id).await.unwrap().len(), 1);
    assert_eq!(story.store.turns(user_id(1), page(10)).await.unwrap().items.len(), 1);
}

pub async fn a_stale_turn_fails_nobody_else<D: Database>(database: D) {
    let story = Story::begins(database.store(), 2).await;
    let (mut first, mut second) = (story.load(1).await, story.load(2).await);
    let mut old = first.clone();
    story.accepted(&mut first, &story.signal("a", "3H", 1)).await;

    let record = story.signal("b", "9H", 2);
    let mut nobody = account(user_id(9));
    let batch =
        vec![story.decide(&mut old, &record), story.decide(&mut nobody, &record), story.decide(&mut second, &record)];
    let verdicts = story.commit(batch).await;
    let stale = |version| CommitVerdict::Stale { version };
    assert_eq!(verdicts, [stale(1), stale(0), CommitVerdict::Committed]);
    assert_eq!((story.load(1).await, story.load(2).await), (first, second));
}

pub async fn a_refused_turn_makes_the_later_turns_of_its_account_stale<D: Database>(database: D) {
    let story = Story::begins(database.store(), 2).await;
    database.reserve_behind_its_back(user_id(1), money("9.00")).await;
    let (mut first, mut second) = (account(user_id(1)), account(user_id(2)));
    let record = story.signal("a", "3H", 2);
    let batch = vec![
        story.decide(&mut first, &record),
        story.turn(&mut first, Input::SetTrading(false), None),
        story.decide(&mut second, &record),
    ];
    let verdicts = story.commit(batch).await;
    let vetoed = CommitVerdict::Vetoed { used: money("9.00"), cap: money("9.99") };
    assert_eq!(verdicts, [vetoed, CommitVerdict::Stale { version: 0 }, CommitVerdict::Committed]);
    assert_eq!(story.load(1).await.version, 0);
    assert_eq!(story.load(2).await, second);
}

pub async fn the_snapshot_is_that_of_the_last_committed_turn<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let committed = story.turn(&mut account, Input::SetTrading(false), None);
    let expected = account.clone();
    let mut refused = story.turn(&mut account, Input::SetTrading(true), None);
    refused.base_version = 7;
    let verdicts = story.commit(vec![committed, refused]).await;
    assert_eq!(verdicts, [CommitVerdict::Committed, CommitVerdict::Stale { version: 1 }]);
    assert_eq!(story.load(1).await, expected);
}

pub async fn the_ledger_vetoes_by_its_own_counters<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    database.reserve_behind_its_back(user_id(1), money("5.00")).await;

    let record = story.signal("a", "3H", 1);
    let refused = story.decide(&mut account, &record);
    let vetoed = CommitVerdict::Vetoed { used: money("5.00"), cap: money("9.99") };
    assert_eq!(story.commit_one(refused).await, vetoed);
    assert_eq!(story.store.find_signal(record.signal.id).await, Ok(None), "nothing of the vetoed turn was written");
    assert_eq!(story.store.turns(user_id(1), page(10)).await.unwrap().items, []);

    let mut account = story.load(1).await;
    assert_eq!((account.version, account.unexplained_risk), (0, money("5.00")));
    let veto = story.turn(&mut account, Input::Vetoed(Arc::clone(&record.signal)), Some(Arc::clone(&record)));
    assert_eq!(decision_of(&veto).verdict, Verdict::Rejected(vec![Refusal::LedgerVeto]));
    assert_eq!(story.commit_one(veto).await, CommitVerdict::Committed);
    let decisions = story.store.decisions_on(record.signal.id).await.unwrap();
    assert_eq!(decisions[0].verdict, Verdict::Rejected(vec![Refusal::LedgerVeto]));
    assert_eq!(story.load(1).await, account);

    // Exactly what is left is admitted: 4.99 more, of which 5.00 shrinks to 4.99.
    let acceptance = story.accepted(&mut account, &story.signal("b", "9H", 1)).await;
    assert_eq!((acceptance.used_before, acceptance.risk), (money("5.00"), money("4.99")));
}

pub async fn realised_loss_of_the_day_counts_against_the_cap<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    database.realize_behind_its_back(user_id(1), DAY, money("-6.00")).await;
    database.realize_behind_its_back(user_id(1), "2026-11-23", money("-9.99")).await;
    let vetoed = CommitVerdict::Vetoed { used: money("6.00"), cap: money("9.99") };
    assert_eq!(story.commit_one(story.decide(&mut account, &story.signal("a", "3H", 1))).await, vetoed);
}

pub async fn a_turn_cannot_claim_a_cap_that_the_ledger_does_not_hold<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    account.limits.max_daily_loss = Money::whole(1_000);
    database.reserve_behind_its_back(user_id(1), money("8.00")).await;
    let mut turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    acceptance_in(&mut turn).used_before = Money::ZERO;
    assert_eq!(acceptance_of(&turn).cap, Money::whole(1_000));
    let vetoed = CommitVerdict::Vetoed { used: money("8.00"), cap: money("9.99") };
    assert_eq!(story.commit_one(turn).await, vetoed);
}

pub async fn tightened_limits_hold_in_the_ledger<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let loose = account.limits.clone();
    let tight = Limits { max_daily_loss: money("3.00"), ..loose.clone() };
    let set = story.turn(&mut account, Input::SetLimits(tight), None);
    assert_eq!(story.commit_one(set).await, CommitVerdict::Committed);
    assert_eq!(story.load(1).await.limits.max_daily_loss, money("3.00"));

    account.limits = loose;
    let vetoed = CommitVerdict::Vetoed { used: Money::ZERO, cap: money("3.00") };
    assert_eq!(story.commit_one(story.decide(&mut account, &story.signal("a", "3H", 1))).await, vetoed);
}

pub async fn a_trade_risks_no_more_than_its_percent<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    account.limits.max_risk_percent = "1.5".parse().unwrap();
    let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    assert_eq!(acceptance_of(&turn).risk, money("7.50"));
    let vetoed = CommitVerdict::Vetoed { used: Money::ZERO, cap: money("9.99") };
    assert_eq!(story.commit_one(turn).await, vetoed);
    assert_eq!(story.load(1).await.version, 0);
}

pub async fn the_duplicate_window_is_kept_by_the_ledger<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let entry = story.accepted(&mut account, &story.signal("a", "9H", 1)).await.order;
    // The entry comes to nothing, so that the cap is free again.
    let ended = story.report(&mut account, entry, News::Rejected { reason: "closed".into() });
    assert_eq!(story.commit_one(ended).await, CommitVerdict::Committed);

    for (minute, expected) in [(59, false), (60, true)] {
        story.now = minutes(minute);
        let mut forgetful = story.load(1).await;
        forgetful.recent.clear();
        let turn = story.decide(&mut forgetful, &story.signal(&format!("after {minute}"), "9H", 1));
        acceptance_of(&turn);
        let verdict = story.commit_one(turn).await;
        assert_eq!(verdict == CommitVerdict::Committed, expected, "after {minute} minutes: {verdict:?}");
    }
}

pub async fn counters_are_added_to_and_not_overwritten<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let acceptance = story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    database.reserve_behind_its_back(user_id(1), money("1.00")).await;
    database.realize_behind_its_back(user_id(1), DAY, money("-0.50")).await;
    let report = story.report(&mut account, acceptance.order, News::Acknowledged);
    assert_eq!(story.commit_one(report).await, CommitVerdict::Committed);
    let loaded = story.load(1).await;
    assert_eq!(loaded.unexplained_risk, money("1.00"));
    assert_eq!(loaded.realized_loss(), money("0.50"));
    assert_eq!(loaded.used(), money("6.50"));
}

pub async fn a_loss_beyond_the_cap_is_a_fact<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let acceptance = story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    let bought = story.fill(&mut account, acceptance.order, acceptance.quantity, "1.08500");
    assert_eq!(story.commit_one(bought).await, CommitVerdict::Committed);
    let decision = acceptance.order.decision;
    // The market opens 500 pips below the stop: 2,500 units lose 130.00.
    let look = story.look(&mut account, decision, "1.03300");
    assert_eq!(story.commit_one(look).await, CommitVerdict::Committed);
    let exit = ClientOrderId::exit(decision, 1);
    let sold = story.fill(&mut account, exit, acceptance.quantity, "1.03300");
    assert_eq!(sold.turn.delta.realized, money("-130.00"));
    assert_eq!(story.commit_one(sold).await, CommitVerdict::Committed);
    let loaded = story.load(1).await;
    assert_eq!(loaded, account);
    assert_eq!(loaded.realized_loss(), money("130.00"));
    let closed = story.store.positions(user_id(1), false, page(10)).await.unwrap().items;
    assert_eq!((closed[0].quantity, closed[0].realized), (Quantity::ZERO, money("-130.00")));
    assert!(closed[0].closed_at.is_some());
    assert_eq!(story.store.positions(user_id(1), true, page(10)).await.unwrap().items, []);
}

pub async fn a_fill_is_recorded_once<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let acceptance = story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    let mut bought = story.fill(&mut account, acceptance.order, Quantity::whole(10), "1.08500");
    let repeated: Vec<Event> = bought.turn.events.clone();
    bought.turn.events.extend(repeated);
    assert_eq!(story.commit_one(bought).await, CommitVerdict::Committed);
    assert_eq!(story.store.fills(user_id(1), page(10)).await.unwrap().items.len(), 1);
}

pub async fn a_commit_goes_on_when_its_caller_is_gone<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    {
        let mut commit = story.store.commit(vec![turn]);
        assert!(matches!(futures::poll!(&mut commit), Poll::Pending | Poll::Ready(Ok(_))));
    }
    // The next commit stands behind it.
    assert_eq!(story.commit(Vec::new()).await, []);
    assert_eq!(story.load(1).await, account);
}

pub async fn a_cut_off_fan_out_is_found<D: Database>(database: D) {
    let story = Story::begins(database.store(), 3).await;
    let record = story.signal("a", "3H", 3);
    story.store.record_signal(Arc::clone(&record)).await.unwrap();
    let unfinished = story.store.unfinished_signals().await.unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!((&unfinished[0].record, unfinished[0].undecided.len()), (&*record, 3));

    for (n, left) in [(2, vec![user_id(1), user_id(3)]), (1, vec![user_id(3)]), (3, vec![])] {
        let mut account = story.load(n).await;
        story.accepted(&mut account, &record).await;
        let unfinished = story.store.unfinished_signals().await.unwrap();
        assert_eq!(unfinished.into_iter().flat_map(|signal| signal.undecided).collect::<Vec<_>>(), left);
    }
    // Decided from its first commit on, and without anybody to decide for.
    story.store.record_signal(story.signal("nobody", "3H", 0)).await.unwrap();
    assert_eq!(story.store.unfinished_signals().await.unwrap(), []);
    let users: Vec<_> = story.store.decisions_on(record.signal.id).await.unwrap().iter().map(|d| d.user).collect();
    assert_eq!(users, [user_id(1), user_id(2), user_id(3)]);
}

pub async fn a_signal_is_recorded_once<D: Database>(database: D) {
    let story = Story::begins(database.store(), 2).await;
    let record = story.signal("a", "3H", 1);
    story.store.record_signal(Arc::clone(&record)).await.unwrap();
    let later = SignalRecord { received_at: minutes(5), subscribers: [user_id(2)].into(), ..(*record).clone() };
    story.store.record_signal(Arc::new(later)).await.unwrap();
    assert_eq!(story.store.find_signal(record.signal.id).await.unwrap().as_ref(), Some(&*record));
}

pub async fn open_business_is_known_while_it_lasts<D: Database>(database: D) {
    let story = Story::begins(database.store(), 3).await;
    assert_eq!(story.store.users_with_open_business().await.unwrap(), []);
    let record = story.signal("a", "3H", 3);
    for n in [3, 1] {
        let mut account = story.load(n).await;
        story.accepted(&mut account, &record).await;
    }
    assert_eq!(story.store.users_with_open_business().await.unwrap(), [user_id(1), user_id(3)]);
    let mut account = story.load(1).await;
    let entry = account.lots.values().next().unwrap().entry.id;
    let ended = story.report(&mut account, entry, News::Rejected { reason: "closed".into() });
    assert_eq!(story.commit_one(ended).await, CommitVerdict::Committed);
    assert_eq!(story.store.users_with_open_business().await.unwrap(), [user_id(3)]);
    assert_eq!(story.store.subscribers(feed_id()).await.unwrap(), [user_id(1), user_id(2), user_id(3)]);
}

pub async fn an_older_epoch_never_overwrites_a_newer_one<D: Database>(database: D) {
    let scopes = [
        Scope::Everything,
        Scope::Feed(feed_id()),
        Scope::Symbol("EURUSD".parse().unwrap()),
        Scope::User(user_id(1)),
        Scope::Venue("paper".into()),
    ];
    let state = |scope: &Scope, state, epoch| TradingStateRecord {
        scope: scope.clone(),
        state,
        epoch,
        since: Timestamp::from_micros(7),
        by: "admin".to_owned(),
        reason: Some("drill".to_owned()),
    };
    let store = database.store();
    assert_eq!(store.trading_states().await, Ok(Vec::new()));
    let mut all = Vec::new();
    for scope in &scopes {
        for (set, expected) in [
            ((TradingState::Halted, 2), (TradingState::Halted, 2)),
            ((TradingState::Active, 1), (TradingState::Halted, 2)),
            ((TradingState::Active, 2), (TradingState::Halted, 2)),
            ((TradingState::Reducing, 3), (TradingState::Reducing, 3)),
            ((TradingState::Halted, 3), (TradingState::Halted, 3)),
            ((TradingState::Active, 4), (TradingState::Active, 4)),
        ] {
            let expected = state(scope, expected.0, expected.1);
            assert_eq!(store.set_trading_state(state(scope, set.0, set.1)).await, Ok(expected.clone()));
            let now: Vec<_> = all.iter().cloned().chain([expected]).collect();
            assert_eq!(store.trading_states().await, Ok(now), "one scope is not another");
        }
        all.push(state(scope, TradingState::Active, 4));
    }
    let database = database.reopen().await;
    assert_eq!(database.store().trading_states().await, Ok(all));
}

pub async fn turns_replayed_from_the_opening_give_the_same_account<D: Database>(database: D) {
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let acceptance = story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    story.now = minutes(1);
    let batch = vec![
        story.report(&mut account, acceptance.order, News::Acknowledged),
        story.fill(&mut account, acceptance.order, acceptance.quantity, "1.08500"),
        story.turn(&mut account, Input::SetTrading(false), None),
    ];
    assert_eq!(story.commit(batch).await, vec![CommitVerdict::Committed; 3]);

    let mut replayed = story.store.opened_account(user_id(1)).await.unwrap().unwrap();
    let mut page = page(3);
    loop {
        let turns = story.store.turns(user_id(1), page.clone()).await.unwrap();
        for row in turns.items {
            let turn = replayed.step(row.now, &row.input, &row.context);
            assert_eq!((replayed.version, turn.events), (row.version, row.events));
        }
        let Some(next) = turns.next else { break };
        page.after = Some(next);
    }
    assert_eq!(replayed, account);
    assert_eq!(replayed.version, 4);
}

pub async fn a_snapshot_at_hand_is_believed_only_when_it_is_the_stored_one<D: Database>(database: D) {
    let story = Story::begins(database.store(), 2).await;
    let mut account = story.load(1).await;
    let before = account.clone();
    story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    let load = async |at_hand: &Account| {
        database.store().load_account(user_id(1), Some(Arc::new(at_hand.clone()))).await.unwrap().unwrap()
    };
    assert_eq!(load(&account).await, account);

    let richer = Account { starting_equity: money("5000.00"), ..account.clone() };
    let forgetful = Account { lots: Default::default(), recent: Default::default(), ..account.clone() };
    let newer = Account { version: account.version + 1, ..forgetful.clone() };
    let stranger = Account { version: account.version, ..story.load(2).await };
    let elsewhen = Account {
        now: Timestamp::from_micros(account.now.micros() - 1),
        losing_streak: account.losing_streak + 1,
        ..account.clone()
    };
    for lie in [&richer, &forgetful, &before, &newer, &stranger, &elsewhen] {
        assert_eq!(load(lie).await, account, "{lie:?}");
    }

    database.reserve_behind_its_back(user_id(1), money("1.00")).await;
    let corrected = load(&account).await;
    assert_eq!(corrected.unexplained_risk, money("1.00"), "the counters correct a proven one, too");
    assert_eq!(corrected, story.load(1).await);
    assert_eq!(database.store().load_account(user_id(9), Some(Arc::new(account))).await, Ok(None));
}
