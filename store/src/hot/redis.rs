//! The production hot state: one Redis 7 (or newer) that all instances share.
//!
//! What is put goes into a bounded queue, where a newer snapshot takes the place of an older one, and a task of its own
//! sends what has gathered; nobody waits for it. What is asked gets an answer within a tenth of a second or none, and none at
//! once while Redis is known to be away. What restricts (revoked tokens, failed logins) is kept in this process as well, so
//! a Redis that was emptied, or came back with yesterday's data, makes nothing good again. When it is back, it is told again
//! what it must know. One server or a failover pair is meant, not a cluster: keys of one script lie in different slots.

mod link;
mod queue;
mod texts;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{ArmedWindow, HotState, KeptAnswer, LoginFailures, Presence, TradingStateRecord};
use nexus_engine::account::Account;
use nexus_engine::gate::Scope;
use nexus_engine::ids::{SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::signal::Side;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, cmd};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::kept::{Failures, Revoked, name_key};
use super::keys::{ANSWER_DECISIONS_MAX, Keys};
use link::Link;
use queue::Queue;

/// How long a start waits for a Redis that does not answer at once. It goes on without.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Why a hot state in Redis cannot be used at all. One that is away is no error.
#[derive(Debug, Error)]
pub enum RedisOpenError {
    /// The URL is not one, or asks for what this build does not have.
    #[error("the URL of Redis cannot be used: {0}")]
    Url(String),
}

/// The hot state in Redis. Dropping it ends its task.
pub struct RedisHotState {
    inner: Arc<Inner>,
    writer: JoinHandle<()>,
}

/// What the handle and the writing task share.
struct Inner {
    link: Link,
    keys: Keys,
    hints: watch::Sender<u64>,
    queue: Mutex<Queue>,
    /// Something is queued that can wait for company.
    lazy: Notify,
    /// Something is queued that cannot.
    urgent: Notify,
    /// The writing task holds what it has taken out of the queue.
    sending: AtomicBool,
    /// Changes when the writing task has sent what it held, for whoever waits for that.
    sent: watch::Sender<u64>,
    revoked: Mutex<Revoked>,
    failures: Mutex<Failures>,
    /// The newest that was put: told again to a Redis that has forgotten it.
    trading_state: Mutex<Option<TradingStateRecord>>,
    presence: Mutex<Option<Presence>>,
}

impl Drop for RedisHotState {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl RedisHotState {
    /// Speaks to the Redis of this URL (`redis://`, or `rediss://` for TLS), under keys that begin with `prefix` and the id
    /// of the ledger. Must be called inside a tokio runtime. A Redis that is away is spoken to as soon as it is there.
    pub async fn open(url: &str, prefix: &str, ledger: Uuid) -> Result<RedisHotState, RedisOpenError> {
        let keys = Keys::new(prefix, ledger);
        let hints = watch::Sender::new(0);
        let link = Link::new(url, hints.clone()).map_err(|error| RedisOpenError::Url(error.to_string()))?;
        let inner = Arc::new(Inner {
            link,
            keys,
            hints,
            queue: Mutex::default(),
            lazy: Notify::new(),
            urgent: Notify::new(),
            sending: AtomicBool::new(false),
            sent: watch::Sender::new(0),
            revoked: Mutex::default(),
            failures: Mutex::default(),
            trading_state: Mutex::default(),
            presence: Mutex::default(),
        });
        let mut up = inner.link.watch_up();
        let writer = tokio::spawn(writer::run(Arc::clone(&inner)));
        if tokio::time::timeout(START_PATIENCE, up.wait_for(|up| *up)).await.is_err() {
            tracing::warn!("Redis does not answer; the engine goes on without a shared hot state until it does");
        }
        Ok(RedisHotState { inner, writer })
    }

