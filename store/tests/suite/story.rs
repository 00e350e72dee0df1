//! Accounts that really trade: turns are made by the engine, not by hand, so the ledger is shown what it will be shown.

use std::sync::Arc;

use nexus_actors::ports::{CommitVerdict, Ledger, SignalRecord, TurnRecord};
use nexus_engine::account::{Acceptance, Account, Context, Decision, Event, Input, Verdict};
use nexus_engine::gate::{Gate, TradingState};
use nexus_engine::ids::{ClientOrderId, DecisionId, FeedId, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::order::{News, Report};
use nexus_engine::signal::{RawSignal, Signal};
use nexus_engine::units::{Money, Quantity};
use nexus_store::directory::{Credentials, Directory, Feed, FeedSecrets, Role, User};
use uuid::Uuid;

/// 2026-11-24T12:00:00Z.
pub const NOON: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);
pub const DAY: &str = "2026-11-24";

pub fn user_id(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

pub fn feed_id() -> FeedId {
    FeedId(Uuid::from_u128(0xfeed))
}

pub fn minutes(n: i64) -> Timestamp {
    Timestamp::from_micros(NOON.micros() + n * 60_000_000)
}

/// A world with one feed and one instrument, EURUSD at 1.08490/1.08500 without fee.
pub struct Story<'a, S> {
    pub store: &'a S,
    pub now: Timestamp,
    executions: u32,
}

impl<'a, S: Ledger + Directory> Story<'a, S> {
    /// Users 1 to `users`, each with 500.00, all following the feed.
    pub async fn begins(store: &'a S, users: u128) -> Self {
        make_feed(store, feed_id(), "breakout").await;
        for n in 1..=users {
            make_user(store, user_id(n), &format!("user{n}")).await;
            store.subscribe(feed_id(), user_id(n), NOON).await.unwrap();
        }
        Self::resumes(store)
    }

    /// The same on a store that has them already.
    pub fn resumes(store: &'a S) -> Self {
        Self { store, now: NOON, executions: 0 }
    }

    pub async fn load(&self, n: u128) -> Account {
        let account = self.store.load_account(user_id(n), None).await.unwrap().expect("the user has an account");
        account.check().unwrap();
        account
    }

    /// Takes a turn in memory and returns what is to be committed.
    pub fn turn(&self, account: &mut Account, input: Input, signal: Option<Arc<SignalRecord>>) -> TurnRecord {
        self.turn_in(account, input, signal, self.context())
    }

    fn turn_in(
        &self,
        account: &mut Account,
        input: Input,
        signal: Option<Arc<SignalRecord>>,
        context: Context,
    ) -> TurnRecord {
        let base_version = account.version;
        let turn = account.step(self.now, &input, &context);
        account.check().unwrap();
        assert_eq!(account.version, base_version + 1, "the input changed nothing: {input:?}");
        let after = Arc::new(account.clone());
        TurnRecord { user: account.user, base_version, now: self.now, input, context, turn, after, signal }
    }

    /// Looks at a position while the market is at `price`.
    pub fn look(&self, account: &mut Account, decision: DecisionId, price: &str) -> TurnRecord {
        let mut context = self.context();
        let price = price.parse().unwrap();
        context.mark = context.mark.map(|mark| Mark { bid: price, ask: price, ..mark });
        self.turn_in(account, Input::Look(decision), None, context)
    }

    pub fn decide(&self, account: &mut Account, record: &Arc<SignalRecord>) -> TurnRecord {
        self.turn(account, Input::Signal(Arc::clone(&record.signal)), Some(Arc::clone(record)))
    }

    pub fn report(&self, account: &mut Account, order: ClientOrderId, news: News) -> TurnRecord {
        self.turn(account, Input::Report(Report { order, at: self.now, news }), None)
    }

    pub fn fill(&mut self, account: &mut Account, order: ClientOrderId, quantity: Quantity, price: &str) -> TurnRecord {
        self.executions += 1;
        let news = News::Filled {
            execution: format!("{}-{}", account.user, self.executions).into(),
            quantity,
            price: price.parse().unwrap(),
            fee: Money::ZERO,
        };
        self.report(account, order, news)
    }

    pub async fn commit(&self, batch: Vec<TurnRecord>) -> Vec<CommitVerdict> {
        self.store.commit(batch).await.unwrap()
    }

