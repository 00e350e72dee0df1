//! The contract of the directory port: users, feeds, subscriptions, tokens, and the paged record.

use nexus_actors::ports::{CommitVerdict, Ledger};
use nexus_engine::account::Verdict;
use nexus_engine::ids::FeedId;
use nexus_store::directory::{Directory, DirectoryError, Page, PageRequest, Reply, Role, UserChange};
use uuid::Uuid;

use crate::contract::Database;
use crate::story::{NOON, Story, account, credentials, feed, feed_id, make_feed, make_user, minutes, secrets, user_id};

/// Runs the whole contract against one implementation.
macro_rules! directory_contract {
    ($database:ty) => {
        cases! { directory_contract, $database:
            a_user_comes_with_an_account,
            usernames_are_unique,
            a_user_is_changed_in_part,
            a_feed_is_known_by_name_and_key,
            a_rotated_feed_keeps_its_old_webhook_secret_for_a_while,
            a_deleted_feed_frees_its_name_and_key,
            subscriptions_are_idempotent,
            a_ledger_keeps_its_name,
            revoked_tokens_are_forgotten_when_they_would_have_expired,
            a_list_is_paged_completely_and_in_order,
            a_page_does_not_shift_when_rows_arrive,
            a_foreign_cursor_is_an_empty_page,
            decisions_on_a_signal_are_paged_by_user,
        }
    };
}

fn first(limit: u32) -> PageRequest {
    PageRequest { limit, after: None }
}

/// Reads a list page by page.
async fn all<'a, T>(limit: u32, fetch: impl Fn(PageRequest) -> Reply<'a, Page<T>>) -> Vec<T> {
    let (mut items, mut page) = (Vec::new(), first(limit));
    loop {
        let got = fetch(page.clone()).await.unwrap();
        assert!(got.items.len() <= limit.try_into().unwrap());
        items.extend(got.items);
        match got.next {
            Some(next) => page.after = Some(next),
            None => return items,
        }
    }
}

pub async fn a_user_comes_with_an_account<D: Database>(database: D) {
    let store = database.store();
    make_user(store, user_id(1), "ann").await;
    let expected = credentials(user_id(1), "ann");
    assert_eq!(store.user(user_id(1)).await, Ok(Some(expected.user.clone())));
    assert_eq!(store.credentials("ann").await, Ok(Some(expected)));
    assert_eq!(store.load_account(user_id(1), None).await, Ok(Some(account(user_id(1)))));
    assert_eq!(store.opened_account(user_id(1)).await, Ok(Some(account(user_id(1)))));
    assert_eq!(store.user(user_id(2)).await, Ok(None));
    assert_eq!(store.credentials("Ann").await, Ok(None));
    assert_eq!(store.opened_account(user_id(2)).await, Ok(None));
}

pub async fn usernames_are_unique<D: Database>(database: D) {
    let store = database.store();
    make_user(store, user_id(1), "ann").await;
    let again = store.create_user(credentials(user_id(2), "ann"), account(user_id(2))).await;
    assert_eq!(again, Err(DirectoryError::Taken("username")));
    assert_eq!(store.load_account(user_id(2), None).await, Ok(None), "no half of a user is left");
    make_user(store, user_id(2), "bob").await;
    let rename = UserChange { username: Some("ann".to_owned()), ..UserChange::default() };
    assert_eq!(store.change_user(user_id(2), rename).await, Err(DirectoryError::Taken("username")));
}

pub async fn a_user_is_changed_in_part<D: Database>(database: D) {
    let store = database.store();
    make_user(store, user_id(1), "ann").await;
    let change = UserChange {
        role: Some(Role::Admin),
        password_hash: Some("other".to_owned()),
        tokens_valid_from_unix_s: Some(9),
        ..UserChange::default()
    };
    let changed = store.change_user(user_id(1), change).await.unwrap();
    assert_eq!((changed.username.as_str(), changed.role, changed.tokens_valid_from_unix_s), ("ann", Role::Admin, 9));
    let held = store.credentials("ann").await.unwrap().unwrap();
    assert_eq!((held.user, held.password_hash.as_str()), (changed, "other"));
    let nobody = store.change_user(user_id(2), UserChange::default()).await;
    assert_eq!(nobody, Err(DirectoryError::Unknown("user")));
}