    /// Waits until everything that was put before is in Redis, which may be for ever. For tests and for leaving in order.
    pub async fn settled(&self) {
        let mut sent = self.inner.sent.subscribe();
        self.inner.urgent.notify_one();
        // The sender lives in what this borrows.
        let _ =
            sent.wait_for(|_| self.inner.queue.lock().is_empty() && !self.inner.sending.load(Ordering::SeqCst)).await;
    }
}

impl Inner {
    /// Changes the queue, and wakes the writing task if there was nothing to do before.
    fn put(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        let was_empty = queue.is_empty();
        change(&mut queue);
        drop(queue);
        if was_empty {
            self.lazy.notify_one();
        }
    }

    fn put_urgent(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue.lock());
        self.urgent.notify_one();
    }

    /// A value that stands as JSON behind `skip` bytes of a text.
    async fn value<T: DeserializeOwned>(&self, operation: &'static str, key: String, skip: usize) -> Option<T> {
        let text: Option<Vec<u8>> = self.link.ask(operation, cmd("GET").arg(key)).await?;
        let text = text?;
        let value = text.get(skip..).and_then(|json| serde_json::from_slice(json).ok());
        if value.is_none() {
            link::count_error(operation, &"a value is unreadable");
        }
        value
    }
}

impl HotState for RedisHotState {
    fn is_up(&self) -> bool {
        self.inner.link.is_up()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints.subscribe()
    }

    fn put_trading_state(&self, record: TradingStateRecord) {
        let mut held = self.inner.trading_state.lock();
        if record.scope == Scope::Everything && held.as_ref().is_none_or(|held| held.epoch <= record.epoch) {
            *held = Some(record);
        }
        // What is kept is told again for a narrower scope: it brings the hint.
        let kept = held.clone();
        drop(held);
        if let Some(kept) = kept {
            self.inner.put_urgent(|queue| queue.put_state(kept));
        }
        self.inner.hints.send_modify(|heard| *heard += 1);
    }

