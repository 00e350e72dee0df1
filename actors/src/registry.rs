//! The registry: where the risk actor of a user is, or a new one when there is none.
//!
//! Every message to a risk actor goes through here, under the lock of the user's shard, and counts as load until it is
//! done. Passivation takes the same lock and only takes an actor without load out, so no message is lost between the two;
//! an actor that crashed refuses the message, and it goes to a new one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use nexus_engine::account::Account;
use nexus_engine::ids::UserId;
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef, ActorRuntime, MessagingErr};
use tokio::time::Instant;

use crate::rest::Stir;
use crate::risk::{Request, RiskActor, RiskMessage};
use crate::shared::Shared;

/// A power of two, so that a user's shard is a mask away; enough that cores do not meet.
const SHARDS: usize = 64;
/// A fresh actor that refuses its first message was refused by a tree that is ending.
const SEND_ATTEMPTS: usize = 3;

/// What the registry and a risk actor share.
pub(crate) struct Seat {
    load: AtomicUsize,
    stir: Stir,
    /// The account has open business: its actor stays, so that its stops can leave while the ledger is away.
    pub(crate) open_business: AtomicBool,
    /// The newest committed account.
    pub(crate) committed: ArcSwapOption<Account>,
}

/// One message that is not done; dropped when it is, or with a crashed actor.
pub(crate) struct Load(Arc<Seat>);

impl Load {
    pub(crate) fn on(seat: &Arc<Seat>) -> Load {
        seat.load.fetch_add(1, Ordering::SeqCst);
        Load(Arc::clone(seat))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.0.load.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.stir.stirred();
        }
    }
}

struct Tenant {
    actor: ActorRef<RiskMessage>,
    seat: Arc<Seat>,
    used: Instant,
}

/// Where everybody's risk actor is.
pub(crate) struct Registry {
    shards: Vec<Mutex<HashMap<UserId, Tenant>>>,
    by_actor: Mutex<HashMap<ActorId, UserId>>,
    /// Messages ever sent.
    sends: AtomicU64,
    stir: Stir,
}

impl Registry {
    pub(crate) fn new(stir: Stir) -> Registry {
        Registry {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            by_actor: Mutex::new(HashMap::new()),
            sends: AtomicU64::new(0),
            stir,
        }
    }

    fn shard(&self, user: UserId) -> &Mutex<HashMap<UserId, Tenant>> {
        let bytes = user.0.as_bytes();
        // Both ends, because ids of a simulated run are derived and those of a real one are random.
        &self.shards[usize::from(bytes[15] ^ bytes[0]) % SHARDS]
    }

    /// Hands a request to the user's risk actor, starting it when needed. When the tree is ending the request is dropped,
    /// and whoever waits for its reply sees that.
    pub(crate) fn send(&self, shared: &Arc<Shared>, user: UserId, request: Request) {
        let mut shard = self.shard(user).lock();
        self.sends.fetch_add(1, Ordering::SeqCst);
        let mut request = Box::new(request);
        for _ in 0..SEND_ATTEMPTS {
            let tenant = match shard.entry(user) {
                Entry::Occupied(tenant) => tenant.into_mut(),
                Entry::Vacant(vacant) => match self.spawn(shared, user) {
                    Some(tenant) => vacant.insert(tenant),
                    None => return,
                },
            };
            tenant.used = Instant::now();
            match tenant.actor.send_message(RiskMessage::Take(request, Load::on(&tenant.seat))) {
                Err(MessagingErr::SendErr(RiskMessage::Take(back, _load))) => {
                    request = back;
                    shard.remove(&user);
                }
                Ok(()) | Err(_) => return,
            }
        }
        tracing::error!(%user, "no risk actor takes messages");
    }

    fn spawn(&self, shared: &Arc<Shared>, user: UserId) -> Option<Tenant> {
        let root = shared.root.load_full()?;
        if shared.closing.is_cancelled() {
            return None;
        }
        let seat = Arc::new(Seat {
            load: AtomicUsize::new(0),
            stir: self.stir.clone(),
            open_business: AtomicBool::new(false),
            committed: ArcSwapOption::empty(),
        });
        let arguments = (Arc::clone(shared), user, Arc::clone(&seat));
        match ActorRuntime::<RiskActor>::spawn_linked_instant(None, RiskActor, arguments, root.get_cell()) {
            Ok((actor, _started)) => {
                self.by_actor.lock().insert(actor.get_id(), user);
                Some(Tenant { actor, seat, used: Instant::now() })
            }
            Err(error) => {
                tracing::error!(%user, %error, "a risk actor did not start");
                None
            }
        }
    }

    /// An actor has ended. Returns its user when it was a risk actor.
    pub(crate) fn ended(&self, actor: ActorId) -> Option<UserId> {
        let user = self.by_actor.lock().remove(&actor)?;
        let mut shard = self.shard(user).lock();
        if shard.get(&user).is_some_and(|tenant| tenant.actor.get_id() == actor) {
            shard.remove(&user);
        }
        Some(user)
    }

    /// The newest committed account of a user whose actor is in memory.
    pub(crate) fn committed(&self, user: UserId) -> Option<Arc<Account>> {
        self.shard(user).lock().get(&user)?.seat.committed.load_full()
    }

    /// Lets actors go that had nothing to do for `idle` and hold no open business. Returns how many.
    pub(crate) fn passivate(&self, idle: Duration) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            shard.lock().retain(|user, tenant| {
                let busy = tenant.seat.load.load(Ordering::SeqCst) > 0
                    || tenant.seat.open_business.load(Ordering::SeqCst)
                    || tenant.used.elapsed() < idle;
                if busy {
                    return true;
                }
                count += 1;
                if let Err(error) = tenant.actor.drain() {
                    tracing::debug!(%user, ?error, "a risk actor had ended before it was passivated");
                }
                false
            });
        }
        count
    }

    /// How many risk actors are in memory.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// How many messages were ever sent to risk actors.
    pub(crate) fn sends(&self) -> u64 {
        self.sends.load(Ordering::SeqCst)
    }

    /// How many messages to risk actors are not done.
    pub(crate) fn load(&self) -> usize {
        let load = |tenant: &Tenant| tenant.seat.load.load(Ordering::SeqCst);
        self.shards.iter().map(|shard| shard.lock().values().map(load).sum::<usize>()).sum()
    }
}
