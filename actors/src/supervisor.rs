//! Supervision: who is started again, how often, and what it means when that is too often.
//!
//! ractor brings the events and no strategy: by default a supervisor ends with any child, so this one handles every event
//! itself and never fails. A singleton that ends is started again at once, with its state, which lives outside of it. More
//! than [`INTENSITY_MAX`] restarts of a kind within [`INTENSITY_WINDOW`] close the gate for entries: something is wrong that
//! restarting does not cure, exits still leave, and the restarts go on slowly. A risk actor is started by its next message;
//! one with open business at once, because its stops must be armed again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use nexus_engine::gate::{Scope, TradingState};
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::StopRequest;
use crate::kill_switch::{self, KillSwitchActor};
use crate::risk::{Request, Task};
use crate::router::OrderRouterActor;
use crate::shared::Shared;
use crate::venue::VenueActor;

/// Restarts of one kind …
const INTENSITY_MAX: usize = 5;
/// … within this time are accidents; more are a fault.
const INTENSITY_WINDOW: Duration = Duration::from_secs(60);
/// The wait before a restart beyond the intensity.
const SLOW_RESTART: Duration = Duration::from_secs(1);

/// How often what was started again.
#[derive(Default)]
pub(crate) struct Restarts {
    inner: Mutex<BTreeMap<&'static str, Record>>,
}

#[derive(Default)]
struct Record {
    total: u64,
    recent: VecDeque<Instant>,
}

impl Restarts {
    /// Counts a restart. Returns whether the kind is within its intensity.
    pub(crate) fn note(&self, kind: &'static str) -> bool {
        let mut inner = self.inner.lock();
        let record = inner.entry(kind).or_default();
        let now = Instant::now();
        record.total += 1;
        record.recent.push_back(now);
        while record.recent.front().is_some_and(|at| now.duration_since(*at) > INTENSITY_WINDOW) {
            record.recent.pop_front();
        }
        // Beyond the intensity one more or less says nothing new.
        record.recent.truncate(INTENSITY_MAX + 1);
        record.recent.len() <= INTENSITY_MAX
    }

    /// Restarts by kind.
    pub(crate) fn totals(&self) -> BTreeMap<&'static str, u64> {
        self.inner.lock().iter().map(|(kind, record)| (*kind, record.total)).collect()
    }
}

/// Something that there is one of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Singleton {
    Router,
    KillSwitch,
    Venue(CompactString),
}

impl Singleton {
    fn kind(&self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::KillSwitch => "kill_switch",
            Self::Venue(_) => "venue",
        }
    }
}

/// The mailbox of the root.
pub(crate) enum RootMessage {
    /// Start the singletons; says when they run.
    Begin(oneshot::Sender<Result<(), String>>),
    /// Start one again.
    Restart(Singleton),
}

/// The root of the tree.
pub(crate) struct RootSupervisor;

/// What the root knows of its children.
pub(crate) struct Family {
    shared: Arc<Shared>,
    singletons: HashMap<ActorId, Singleton>,
}

