//! The task that sends what has gathered, and the heartbeat.
//!
//! What can wait does for a moment, so that of an account that trades all the time only the newest snapshot is sent. Each
//! kind of thing goes in pipelines of its own, so that an error is counted under its name. A heartbeat writes: a Redis that
//! can be read but takes no write, because it is full or a replica, is not up. It also notices when what it wrote a second ago
//! is not there: then Redis was emptied or has old data, and is told again what it must know.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use nexus_actors::ports::LoginFailures;
use redis::Pipeline;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::Inner;
use super::link::{Failure, Link, count_error};
use super::queue::Queue;
use super::texts::{self, millis, stamp_of, stamped};
use crate::hot::keys::{ACCOUNT_KEPT_FOR, ANSWER_KEPT_FOR, MARK_KEPT_FOR, PRESENCE_KEPT_FOR};

/// How long what can wait does: the newest of what comes meanwhile goes for all.
const GATHER: Duration = Duration::from_millis(250);
/// Between two heartbeats while Redis answers …
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// … and while it does not.
const BEAT_AGAIN: Duration = Duration::from_millis(200);
/// Values in one script or pipeline: a fraction of a millisecond for Redis and for us.
const CHUNK: usize = 64;
/// Answers that live at once; when they come faster, each lives shorter.
const ANSWERS_ALIVE: f64 = 100_000.0;
/// An answer lives at least so long.
const ANSWER_KEPT_MIN: Duration = Duration::from_secs(10);
/// Over which time the rate of answers is judged.
const ANSWER_RATE_OVER: f64 = 10.0;
/// Instances that were not heard of for so long leave the list.
const INSTANCE_FORGOTTEN_S: u64 = 60;
/// The latest expiry that Redis is told: the end of the year 9999.
const UNTIL_MAX_S: i64 = 253_402_300_799;

/// Puts each value under its key unless a newer one is there. Values begin with their stamp; lives are in milliseconds,
/// none for ever.
const PUT_NEWEST: &str = "\
for i, key in ipairs(KEYS) do
  local value, life = ARGV[2 * i - 1], ARGV[2 * i]
  if redis.call('GETRANGE', key, 0, 19) <= string.sub(value, 1, 20) then
    if life == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', life) end
  end
end";

/// Counts that Redis has forgotten, for the time that is left to them. What it has counted meanwhile may be more.
const COUNT_AT_LEAST: &str = "\
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) < tonumber(ARGV[2 * i - 1]) then
    redis.call('SET', key, ARGV[2 * i - 1], 'PX', ARGV[2 * i])
  end
end";

/// Runs until it is dropped. A panic costs what was being sent, and no more: the ledger has it.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let writer = Writer {
            inner: Arc::clone(&inner),
            is_listening: false,
            beats: 0,
            beaten: None,
            run: None,
            answers: Rate::new(),
        };
        let Err(_) = AssertUnwindSafe(writer.work()).catch_unwind().await;
        tracing::error!("the task that writes to Redis has panicked; it begins anew");
        inner.link.set_up(false);
        inner.sending.store(false, Ordering::SeqCst);
        sleep(BEAT_AGAIN).await;
    }
}

struct Writer {
    inner: Arc<Inner>,
    is_listening: bool,
    /// Heartbeats so far, and what the last one wrote.
    beats: u64,
    beaten: Option<Vec<u8>>,
    /// Of the server process that answered the last heartbeat.
    run: Option<String>,
    answers: Rate,
}

impl Writer {
    fn link(&self) -> &Link {
        &self.inner.link
    }

    async fn work(mut self) -> Infallible {
        loop {
            self.beat().await;
            let next_beat = Instant::now() + if self.link().is_up() { BEAT_EVERY } else { BEAT_AGAIN };
            self.send_until(next_beat).await;
        }
    }

    /// Sends what gathers, until the next heartbeat is due or wanted.
    async fn send_until(&mut self, next_beat: Instant) {
        loop {
            let inner = Arc::clone(&self.inner);
            tokio::select! {
                biased;
                () = inner.link.until_check() => return,
                () = sleep_until(next_beat) => return,
                () = inner.urgent.notified() => {}
                () = inner.lazy.notified() => {
                    tokio::select! {
                        () = inner.urgent.notified() => {}
                        () = sleep(GATHER) => {}
                    }
                }
            }
            if inner.link.is_up() {
                self.send_all().await;
            }
        }
    }

    // ── The heartbeat ──

    async fn beat(&mut self) {
        let was_up = self.link().is_up();
        let touched = self.touch().await;
        // Both connections: what was connected again for one is not for the other.
        let heard = if self.is_listening {
            self.link().is_heard().await
        } else {
            self.link().listen(&self.inner.keys.hints()).await
        };
        self.is_listening |= heard.is_ok();
        let (Ok(is_as_left), Ok(())) = (touched, heard) else {
            self.link().set_up(false);
            return;
        };
        self.link().set_up(true);
        if !was_up || !is_as_left {
            self.tell_again();
            // Whatever was said while nobody could hear it.
            self.inner.hints.send_modify(|heard| *heard += 1);
        }
        if !was_up || !self.inner.queue.lock().is_empty() {
            self.send_all().await;
        }
    }