    pub async fn commit_one(&self, turn: TurnRecord) -> CommitVerdict {
        self.commit(vec![turn]).await.pop().expect("a verdict for each turn")
    }

    /// An accepted and committed decision.
    pub async fn accepted(&self, account: &mut Account, record: &Arc<SignalRecord>) -> Acceptance {
        let turn = self.decide(account, record);
        let acceptance = acceptance_of(&turn);
        assert_eq!(self.commit_one(turn).await, CommitVerdict::Committed);
        acceptance
    }

    fn context(&self) -> Context {
        let instrument = Instrument {
            symbol: "EURUSD".parse().unwrap(),
            tick: "0.00001".parse().unwrap(),
            lot: Quantity::whole(1),
            fee_percent: "0".parse().unwrap(),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        };
        let mark = Mark {
            symbol: instrument.symbol.clone(),
            bid: "1.08490".parse().unwrap(),
            ask: "1.08500".parse().unwrap(),
            at: self.now,
        };
        Context {
            gate: Gate { state: TradingState::Active, epoch: 1 },
            mark: Some(mark),
            instrument: Some(Arc::new(instrument)),
            subscribed: true,
        }
    }

    /// A signal to buy EURUSD with a stop 20 pips away, for users 1 to `users`.
    pub fn signal(&self, key: &str, timeframe: &str, users: u128) -> Arc<SignalRecord> {
        let text = |s: &str| Some(s.to_owned());
        let raw = RawSignal {
            symbol: text("EURUSD"),
            side: text("buy"),
            timeframe: text(timeframe),
            stop_loss: text("1.08300"),
            take_profit: text("1.08900"),
            breakeven_at_r: text("1.0"),
            ..RawSignal::default()
        };
        let signal = Arc::new(Signal::parse(feed_id(), key, &raw, self.now).unwrap());
        Arc::new(SignalRecord {
            signal,
            received_at: self.now,
            subscribers: (1..=users).map(user_id).collect(),
            mark: self.context().mark,
        })
    }
}

/// Without slippage allowance, so that the numbers can be checked by hand: 1 % of 500.00 is 5.00.
pub fn limits() -> Limits {
    Limits { slippage_allowance_percent: "0".parse().unwrap(), ..Limits::default() }
}

pub fn credentials(id: UserId, name: &str) -> Credentials {
    let user = User {
        id,
        username: name.to_owned(),
        role: Role::User,
        currency: "USD".into(),
        created_at: NOON,
        tokens_valid_from_unix_s: 0,
    };
    Credentials { user, password_hash: "$2b$12$hash".to_owned() }
}

pub fn account(id: UserId) -> Account {
    Account::open(id, "USD".into(), Money::whole(500), limits())
}

pub async fn make_user(store: &impl Directory, id: UserId, name: &str) {
    store.create_user(credentials(id, name), account(id)).await.unwrap();
}

pub fn feed(id: FeedId, name: &str) -> Feed {
    Feed { id, name: name.to_owned(), symbols: vec!["EURUSD".parse().unwrap()], created_at: NOON }
}

pub fn secrets(text: &str) -> FeedSecrets {
    FeedSecrets { api_key_sha256: format!("sha256 of {text}"), webhook_secret: format!("whsec_{text}") }
}

pub async fn make_feed(store: &impl Directory, id: FeedId, name: &str) {
    store.create_feed(feed(id, name), secrets(name)).await.unwrap();
}

pub fn decision_of(turn: &TurnRecord) -> &Decision {
    let decided = turn.turn.events.iter().find_map(|event| match event {
        Event::Decided(decision) => Some(decision),
        _ => None,
    });
    decided.expect("the turn decides")
}

pub fn acceptance_of(turn: &TurnRecord) -> Acceptance {
    match &decision_of(turn).verdict {
        Verdict::Accepted(acceptance) => acceptance.clone(),
        Verdict::Rejected(reasons) => panic!("refused: {reasons:?}"),
    }
}

/// The acceptance in a turn, to be falsified.
pub fn acceptance_in(turn: &mut TurnRecord) -> &mut Acceptance {
    let found = turn.turn.events.iter_mut().find_map(|event| match event {
        Event::Decided(Decision { verdict: Verdict::Accepted(acceptance), .. }) => Some(acceptance),
        _ => None,
    });
    found.expect("the turn accepts")
}

pub fn money(text: &str) -> Money {
    text.parse().unwrap()
}
