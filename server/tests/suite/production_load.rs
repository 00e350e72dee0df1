//! A feed under way: some senders that repeat every signal until it is answered, and a market that moves through stops and
//! targets, whatever happens to the engine or to its database meanwhile.
//!
//! Repeating under the same id is all that a feed has to do to be safe; so that is all that this one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::engine::{PATIENCE, World};
use super::production::Sql;
use super::promises::{limit, market};

/// How many signals are under way at once.
const SENDERS: usize = 8;
/// The wait before an answerless signal is sent again: whoever is told to come back later does so here at once.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What the feed has sent and what it was answered, over all lives of the engine.
#[derive(Default)]
pub struct Record {
    next: AtomicU64,
    is_over: AtomicBool,
    /// How often a signal was refused with 503.
    pub refused: AtomicU64,
    /// How often there was no answer at all.
    pub unanswered: AtomicU64,
    /// Every signal.
    pub sent: Mutex<BTreeMap<String, Value>>,
    /// Those that were decided, as they were answered first.
    pub answered: Mutex<BTreeMap<String, Value>>,
}

/// A load on one address.
pub struct Load {
    /// What has been done.
    pub record: Arc<Record>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins. The world's engine must come back on the same port.
    pub fn on(world: &World) -> Load {
        let record = Arc::new(Record::default());
        let target =
            Target { client: world.engine.client.clone(), url: world.engine.base.clone(), feed: world.feed.clone() };
        let mut tasks = vec![tokio::spawn(move_market(target.clone(), Arc::clone(&record)))];
        tasks.extend((0..SENDERS).map(|_| tokio::spawn(send_signals(target.clone(), Arc::clone(&record)))));
        Load { record, tasks }
    }

    /// How many were answered.
    pub fn answered(&self) -> usize {
        self.record.answered.lock().len()
    }

    /// Waits for so many answers more; returns how long it took.
    pub async fn until_answered(&self, more: usize) -> Duration {
        let (began, before) = (Instant::now(), self.answered());
        while self.answered() < before + more {
            assert!(began.elapsed() < PATIENCE, "nothing is answered");
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a sender has given up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    /// Lets every signal that is under way be answered, and ends.
    pub async fn end(self) -> Arc<Record> {
        self.record.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("every answer was a good one");
        }
        self.record
    }
}

#[derive(Clone)]
struct Target {
    client: Client,
    url: String,
    feed: String,
}

/// Sends one signal after the other, each until it is decided.
async fn send_signals(target: Target, record: Arc<Record>) {
    while !record.is_over.load(Ordering::SeqCst) {
        let n = record.next.fetch_add(1, Ordering::SeqCst);
        let id = format!("load-{n}");
        let signal = match n % 3 {
            0 => limit(&id, "1.08450", "1.08300", "1.08900"),
            _ => market(&id, "1.08300", "1.08900"),
        };
        record.sent.lock().insert(id.clone(), signal.clone());
        let began = Instant::now();
        loop {
            if let Some(answer) = attempt(&target, &signal, &record).await {
                record.answered.lock().insert(id, answer);
                break;
            }
            assert!(began.elapsed() < 2 * PATIENCE, "{id} is never decided");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// The answer, when it is one.
async fn attempt(target: &Target, signal: &Value, record: &Record) -> Option<Value> {
    let request = target.client.post(format!("{}/api/v1/signals", target.url)).bearer_auth(&target.feed).json(signal);
    let read = async {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, response.text().await?))
    };
    let Ok((status, headers, text)) = read.await else {
        record.unanswered.fetch_add(1, Ordering::SeqCst);
        return None;
    };
    match status.as_u16() {
        200 => Some(serde_json::from_str(&text).expect("JSON")),
        // Some of it is decided: asked again until all is.
        202 => None,
        503 => {
            assert!(headers.contains_key("retry-after"), "a 503 says when to come back: {text}");
            record.refused.fetch_add(1, Ordering::SeqCst);
            None
        }
        _ => panic!("{status}: {text}"),
    }
}

/// Moves the market up to the targets and down to the stops.
async fn move_market(target: Target, record: Arc<Record>) {
    let prices = [("1.08495", "1.08505"), ("1.08900", "1.08910"), ("1.08440", "1.08450"), ("1.08295", "1.08305")];
    for (bid, ask) in prices.iter().cycle() {
        if record.is_over.load(Ordering::SeqCst) {
            return;
        }
        let mark = json!([{"symbol": "EURUSD", "bid": bid, "ask": ask, "at": jiff::Timestamp::now().to_string()}]);
        let sent = target.client.post(format!("{}/api/v1/marks", target.url)).bearer_auth(&target.feed).json(&mark);
        // Nobody may be there to hear it; the next one is as good.
        let _ = sent.send().await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Everything was answered and is there as it was answered, nothing is there twice, and nothing that was not sent.
pub async fn check_record(sql: &mut Sql, record: &Record, subscribers: i64) {
    let (sent, answered) = (record.sent.lock().clone(), record.answered.lock().clone());
    assert_eq!(sent.len(), answered.len(), "a feed that repeats is answered in the end");
    sql.check_answers(&answered).await;
    let count = i64::try_from(sent.len()).expect("few");
    assert_eq!(sql.number("SELECT count(*) FROM signals WHERE key LIKE 'load-%'").await, count);
    let decisions = "SELECT count(*) FROM decisions d JOIN signals s ON s.id = d.signal_id WHERE key LIKE 'load-%'";
    assert_eq!(sql.number(decisions).await, subscribers * count);
}
