//! Signals looked up by id, many at a time.
//!
//! A signal that is not certainly new is asked for before it is decided: a repeat is answered from the record. Whatever arrives
//! while one question is out makes up the next one. Nobody waits for company.

use std::collections::HashMap;
use std::time::Duration;

use nexus_actors::ports::{LedgerError, SignalRecord};
use nexus_engine::ids::SignalId;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use super::fault::Fault;
use super::{Columns, in_time};
use crate::ledger::rows::{self, SIGNAL_COLUMNS};

/// Questions that may wait; further callers wait to queue.
const QUEUE: usize = 1_024;
/// The next question waits for this one, so one that finds no database must not keep it long.
const ACQUIRED_WITHIN: Duration = Duration::from_secs(1);
/// Signals in one question.
const AT_ONCE_MAX: usize = 256;

struct Question {
    id: SignalId,
    answer: oneshot::Sender<Result<Option<SignalRecord>, LedgerError>>,
}

/// The door of the task that asks. It ends when this is dropped.
pub(super) struct Lookup {
    questions: mpsc::Sender<Question>,
}

impl Lookup {
    pub(super) fn start(pool: PgPool, patience: Duration) -> Lookup {
        let (questions, mut queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut asked = Vec::with_capacity(AT_ONCE_MAX);
            while queue.recv_many(&mut asked, AT_ONCE_MAX).await > 0 {
                answer(&pool, patience, &mut asked).await;
            }
        });
        Lookup { questions }
    }

    /// The signal of this id, when it is recorded.
    pub(super) async fn find(&self, id: SignalId) -> Result<Option<SignalRecord>, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { id, answer }).await.map_err(|_| Fault::Closed)?;
        answered.await.map_err(|_| Fault::Closed)?
    }
}

/// Asks for all of them, and tells each. Whoever asked may be gone, and the same may be asked for twice.
async fn answer(pool: &PgPool, patience: Duration, asked: &mut Vec<Question>) {
    let ids: Vec<Uuid> = asked.iter().map(|question| question.id.0).collect();
    let found = find(pool, patience, &ids).await.map_err(LedgerError::from);
    for Question { id, answer } in asked.drain(..) {
        let of_this = found.as_ref().map_err(Clone::clone).and_then(|found| found.get(&id).cloned().transpose());
        drop(answer.send(of_this));
    }
}

type Found = HashMap<SignalId, Result<SignalRecord, LedgerError>>;

/// A record that cannot be read is the answer to its own question alone.
async fn find(pool: &PgPool, patience: Duration, ids: &[Uuid]) -> Result<Found, Fault> {
    let sql = format!("SELECT s.id, {SIGNAL_COLUMNS} FROM signals s WHERE s.id = ANY ($1)");
    let acquired = timeout(ACQUIRED_WITHIN, pool.acquire()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    let mut connection = acquired.map_err(Fault::not_sent)?;
    let answer = timeout(patience, sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(&mut *connection)).await;
    let rows = in_time(answer, connection).map_err(Fault::of_a_read)?;
    let mut found = Found::new();
    for row in &rows {
        let mut cells = Columns::of(row);
        let id = SignalId(rows::Cells::uuid(&mut cells)?);
        found.insert(id, rows::signal(&mut cells).map_err(|unreadable| Fault::from(unreadable).into()));
    }
    Ok(found)
}