    /// Writes that this instance is there. Returns whether Redis still had what the heartbeat before wrote.
    async fn touch(&mut self) -> Result<bool, Failure> {
        let Some(presence) = self.inner.presence.lock().clone() else {
            return self.link().send("beat", redis::pipe().cmd("PING").ignore()).await.map(|()| true);
        };
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let text = serde_json::to_vec(&texts::Instance::of(&presence, self.beats)).map_err(|error| {
            count_error("beat", &error);
            Failure::Refused
        })?;
        let (keys, mut beat) = (&self.inner.keys, Pipeline::new());
        beat.cmd("SET").arg(keys.instance(&presence.name)).arg(&text);
        beat.arg("PX").arg(millis(PRESENCE_KEPT_FOR)).arg("GET");
        beat.cmd("ZADD").arg(keys.instances()).arg(now_s).arg(presence.name.as_str()).ignore();
        let forgotten = now_s.saturating_sub(INSTANCE_FORGOTTEN_S);
        beat.cmd("ZREMRANGEBYSCORE").arg(keys.instances()).arg("-inf").arg(forgotten).ignore();
        beat.cmd("INFO").arg("server");
        let (before, server): (Option<Vec<u8>>, String) = self.link().send("beat", &beat).await?;
        // Neither one that has gone nor one that is older: then Redis was emptied, or has yesterday's data. One that was started
        // again between two beats may have lost less than that, and something all the same.
        let (expected, run) = (self.beaten.replace(text), run_id(&server));
        let is_same_run = self.run.replace(run.clone()).is_none_or(|before| before == run);
        self.beats += 1;
        Ok(is_same_run && (expected.is_none() || before == expected))
    }

    /// Queues what a Redis that has forgotten everything must know.
    fn tell_again(&self) {
        let state = self.inner.trading_state.lock().clone();
        let mut queue = self.inner.queue.lock();
        (queue.all_tokens, queue.all_failures) = (true, true);
        if let Some(record) = state {
            queue.put_state(record);
        }
    }

    // ── The queue ──

    /// Sends everything that waits; what could not be sent waits again.
    async fn send_all(&mut self) {
        let mut work = {
            let mut queue = self.inner.queue.lock();
            self.inner.sending.store(true, Ordering::SeqCst);
            std::mem::take(&mut *queue)
        };
        if self.send_work(&mut work).await.is_err() {
            self.inner.queue.lock().take_back(work);
        }
        self.inner.sending.store(false, Ordering::SeqCst);
        self.inner.sent.send_modify(|times| *times += 1);
    }

    /// Takes out of `work` what was sent, or will never be taken.
    async fn send_work(&mut self, work: &mut Queue) -> Result<(), Failure> {
        self.send_tokens(work).await?;
        self.send_failures(work).await?;
        self.send_state(work).await?;
        self.send_accounts(work).await?;
        self.send_marks(work).await?;
        self.send_windows(work).await?;
        self.send_answers(work).await
    }

    /// A refusal is counted and not repeated: it would keep everything behind it waiting for ever.
    async fn give(&self, operation: &'static str, batch: &Pipeline) -> Result<(), Failure> {
        match self.link().send::<()>(operation, batch).await {
            Err(Failure::Away) => Err(Failure::Away),
            Ok(()) | Err(Failure::Refused) => Ok(()),
        }
    }

    async fn send_tokens(&self, work: &mut Queue) -> Result<(), Failure> {
        if work.all_tokens {
            work.tokens = self.inner.revoked.lock().all().map(|(token, until)| (token.clone(), until)).collect();
        }
        for chunk in work.tokens.chunks(CHUNK) {
            let mut batch = Pipeline::new();
            for (token, until) in chunk {
                let key = self.inner.keys.revoked(token);
                batch.cmd("SET").arg(key).arg(1).arg("EXAT").arg((*until).clamp(1, UNTIL_MAX_S)).ignore();
            }
            self.give("put_tokens", &batch).await?;
        }
        work.tokens.clear();
        work.all_tokens = false;
        Ok(())
    }

    async fn send_failures(&self, work: &mut Queue) -> Result<(), Failure> {
        let failures = if work.all_failures { self.inner.failures.lock().all() } else { Vec::new() };
        for chunk in failures.chunks(CHUNK) {
            let mut batch = Pipeline::new();
            batch.cmd("EVAL").arg(COUNT_AT_LEAST).arg(chunk.len());
            for (name, _) in chunk {
                batch.arg(self.inner.keys.login(name));
            }
            for (_, LoginFailures { count, forgotten_in }) in chunk {
                batch.arg(count).arg(millis(*forgotten_in));
            }
            self.give("put_failures", batch.ignore()).await?;
        }
        work.all_failures = false;
        Ok(())
    }

    async fn send_state(&self, work: &mut Queue) -> Result<(), Failure> {
        let Some(record) = &work.state else { return Ok(()) };
        let mut values = Values::default();
        values.add("put_state", self.inner.keys.state(), record.epoch, &texts::State::from(record), None);
        let mut batch = script(&values.0);
        batch.cmd("PUBLISH").arg(self.inner.keys.hints()).arg(record.epoch).ignore();
        self.give("put_state", &batch).await?;
        work.state = None;
        Ok(())
    }