pub async fn a_feed_is_known_by_name_and_key<D: Database>(database: D) {
    let store = database.store();
    make_feed(store, feed_id(), "breakout").await;
    let expected = Ok(Some(feed(feed_id(), "breakout")));
    assert_eq!(store.feed(feed_id()).await, expected);
    assert_eq!(store.feed_by_name("breakout").await, expected);
    assert_eq!(store.feed_by_key(&secrets("breakout").api_key_sha256).await, expected);
    assert_eq!(store.feed_by_key("").await, Ok(None));
    let other = feed(FeedId(Uuid::from_u128(2)), "breakout");
    assert_eq!(store.create_feed(other, secrets("other")).await, Err(DirectoryError::Taken("name")));
    let same = store.create_feed(feed(feed_id(), "another"), secrets("other")).await;
    assert_eq!(same, Err(DirectoryError::Taken("id")));
}

pub async fn a_rotated_feed_keeps_its_old_webhook_secret_for_a_while<D: Database>(database: D) {
    let store = database.store();
    make_feed(store, feed_id(), "breakout").await;
    assert_eq!(store.webhook_secrets(feed_id()).await.unwrap(), ["whsec_breakout"]);
    store.rotate_feed(feed_id(), secrets("new")).await.unwrap();
    assert_eq!(store.webhook_secrets(feed_id()).await.unwrap(), ["whsec_new", "whsec_breakout"]);
    assert_eq!(store.feed_by_key(&secrets("breakout").api_key_sha256).await, Ok(None));
    assert!(store.feed_by_key(&secrets("new").api_key_sha256).await.unwrap().is_some());
    let unknown = FeedId(Uuid::from_u128(2));
    assert_eq!(store.rotate_feed(unknown, secrets("x")).await, Err(DirectoryError::Unknown("feed")));
    assert_eq!(store.webhook_secrets(unknown).await, Ok(vec![]));
}

pub async fn a_deleted_feed_frees_its_name_and_key<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let store = story.store;
    let record = story.signal("a", "3H", 1);
    store.record_signal(record.clone()).await.unwrap();
    store.delete_feed(feed_id()).await.unwrap();
    assert_eq!(store.delete_feed(feed_id()).await, Err(DirectoryError::Unknown("feed")));
    assert_eq!(store.feed(feed_id()).await, Ok(None));
    assert_eq!(store.feed_by_name("breakout").await, Ok(None));
    assert_eq!(store.feed_by_key(&secrets("breakout").api_key_sha256).await, Ok(None));
    assert_eq!(store.webhook_secrets(feed_id()).await, Ok(vec![]));
    assert_eq!(store.subscribers(feed_id()).await, Ok(vec![]));
    assert_eq!(store.feeds(first(10)).await.unwrap().items, []);
    assert!(store.find_signal(record.signal.id).await.unwrap().is_some(), "its signals stay in the record");
    let gone = store.subscribe(feed_id(), user_id(1), NOON).await;
    assert_eq!(gone, Err(DirectoryError::Unknown("feed")));

    make_feed(store, FeedId(Uuid::from_u128(2)), "breakout").await;
    // A feed whose id derives from its name comes back under the same id.
    store.create_feed(feed(feed_id(), "other"), secrets("other")).await.unwrap();
    assert_eq!(store.feed(feed_id()).await.unwrap().unwrap().name, "other");
    assert_eq!(store.subscribers(feed_id()).await, Ok(vec![]));
}

pub async fn subscriptions_are_idempotent<D: Database>(database: D) {
    let store = database.store();
    make_feed(store, feed_id(), "breakout").await;
    for n in [2, 1] {
        make_user(store, user_id(n), &format!("user{n}")).await;
        store.subscribe(feed_id(), user_id(n), NOON).await.unwrap();
        store.subscribe(feed_id(), user_id(n), minutes(1)).await.unwrap();
    }
    assert_eq!(store.subscribers(feed_id()).await.unwrap(), [user_id(1), user_id(2)]);
    for _ in 0..2 {
        store.unsubscribe(feed_id(), user_id(2)).await.unwrap();
    }
    assert_eq!(store.subscribers(feed_id()).await.unwrap(), [user_id(1)]);
    let unknown_user = store.subscribe(feed_id(), user_id(9), NOON).await;
    assert_eq!(unknown_user, Err(DirectoryError::Unknown("user")));
    let unknown_feed = store.subscribe(FeedId(Uuid::from_u128(2)), user_id(1), NOON).await;
    assert_eq!(unknown_feed, Err(DirectoryError::Unknown("feed")));
}

