//! What waits to be sent: the newest of each thing, in bounded memory.
//!
//! While Redis is away the queue fills up to its bounds; then whatever has waited longest is dropped, because the ledger has
//! it. Revoked tokens are dropped from here only when there are more than ever should be, and then all that the process
//! knows are sent again. What could not be sent comes back, and yields to what has come since.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use compact_str::CompactString;
use nexus_actors::ports::{ArmedWindow, KeptAnswer, TradingStateRecord};
use nexus_engine::account::Account;
use nexus_engine::ids::{Symbol, Timeframe, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::signal::Side;

/// Snapshots: those of active accounts are in memory anyway.
pub(super) const ACCOUNTS_MAX: usize = 16_384;
const MARKS_MAX: usize = 16_384;
const WINDOWS_MAX: usize = 8_192;
/// Also bounds what a busy engine spends on them: some thousand a second.
pub(super) const ANSWERS_MAX: usize = 512;
const TOKENS_MAX: usize = 65_536;

/// What is to be done to the snapshot of a user.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct AccountWork {
    /// What is there was proven wrong, whatever its version.
    pub(super) forget: bool,
    /// Put afterwards.
    pub(super) put: Option<Arc<Account>>,
}

impl AccountWork {
    /// This, and then `next`.
    fn then(&mut self, next: AccountWork) {
        if next.forget {
            *self = next;
            return;
        }
        let newer = |account: &Arc<Account>| self.put.as_ref().is_none_or(|held| held.version <= account.version);
        if let Some(account) = next.put.filter(newer) {
            self.put = Some(account);
        }
    }
}

type WindowKey = (UserId, Symbol, Side, Timeframe);

/// Everything that waits.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) state: Option<TradingStateRecord>,
    pub(super) tokens: Vec<(CompactString, i64)>,
    /// More tokens came than may wait, or Redis has forgotten them: all that are known are to be sent.
    pub(super) all_tokens: bool,
    /// Redis has forgotten the failed logins: those that are known are to be sent.
    pub(super) all_failures: bool,
    pub(super) accounts: Coalesced<UserId, AccountWork, ACCOUNTS_MAX>,
    pub(super) marks: Coalesced<Symbol, Mark, MARKS_MAX>,
    pub(super) windows: Coalesced<WindowKey, ArmedWindow, WINDOWS_MAX>,
    pub(super) answers: VecDeque<KeptAnswer>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_none()
            && self.tokens.is_empty()
            && !self.all_tokens
            && !self.all_failures
            && self.accounts.is_empty()
            && self.marks.is_empty()
            && self.windows.is_empty()
            && self.answers.is_empty()
    }

    pub(super) fn put_state(&mut self, record: TradingStateRecord) {
        if self.state.as_ref().is_none_or(|held| held.epoch <= record.epoch) {
            self.state = Some(record);
        }
    }

    pub(super) fn put_account(&mut self, account: Arc<Account>) {
        let user = account.user;
        self.accounts.put(user, AccountWork { forget: false, put: Some(account) }, AccountWork::then);
    }

    pub(super) fn forget_account(&mut self, user: UserId) {
        self.accounts.put(user, AccountWork { forget: true, put: None }, AccountWork::then);
    }

    pub(super) fn put_mark(&mut self, mark: Mark) {
        self.marks.put(mark.symbol.clone(), mark, |held, new| {
            if new.at >= held.at {
                *held = new;
            }
        });
    }

    pub(super) fn put_window(&mut self, window: ArmedWindow) {
        let key = (window.user, window.symbol.clone(), window.side, window.timeframe);
        self.windows.put(key, window, |held, new| {
            if new.accepted_at >= held.accepted_at {
                *held = new;
            }
        });
    }

    pub(super) fn put_answer(&mut self, answer: KeptAnswer) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    pub(super) fn put_token(&mut self, token_id: CompactString, until_unix_s: i64) {
        if self.tokens.len() < TOKENS_MAX {
            self.tokens.push((token_id, until_unix_s));
        } else {
            self.tokens.clear();
            self.all_tokens = true;
        }
    }

    /// Takes back what could not be sent. What has come since is newer.
    pub(super) fn take_back(&mut self, unsent: Queue) {
        let mut since = std::mem::replace(self, unsent);
        if let Some(record) = since.state.take() {
            self.put_state(record);
        }
        self.all_tokens |= since.all_tokens;
        self.all_failures |= since.all_failures;
        for (token_id, until) in since.tokens {
            self.put_token(token_id, until);
        }
        for (user, work) in since.accounts.drain() {
            self.accounts.put(user, work, AccountWork::then);
        }
        since.marks.drain().into_iter().for_each(|(_, mark)| self.put_mark(mark));
        since.windows.drain().into_iter().for_each(|(_, window)| self.put_window(window));
        since.answers.into_iter().for_each(|answer| self.put_answer(answer));
    }
}

