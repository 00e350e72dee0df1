//! Which signals are certainly new.
//!
//! A signal has to be looked up before it is decided, because a repeat is answered from the record; nearly all are new. So the
//! owner of the lease remembers every id that was ever recorded, in a Bloom filter: what it does not know was never recorded,
//! and is not asked for; what it may know is. Only the owner records signals, and it remembers an id before it writes it. The
//! ids that were there before are read when the lease is taken; until that is done, every signal is asked for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use nexus_engine::ids::SignalId;
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Ids in one question.
const PAGE: i64 = 20_000;
/// The wait before another attempt when the database did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// Ids of the first filter; each further one takes twice as many.
const FIRST: usize = 1 << 17;
/// Bits for each id, and how many of them are set: some 0.1 % of new signals are asked for without need.
const BITS: usize = 16;
const SET: u64 = 7;

/// What is known of the ids that are recorded.
#[derive(Default)]
pub(super) struct Newness(Mutex<Known>);

#[derive(Default)]
struct Known {
    filters: Vec<Filter>,
    /// Under which fence every recorded id is in the filters. Nobody has this one at the beginning.
    complete_under: Option<i64>,
}

impl Newness {
    /// Whether a signal was certainly never recorded, as far as the owner under this fence can say.
    pub(super) fn is_certain(&self, id: SignalId, fence: Option<i64>) -> bool {
        let known = self.0.lock();
        known.complete_under.is_some() && known.complete_under == fence && !known.may_contain(id.0)
    }

    /// These are about to be recorded.
    pub(super) fn add(&self, signals: impl IntoIterator<Item = SignalId>) {
        let mut known = self.0.lock();
        signals.into_iter().for_each(|id| known.insert(id.0));
    }

    /// Reads what was recorded before this fence, beside everything else. Ends early when the fence is not held any more.
    pub(super) fn learn(
        self: &Arc<Self>,
        pool: PgPool,
        fence: i64,
        patience: Duration,
        is_held: impl Fn() -> bool + Send + 'static,
    ) {
        let newness = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut after = Uuid::nil();
            while is_held() && newness.strong_count() > 0 {
                match page(&pool, after, patience).await {
                    Ok(ids) => {
                        let Some(more) = take(&newness, &ids, fence) else { return };
                        after = more;
                    }
                    Err(error) => {
                        tracing::warn!(error, "recorded signals cannot be read yet; every signal is asked for");
                        sleep(RETRY).await;
                    }
                }
            }
        });
    }
}

/// Remembers a page of ids; returns after which one the next page begins, nothing when this was the last one.
fn take(newness: &Weak<Newness>, ids: &[Uuid], fence: i64) -> Option<Uuid> {
    let newness = newness.upgrade()?;
    let mut known = newness.0.lock();
    ids.iter().for_each(|id| known.insert(*id));
    let last = ids.last().filter(|_| i64::try_from(ids.len()) == Ok(PAGE)).copied();
    if last.is_none() {
        known.complete_under = Some(fence);
    }
    last
}

async fn page(pool: &PgPool, after: Uuid, patience: Duration) -> Result<Vec<Uuid>, String> {
    let sql = "SELECT id FROM signals WHERE id > $1 ORDER BY id LIMIT $2";
    let asked = sqlx::query_scalar(sql).bind(after).bind(PAGE).fetch_all(pool);
    match timeout(patience, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

impl Known {
    fn may_contain(&self, id: Uuid) -> bool {
        self.filters.iter().any(|filter| filter.may_contain(id))
    }

    fn insert(&mut self, id: Uuid) {
        if self.filters.last().is_none_or(|filter| filter.room == 0) {
            self.filters.push(Filter::of(FIRST << self.filters.len()));
        }
        if let Some(filter) = self.filters.last_mut() {
            filter.insert(id);
        }
    }
}

/// A Bloom filter for a power of two of ids.
struct Filter {
    words: Vec<u64>,
    /// How many more ids it takes.
    room: usize,
}

impl Filter {
    fn of(ids: usize) -> Filter {
        Filter { words: vec![0; ids * BITS / 64], room: ids }
    }

    /// The places of an id: it is a hash already, so its two halves are all that is needed.
    fn places(&self, id: Uuid) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (high, low) = id.as_u64_pair();
        let (first, step) = (high ^ low.rotate_left(32), low.rotate_left(17) | 1);
        let mask = self.words.len() * 64 - 1;
        (0..SET).map(move |n| {
            let bit = first.wrapping_add(n.wrapping_mul(step));
            // Folded, so that the high bits count, too.
            let place = usize::try_from((bit ^ (bit >> 32)) & 0xffff_ffff).unwrap_or(0) & mask;
            (place / 64, 1 << (place % 64))
        })
    }

    fn may_contain(&self, id: Uuid) -> bool {
        self.places(id).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn insert(&mut self, id: Uuid) {
        for (word, bit) in self.places(id) {
            self.words[word] |= bit;
        }
        self.room = self.room.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_le_bytes())
    }

    #[test]
    fn what_was_added_is_never_new_and_nearly_everything_else_is() {
        let newness = Newness::default();
        let ids = 3 * u64::try_from(FIRST).unwrap();
        newness.add((0..ids).map(|n| SignalId(id(n))));
        newness.0.lock().complete_under = Some(7);
        assert!((0..ids).all(|n| !newness.is_certain(SignalId(id(n)), Some(7))));
        let asked = (ids..ids + 100_000).filter(|n| !newness.is_certain(SignalId(id(*n)), Some(7))).count();
        assert!(asked < 1_000, "{asked} of 100,000 new ones are asked for");
        assert_eq!(newness.0.lock().filters.len(), 2);
    }

    #[test]
    fn nothing_is_certain_before_all_is_read_and_under_another_fence() {
        let newness = Newness::default();
        assert!(!newness.is_certain(SignalId(id(1)), None));
        assert!(!newness.is_certain(SignalId(id(1)), Some(7)));
        newness.0.lock().complete_under = Some(7);
        assert!(newness.is_certain(SignalId(id(1)), Some(7)));
        assert!(!newness.is_certain(SignalId(id(1)), Some(8)));
        assert!(!newness.is_certain(SignalId(id(1)), None));
    }
}