    fn trading_state(&self) -> BoxFuture<'_, Option<TradingStateRecord>> {
        async move {
            let stored: Option<texts::State> =
                self.inner.value("read_state", self.inner.keys.state(), texts::STAMP_LENGTH).await;
            let own = self.inner.trading_state.lock().clone();
            stored.map(TradingStateRecord::from).into_iter().chain(own).max_by_key(|record| record.epoch)
        }
        .boxed()
    }

    fn put_account(&self, account: Arc<Account>) {
        self.inner.put(|queue| queue.put_account(account));
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Option<Arc<Account>>> {
        async move {
            let key = self.inner.keys.account(user);
            let account: Account = self.inner.value("read_account", key, texts::STAMP_LENGTH).await?;
            (account.user == user).then(|| Arc::new(account))
        }
        .boxed()
    }

    fn forget_account(&self, user: UserId) {
        self.inner.put_urgent(|queue| queue.forget_account(user));
    }

    fn put_mark(&self, mark: Mark) {
        self.inner.put(|queue| queue.put_mark(mark));
    }

    fn mark(&self, symbol: &Symbol) -> BoxFuture<'_, Option<Mark>> {
        let symbol = symbol.clone();
        async move {
            let key = self.inner.keys.mark(&symbol);
            let mark: Mark = self.inner.value("read_mark", key, texts::STAMP_LENGTH).await?;
            (mark.symbol == symbol).then_some(mark)
        }
        .boxed()
    }

    fn arm_duplicate_window(&self, window: ArmedWindow) {
        if !window.lasts.is_zero() {
            self.inner.put(|queue| queue.put_window(window));
        }
    }

    fn duplicate_window<'a>(
        &'a self,
        user: UserId,
        symbol: &'a Symbol,
        side: Side,
        timeframe: Timeframe,
    ) -> BoxFuture<'a, Option<Timestamp>> {
        let key = self.inner.keys.window(user, symbol, side, timeframe);
        async move { self.inner.value("read_window", key, texts::STAMP_LENGTH).await }.boxed()
    }

    fn put_answer(&self, answer: KeptAnswer) {
        if answer.decisions.len() <= ANSWER_DECISIONS_MAX {
            self.inner.put(|queue| queue.put_answer(answer));
        }
    }

    fn answer(&self, signal: SignalId) -> BoxFuture<'_, Option<KeptAnswer>> {
        async move {
            let answer: texts::Answer = self.inner.value("read_answer", self.inner.keys.answer(signal), 0).await?;
            Some(KeptAnswer { signal: answer.signal, decisions: answer.decisions })
        }
        .boxed()
    }

    fn revoke_token(&self, token_id: CompactString, until_unix_s: i64) {
        if self.inner.revoked.lock().put(token_id.clone(), until_unix_s) {
            self.inner.put_urgent(|queue| queue.put_token(token_id, until_unix_s));
        }
    }

    fn is_revoked<'a>(&'a self, token_id: &'a str) -> BoxFuture<'a, bool> {
        async move {
            if self.inner.revoked.lock().contains(token_id) {
                return true;
            }
            let key = self.inner.keys.revoked(token_id);
            self.inner.link.ask("read_token", cmd("EXISTS").arg(key)).await.unwrap_or(false)
        }
        .boxed()
    }

    fn login_failed<'a>(&'a self, name: &'a str, window: Duration) -> BoxFuture<'a, LoginFailures> {
        async move {
            let name = name_key(name);
            let (key, window_ms) = (self.inner.keys.login(&name), texts::millis(window));
            let mut counting = Pipeline::new();
            counting.cmd("INCR").arg(&key).cmd("PEXPIRE").arg(&key).arg(window_ms).ignore();
            let counted: Option<(u32,)> = self.inner.link.ask_all("count_login", &counting).await;
            // What anybody has counted, without this one.
            let before = counted.map_or(0, |(count,)| count.saturating_sub(1));
            self.inner.failures.lock().add(&name, before, window)
        }
        .boxed()
    }

    fn login_failures<'a>(&'a self, name: &'a str) -> BoxFuture<'a, LoginFailures> {
        async move {
            let name = name_key(name);
            let key = self.inner.keys.login(&name);
            let mut asking = Pipeline::new();
            asking.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
            let found: Option<(Option<u32>, i64)> = self.inner.link.ask_all("read_login", &asking).await;
            let shared = found.and_then(|(count, ttl_ms)| {
                let forgotten_in = Duration::from_millis(u64::try_from(ttl_ms).ok()?);
                Some(LoginFailures { count: count?, forgotten_in })
            });
            // Once read, it is known here, whatever becomes of Redis.
            self.inner.failures.lock().learn(&name, shared.unwrap_or_default())
        }
        .boxed()
    }

    fn forget_login_failures<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let name = name_key(name);
            self.inner.failures.lock().forget(&name);
            // One that Redis does not hear of is forgotten there with the window; until then it can only refuse.
            let forgotten: Option<u32> =
                self.inner.link.ask("forget_login", cmd("DEL").arg(self.inner.keys.login(&name))).await;
            tracing::trace!(?forgotten, "failed logins are forgotten");
        }
        .boxed()
    }

    fn announce(&self, presence: Presence) {
        *self.inner.presence.lock() = Some(presence);
        self.inner.link.check_now();
    }

    fn instances(&self) -> BoxFuture<'_, Vec<Presence>> {
        async move {
            let all = cmd("ZRANGE").arg(self.inner.keys.instances()).arg(0).arg(-1).to_owned();
            let names: Vec<String> = self.inner.link.ask("read_instances", &all).await.unwrap_or_default();
            if names.is_empty() {
                return Vec::new();
            }
            let keys: Vec<String> = names.iter().map(|name| self.inner.keys.instance(name)).collect();
            let living: Cmd = cmd("MGET").arg(keys).to_owned();
            let found: Vec<Option<Vec<u8>>> = self.inner.link.ask("read_instances", &living).await.unwrap_or_default();
            let texts = found.iter().flatten().filter_map(|text| serde_json::from_slice::<texts::Instance>(text).ok());
            let mut instances: Vec<Presence> = texts.map(Presence::from).collect();
            instances.sort_by(|one, other| one.name.cmp(&other.name));
            instances
        }
        .boxed()
    }
}