/// The newest of each key; at most `MAX`, the one that has waited longest goes first.
pub(super) struct Coalesced<K, V, const MAX: usize> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V, const MAX: usize> Default for Coalesced<K, V, MAX> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Eq + Hash + Clone, V, const MAX: usize> Coalesced<K, V, MAX> {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn put(&mut self, key: K, value: V, merge: impl FnOnce(&mut V, V)) {
        if let Some(held) = self.values.get_mut(&key) {
            return merge(held, value);
        }
        if self.values.len() >= MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.values.insert(key, value);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter()
    }

    /// Takes out everything, in the order in which it came.
    pub(super) fn drain(&mut self) -> Vec<(K, V)> {
        let order = std::mem::take(&mut self.order);
        let mut values = std::mem::take(&mut self.values);
        order.into_iter().filter_map(|key| values.remove_entry(&key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::instrument::Currency;
    use nexus_engine::limits::Limits;
    use nexus_engine::units::Money;
    use uuid::Uuid;

    fn account(user: u128, version: u64) -> Arc<Account> {
        let user = UserId(Uuid::from_u128(user));
        Arc::new(Account { version, ..Account::open(user, Currency::new("USD"), Money::ZERO, Limits::default()) })
    }

    fn works(queue: &mut Queue) -> Vec<(bool, Option<u64>)> {
        queue.accounts.drain().into_iter().map(|(_, work)| (work.forget, work.put.map(|it| it.version))).collect()
    }

    #[test]
    fn the_newest_snapshot_of_each_user_waits() {
        let mut queue = Queue::default();
        for version in [2, 1, 5, 4] {
            queue.put_account(account(1, version));
        }
        queue.put_account(account(2, 1));
        assert_eq!(works(&mut queue), [(false, Some(5)), (false, Some(1))]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_was_forgotten_stays_forgotten_before_what_came_after() {
        let mut queue = Queue::default();
        queue.put_account(account(1, 9));
        queue.forget_account(account(1, 0).user);
        queue.put_account(account(1, 3));
        assert_eq!(works(&mut queue), [(true, Some(3))]);
    }

    #[test]
    fn what_could_not_be_sent_yields_to_what_has_come_since() {
        let (mut unsent, mut queue) = (Queue::default(), Queue::default());
        unsent.put_account(account(1, 7));
        unsent.put_account(account(2, 7));
        unsent.put_token("old".into(), 1);
        queue.put_account(account(1, 8));
        queue.forget_account(account(2, 0).user);
        queue.put_token("new".into(), 1);
        queue.take_back(unsent);
        assert_eq!(works(&mut queue), [(false, Some(8)), (true, None)]);
        assert_eq!(queue.tokens.len(), 2);
    }

    #[test]
    fn memory_is_bounded_and_no_token_is_lost() {
        let mut queue = Queue::default();
        for n in 0..ACCOUNTS_MAX + 10 {
            queue.put_account(account(u128::try_from(n).unwrap() + 1, 1));
        }
        let kept = queue.accounts.drain();
        assert_eq!(kept.len(), ACCOUNTS_MAX);
        assert_eq!(kept[0].0, account(11, 0).user, "those that waited longest have gone");
        for n in 0..=TOKENS_MAX {
            queue.put_token(format!("{n}").into(), 1);
        }
        assert!(queue.all_tokens && queue.tokens.is_empty());
    }
}