pub async fn a_ledger_keeps_its_name<D: Database>(database: D) {
    let name = database.store().ledger_id().await.unwrap();
    assert!(!name.is_nil());
    let database = database.reopen().await;
    assert_eq!(database.store().ledger_id().await, Ok(name));
}

pub async fn revoked_tokens_are_forgotten_when_they_would_have_expired<D: Database>(database: D) {
    let store = database.store();
    for (token, until) in [("short", 100), ("long", 200), ("long", 150)] {
        store.revoke_token(token, until).await.unwrap();
    }
    let mut tokens = store.revoked_tokens(99).await.unwrap();
    tokens.sort();
    assert_eq!(tokens, [("long".into(), 200), ("short".into(), 100)]);
    assert_eq!(store.revoked_tokens(100).await.unwrap(), [("long".into(), 200)]);
    assert_eq!(store.revoked_tokens(0).await.unwrap(), [("long".into(), 200)], "what expired is gone for good");
    let database = database.reopen().await;
    assert_eq!(database.store().revoked_tokens(0).await.unwrap(), [("long".into(), 200)]);
}

pub async fn a_list_is_paged_completely_and_in_order<D: Database>(database: D) {
    let store = database.store();
    for n in [3, 1, 5, 2, 4] {
        make_user(store, user_id(n), &format!("user{n}")).await;
        make_feed(store, FeedId(Uuid::from_u128(n)), &format!("feed{n}")).await;
    }
    for limit in [1, 2, 5, 1_000] {
        let users = all(limit, |page| store.users(page)).await;
        assert_eq!(users.iter().map(|user| user.id).collect::<Vec<_>>(), (1..=5).map(user_id).collect::<Vec<_>>());
        let feeds = all(limit, |page| store.feeds(page)).await;
        assert_eq!(feeds.iter().map(|feed| feed.id.0.as_u128()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
    assert_eq!(store.users(first(5)).await.unwrap().next, None, "a full last page has no next");
}

pub async fn a_page_does_not_shift_when_rows_arrive<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let decide = async |account: &mut _, key: &str| {
        let turn = story.decide(account, &story.signal(key, "3H", 1));
        assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
    };
    for key in ["a", "b", "c"] {
        decide(&mut account, key).await;
    }
    let newest = story.store.decisions(user_id(1), first(2)).await.unwrap();
    assert_eq!(newest.items.iter().map(|row| row.signal_key.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    decide(&mut account, "d").await;
    let page = PageRequest { limit: 2, after: newest.next };
    let older = story.store.decisions(user_id(1), page).await.unwrap();
    assert_eq!(older.items.iter().map(|row| row.signal_key.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(older.next, None);
    assert!(matches!(older.items[0].decision.verdict, Verdict::Accepted(_)));
    assert_eq!(story.store.decisions(user_id(2), first(2)).await.unwrap().items, []);
}

pub async fn a_foreign_cursor_is_an_empty_page<D: Database>(database: D) {
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let record = story.signal("a", "3H", 1);
    story.accepted(&mut account, &record).await;
    for cursor in ["", "x", "1 OR 1=1", "99999999999999999999", "'"] {
        let page = || PageRequest { limit: 10, after: Some(cursor.to_owned()) };
        assert_eq!(story.store.users(page()).await.unwrap().items, [], "{cursor:?}");
        assert_eq!(story.store.decisions(user_id(1), page()).await.unwrap().items, [], "{cursor:?}");
        assert_eq!(story.store.turns(user_id(1), page()).await.unwrap().items, [], "{cursor:?}");
        assert_eq!(story.store.signal_decisions(record.signal.id, page()).await.unwrap().items, [], "{cursor:?}");
    }
}

pub async fn decisions_on_a_signal_are_paged_by_user<D: Database>(database: D) {
    let story = Story::begins(database.store(), 3).await;
    let record = story.signal("a", "3H", 3);
    for n in [2, 3, 1] {
        let mut account = story.load(n).await;
        story.accepted(&mut account, &record).await;
    }
    let rows = all(2, |page| story.store.signal_decisions(record.signal.id, page)).await;
    assert_eq!(rows.iter().map(|row| row.decision.user).collect::<Vec<_>>(), [user_id(1), user_id(2), user_id(3)]);
    assert!(rows.iter().all(|row| row.signal_key == "a"));
    let decisions: Vec<_> = rows.into_iter().map(|row| row.decision).collect();
    assert_eq!(decisions, story.store.decisions_on(record.signal.id).await.unwrap());
}
