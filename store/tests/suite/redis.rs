//! Redis: the contract, and what only a server can do: be away, hang, be emptied, come back with old data, serve several.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_actors::ports::{HotState, InstanceRole};
use nexus_store::{RedisHotState, RedisOpenError};
use uuid::Uuid;

use crate::contract::Place;
use crate::hot_contract::{answer, at_version, eventually, mark, presence, state};
use crate::story::user_id;
use nexus_testbed::{Kind, Server};

/// A place under a prefix that nobody else has.
pub struct RedisPlace {
    hot: RedisHotState,
}

impl Place for RedisPlace {
    type Hot = RedisHotState;

    async fn fresh() -> Self {
        let prefix = Uuid::from_u128(rand::random()).simple().to_string();
        Self { hot: RedisHotState::open(&Kind::Redis.shared(), &prefix, Uuid::nil()).await.unwrap() }
    }

    fn hot(&self) -> &RedisHotState {
        &self.hot
    }

    async fn settle(&self) {
        self.hot.settled().await;
    }
}

hot_contract!(RedisPlace);

const LEDGER: Uuid = Uuid::from_u128(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// A server that may be hurt, and two instances that share it.
struct Shared {
    server: Server,
    one: RedisHotState,
    other: RedisHotState,
    _folder: tempfile::TempDir,
}

impl Shared {
    async fn new() -> Shared {
        let folder = tempfile::tempdir().unwrap();
        let server = Kind::Redis.private(folder.path());
        let (one, other) = (open(&server, LEDGER).await, open(&server, LEDGER).await);
        Shared { server, one, other, _folder: folder }
    }

    async fn until_up(&self) {
        eventually("both are up again", async || self.one.is_up() && self.other.is_up()).await;
    }
}

async fn open(server: &Server, ledger: Uuid) -> RedisHotState {
    RedisHotState::open(&server.url, "nexus", ledger).await.unwrap()
}

/// Neither changes any more: whatever a connection has to say for itself was said.
async fn until_quiet(hints: &mut tokio::sync::watch::Receiver<u64>) {
    while tokio::time::timeout(Duration::from_secs(2), hints.changed()).await.is_ok() {}
}

#[tokio::test]
async fn what_one_instance_says_the_other_hears() {
    let Shared { server: _server, one, other, _folder } = Shared::new().await;
    one.put_account(at_version(3));
    one.put_answer(answer("a", 1));
    one.revoke_token("gone".into(), i64::MAX);
    one.login_failed("ann", HOUR).await;
    one.announce(presence("one", InstanceRole::Owner));
    other.announce(presence("other", InstanceRole::Standby));
    one.settled().await;
    assert_eq!(other.account(user_id(1)).await, Some(at_version(3)));
    assert_eq!(other.answer(answer("a", 1).signal.id).await, Some(answer("a", 1)));
    assert!(other.is_revoked("gone").await);
    assert_eq!(other.login_failed("ann", HOUR).await.count, 2);
    assert_eq!(one.login_failures("ann").await.count, 2);
    let both = [presence("one", InstanceRole::Owner), presence("other", InstanceRole::Standby)];
    eventually("both are there", async || one.instances().await == both).await;
    drop(other);
    eventually("one has gone", async || one.instances().await == both[..1]).await;
}

#[tokio::test]
async fn a_hint_is_heard_at_once_also_after_redis_was_restarted() {
    let shared = Shared::new().await;
    let mut hints = shared.other.hints();
    until_quiet(&mut hints).await;
    for epoch in [10, 20] {
        let mut quickest = Duration::MAX;
        for epoch in epoch..epoch + 5 {
            let began = Instant::now();
            shared.one.put_trading_state(state(epoch));
            tokio::time::timeout(Duration::from_secs(1), hints.changed()).await.expect("the hint is heard").unwrap();
            quickest = quickest.min(began.elapsed());
            shared.one.settled().await;
            assert_eq!(shared.other.trading_state().await, Some(state(epoch)));
        }
        assert!(quickest < Duration::from_millis(50), "a hint gathers no company: {quickest:?}");
        shared.server.kill();
        shared.server.restart();
        shared.until_up().await;
        until_quiet(&mut hints).await;
    }
}

#[tokio::test]
async fn a_redis_that_was_away_is_told_what_it_must_know() {
    let shared = Shared::new().await;
    shared.one.revoke_token("before".into(), i64::MAX);
    shared.one.put_trading_state(state(4));
    shared.one.settled().await;
    shared.server.kill();
    eventually("it is noticed", async || !shared.one.is_up() && !shared.other.is_up()).await;
    shared.one.revoke_token("meanwhile".into(), i64::MAX);
    shared.one.put_account(at_version(3));
    for token in ["before", "meanwhile"] {
        assert!(shared.one.is_revoked(token).await, "memory knows");
    }
    shared.server.restart();
    shared.until_up().await;
    shared.one.settled().await;
    for token in ["before", "meanwhile"] {
        assert!(shared.other.is_revoked(token).await, "{token}");
    }
    assert_eq!(shared.other.trading_state().await, Some(state(4)));
    assert_eq!(shared.other.account(user_id(1)).await, Some(at_version(3)));
}

#[tokio::test]
async fn a_redis_that_was_emptied_is_told_again_and_makes_nothing_good() {
    let shared = Shared::new().await;
    shared.one.announce(presence("one", InstanceRole::Owner));
    shared.one.revoke_token("gone".into(), i64::MAX);
    shared.one.login_failed("ann", HOUR).await;
    shared.one.settled().await;
    eventually("the heartbeat is there", async || !shared.other.instances().await.is_empty()).await;
    assert_eq!(shared.server.say("FLUSHALL"), "+OK");
    assert!(shared.one.is_revoked("gone").await);
    assert_eq!(shared.one.login_failed("ann", HOUR).await.count, 2, "memory has counted, too");
    eventually("the other can know it again", async || shared.other.is_revoked("gone").await).await;
    eventually("and what was counted", async || shared.other.login_failures("ann").await.count == 2).await;
}

#[tokio::test]
async fn a_redis_that_hangs_costs_one_short_wait_and_nothing_is_lost() {
    let shared = Shared::new().await;
    shared.one.put_account(at_version(1));
    shared.one.settled().await;
    shared.server.signal("-STOP");
    let began = Instant::now();
    assert_eq!(shared.one.account(user_id(1)).await, None);
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    assert!(!shared.one.is_up());
    let began = Instant::now();
    for version in 2..1_000 {
        shared.one.put_account(at_version(version));
        assert!(!shared.one.is_revoked("other").await);
        assert_eq!(shared.one.login_failures("ann").await.count, 0);
    }
    assert!(began.elapsed() < Duration::from_millis(500), "while it is known to be away nobody waits");
    shared.server.signal("-CONT");
    eventually("it is up", async || shared.one.is_up()).await;
    shared.one.settled().await;
    assert_eq!(shared.one.account(user_id(1)).await, Some(at_version(999)));
}

#[tokio::test]
async fn what_was_on_its_way_when_redis_died_arrives_later() {
    let shared = Shared::new().await;
    shared.server.signal("-STOP");
    // This goes at once, and hangs in the middle.
    shared.one.forget_account(user_id(1));
    shared.one.put_account(at_version(5));
    eventually("it is noticed", async || !shared.one.is_up()).await;
    shared.server.kill();
    shared.server.restart();
    eventually("it is up", async || shared.one.is_up()).await;
    shared.one.settled().await;
    assert_eq!(shared.one.account(user_id(1)).await, Some(at_version(5)));
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_not_up() {
    let shared = Shared::new().await;
    shared.one.announce(presence("one", InstanceRole::Owner));
    eventually("it is there", async || !shared.one.instances().await.is_empty()).await;
    assert_eq!(shared.server.say("REPLICAOF 127.0.0.1 1"), "+OK");
    eventually("it is noticed", async || !shared.one.is_up()).await;
    assert_eq!(shared.server.say("REPLICAOF NO ONE"), "+OK");
    eventually("it is up", async || shared.one.is_up()).await;
}

#[tokio::test]
async fn what_was_projected_from_another_ledger_is_not_there() {
    let shared = Shared::new().await;
    shared.one.put_account(at_version(1_000));
    shared.one.put_mark(mark(1));
    shared.one.put_answer(answer("a", 1));
    shared.one.settled().await;
    let stranger = open(&shared.server, Uuid::from_u128(2)).await;
    assert_eq!(stranger.account(user_id(1)).await, None);
    assert_eq!(stranger.mark(&mark(1).symbol).await, None);
    assert_eq!(stranger.answer(answer("a", 1).signal.id).await, None);
}

#[tokio::test]
async fn an_instance_that_was_paused_replaces_nothing_newer() {
    let shared = Shared::new().await;
    shared.one.put_account(at_version(9));
    shared.one.put_mark(mark(9));
    shared.one.put_trading_state(state(9));
    shared.one.settled().await;
    shared.other.put_account(at_version(8));
    shared.other.put_mark(mark(8));
    shared.other.put_trading_state(state(8));
    shared.other.settled().await;
    assert_eq!(shared.one.account(user_id(1)).await, Some(at_version(9)));
    assert_eq!(shared.one.mark(&mark(1).symbol).await, Some(mark(9)));
    assert_eq!(shared.one.trading_state().await, Some(state(9)));
}

#[tokio::test]
async fn what_cannot_be_read_is_not_there_and_what_cannot_be_written_keeps_nothing_waiting() {
    let shared = Shared::new().await;
    let head = format!("nexus:{}", LEDGER.simple());
    for spoilt in ["\"\"", "0", "00000000000000000009{}", "\"not json at all, but long enough\""] {
        assert_eq!(shared.server.say(&format!("SET {head}:account:{} {spoilt}", user_id(1))), "+OK");
        assert_eq!(shared.one.account(user_id(1)).await, None);
        assert!(shared.one.is_up(), "{spoilt} is not the fault of Redis");
    }
    // Under the key of a string lies something else: Redis refuses, and goes on refusing.
    assert_eq!(shared.server.say(&format!("DEL {head}:mark:EURUSD")), ":0");
    assert_eq!(shared.server.say(&format!("RPUSH {head}:mark:EURUSD x")), ":1");
    shared.one.put_mark(mark(1));
    shared.one.revoke_token("token".into(), i64::MAX);
    shared.one.settled().await;
    assert!(shared.other.is_revoked("token").await);
    assert_eq!(shared.one.mark(&mark(1).symbol).await, None);
    assert!(shared.one.is_up());
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Kind::Redis.private(folder.path());
    server.kill();
    let began = Instant::now();
    let hot = open(&server, LEDGER).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(!hot.is_up());
    hot.put_account(at_version(1));
    server.restart();
    eventually("it is up", async || hot.is_up()).await;
    hot.settled().await;
    assert_eq!(hot.account(user_id(1)).await, Some(at_version(1)));
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    for url in ["", "redis://", "http://127.0.0.1", "redis://127.0.0.1:port", "redis://127.0.0.1/x"] {
        let opened = RedisHotState::open(url, "nexus", LEDGER).await;
        assert!(matches!(opened, Err(RedisOpenError::Url(_))), "{url:?}");
    }
}

#[tokio::test]
async fn many_accounts_are_sent_as_one_and_each_arrives() {
    let place = RedisPlace::fresh().await;
    let many: Vec<_> = (1..=300)
        .map(|n| Arc::new(nexus_engine::account::Account { version: 5, ..crate::story::account(user_id(n)) }))
        .collect();
    for account in &many {
        place.hot.put_account(Arc::clone(account));
    }
    place.settle().await;
    for account in &many {
        assert_eq!(place.hot.account(account.user).await.as_ref(), Some(account));
    }
}