    async fn send_accounts(&self, work: &mut Queue) -> Result<(), Failure> {
        let accounts: Vec<_> = work.accounts.iter().collect();
        for chunk in accounts.chunks(CHUNK) {
            let (mut batch, mut values) = (Pipeline::new(), Values::default());
            for (user, work) in chunk {
                let key = self.inner.keys.account(**user);
                if work.forget {
                    batch.cmd("DEL").arg(&key).ignore();
                }
                if let Some(account) = &work.put {
                    values.add("put_accounts", key, account.version, &**account, Some(ACCOUNT_KEPT_FOR));
                }
            }
            add_script(&mut batch, &values.0);
            self.give("put_accounts", &batch).await?;
        }
        drop(accounts);
        drop(work.accounts.drain());
        Ok(())
    }

    async fn send_marks(&self, work: &mut Queue) -> Result<(), Failure> {
        let mut values = Values::default();
        for (symbol, mark) in work.marks.iter() {
            values.add("put_marks", self.inner.keys.mark(symbol), stamp_of(mark.at), mark, Some(MARK_KEPT_FOR));
        }
        self.give_values("put_marks", values).await?;
        drop(work.marks.drain());
        Ok(())
    }

    async fn send_windows(&self, work: &mut Queue) -> Result<(), Failure> {
        let mut values = Values::default();
        for (_, window) in work.windows.iter() {
            let key = self.inner.keys.window(window.user, &window.symbol, window.side, window.timeframe);
            let at = window.accepted_at;
            values.add("put_windows", key, stamp_of(at), &at, Some(window.lasts));
        }
        self.give_values("put_windows", values).await?;
        drop(work.windows.drain());
        Ok(())
    }

    async fn send_answers(&mut self, work: &mut Queue) -> Result<(), Failure> {
        let life = self.answers.life(work.answers.len());
        for chunk in work.answers.make_contiguous().chunks(CHUNK) {
            let mut batch = Pipeline::new();
            for answer in chunk {
                let text = match serde_json::to_vec(&texts::Answer::from(answer)) {
                    Ok(text) => text,
                    Err(error) => {
                        count_error("put_answers", &error);
                        continue;
                    }
                };
                let key = self.inner.keys.answer(answer.signal.id);
                batch.cmd("SET").arg(key).arg(text).arg("PX").arg(millis(life)).ignore();
            }
            self.give("put_answers", &batch).await?;
        }
        work.answers.clear();
        Ok(())
    }

    async fn give_values(&self, operation: &'static str, values: Values) -> Result<(), Failure> {
        for chunk in values.0.chunks(CHUNK) {
            self.give(operation, &script(chunk)).await?;
        }
        Ok(())
    }
}

/// Values whose newest has to win, on their way.
#[derive(Default)]
struct Values(Vec<Value>);

struct Value {
    key: String,
    text: Vec<u8>,
    life: Option<Duration>,
}

impl Values {
    fn add<T: Serialize>(
        &mut self,
        operation: &'static str,
        key: String,
        stamp: u64,
        value: &T,
        life: Option<Duration>,
    ) {
        match stamped(stamp, value) {
            Ok(text) => self.0.push(Value { key, text, life }),
            Err(error) => count_error(operation, &error),
        }
    }
}

fn script(values: &[Value]) -> Pipeline {
    let mut batch = Pipeline::new();
    add_script(&mut batch, values);
    batch
}

/// What a Redis says of itself that changes with every start.
fn run_id(server: &str) -> String {
    server.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned()
}

/// The text and not its hash: a Redis that was restarted does not know the hash, and finds the text again by it anyway.
fn add_script(batch: &mut Pipeline, values: &[Value]) {
    if values.is_empty() {
        return;
    }
    batch.cmd("EVAL").arg(PUT_NEWEST).arg(values.len());
    for value in values {
        batch.arg(&value.key);
    }
    for value in values {
        batch.arg(&value.text).arg(value.life.map_or_else(String::new, |life| millis(life).to_string()));
    }
    batch.ignore();
}

/// How many a second there were lately.
struct Rate {
    per_second: f64,
    at: Instant,
}

impl Rate {
    fn new() -> Rate {
        Rate { per_second: 0.0, at: Instant::now() }
    }

    /// How long each of so many more may live, so that not too many do at once.
    fn life(&mut self, more: usize) -> Duration {
        let passed = self.at.elapsed().as_secs_f64();
        let more = u32::try_from(more).map_or(f64::MAX, f64::from);
        self.per_second = self.per_second * (-passed / ANSWER_RATE_OVER).exp() + more / ANSWER_RATE_OVER;
        self.at = Instant::now();
        let life = Duration::try_from_secs_f64(ANSWERS_ALIVE / self.per_second).unwrap_or(ANSWER_KEPT_FOR);
        life.clamp(ANSWER_KEPT_MIN, ANSWER_KEPT_FOR)
    }
}