impl Actor for RootSupervisor {
    type Msg = RootMessage;
    type State = Family;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMessage>,
        shared: Arc<Shared>,
    ) -> Result<Family, ActorProcessingErr> {
        shared.root.store(Some(Arc::new(myself)));
        Ok(Family { shared, singletons: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        family: &mut Family,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Begin(begun) => {
                let result = family.begin(&myself).await.map_err(|error| error.to_string());
                if begun.send(result).is_err() {
                    tracing::error!("whoever started the tree has gone away");
                }
            }
            RootMessage::Restart(singleton) => {
                if let Err(error) = family.start(&myself, singleton.clone()).await {
                    tracing::error!(?singleton, %error, "an actor could not be started again; it is tried again");
                    myself.send_after(SLOW_RESTART, move || RootMessage::Restart(singleton));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        family: &mut Family,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => family.ended(&myself, &cell, Some(&error.to_string())),
            SupervisionEvent::ActorTerminated(cell, _, _) => family.ended(&myself, &cell, None),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl Family {
    async fn begin(&mut self, myself: &ActorRef<RootMessage>) -> Result<(), SpawnErr> {
        for name in self.shared.venues.keys().cloned().collect::<Vec<_>>() {
            self.start(myself, Singleton::Venue(name)).await?;
        }
        self.start(myself, Singleton::Router).await?;
        self.start(myself, Singleton::KillSwitch).await
    }

    async fn start(&mut self, myself: &ActorRef<RootMessage>, singleton: Singleton) -> Result<(), SpawnErr> {
        let (shared, root) = (Arc::clone(&self.shared), myself.get_cell());
        let id = match &singleton {
            Singleton::Router => OrderRouterActor::spawn_linked(None, OrderRouterActor, shared, root).await?.0.get_id(),
            Singleton::KillSwitch => {
                KillSwitchActor::spawn_linked(None, KillSwitchActor, shared, root).await?.0.get_id()
            }
            Singleton::Venue(name) => {
                VenueActor::spawn_linked(None, VenueActor, (shared, name.clone()), root).await?.0.get_id()
            }
        };
        self.singletons.insert(id, singleton);
        Ok(())
    }

    fn ended(&mut self, myself: &ActorRef<RootMessage>, cell: &ActorCell, error: Option<&str>) {
        if self.shared.closing.is_cancelled() {
            return;
        }
        if let Some(singleton) = self.singletons.remove(&cell.get_id()) {
            tracing::error!(?singleton, ?error, "an actor has ended; it is started again");
            let wait = if note_restart(&self.shared, singleton.kind()) { Duration::ZERO } else { SLOW_RESTART };
            myself.send_after(wait, move || RootMessage::Restart(singleton));
            return;
        }
        let Some(user) = self.shared.registry.ended(cell.get_id()) else { return };
        let Some(error) = error else { return };
        tracing::error!(%user, error, "a risk actor has failed; its account is read again");
        note_restart(&self.shared, "risk");
        if self.shared.owners.open_users().binary_search(&user).is_ok() {
            self.shared.registry.send(&self.shared, user, Request::of(Task::Arm));
        }
    }
}

/// Counts a restart; beyond the intensity the gate closes for entries. Returns whether it is within.
pub(crate) fn note_restart(shared: &Arc<Shared>, kind: &'static str) -> bool {
    let within = shared.restarts.note(kind);
    if !within && shared.latch.gate().state == TradingState::Active {
        let request = StopRequest {
            scope: Scope::Everything,
            state: TradingState::Halted,
            by: "supervisor".to_owned(),
            reason: Some(format!("{kind} was restarted more than {INTENSITY_MAX} times in {INTENSITY_WINDOW:?}")),
            cancel_open_orders: false,
            flatten: false,
        };
        let stopping = Arc::clone(shared);
        shared.tracker.spawn(async move {
            kill_switch::stop(&stopping, request).await;
        });
    }
    within
}

/// Runs a loop that must not end before the tree does, and starts it again when it panics.
pub(crate) fn keep_running<F>(shared: &Arc<Shared>, kind: &'static str, start: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let keeper = Arc::clone(shared);
    shared.tracker.spawn(async move {
        while let Err(error) = tokio::spawn(start()).await {
            if !error.is_panic() || keeper.closing.is_cancelled() {
                return;
            }
            tracing::error!(kind, %error, "a loop has panicked; it is started again");
            if !note_restart(&keeper, kind) {
                tokio::time::sleep(SLOW_RESTART).await;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_restarts_than_the_intensity_are_a_fault() {
        let restarts = Restarts::default();
        let within: Vec<_> = (0..7).map(|_| restarts.note("router")).collect();
        assert_eq!(within, [true, true, true, true, true, false, false]);
        assert!(restarts.note("venue"), "kinds are counted apart");
        assert_eq!(restarts.totals()["router"], 7);
    }
}
