//! The keys of the hot state in Redis: their names, types and lives, in one place.
//!
//! Every key begins with a prefix that the operator chooses and with the id of the ledger that it was projected from: a Redis
//! that has served another database, or a copy of its data, is not believed for a moment. `docs/HOT_STATE.md` holds this
//! table for people.

use std::time::Duration;

use nexus_engine::ids::{SignalId, Symbol, Timeframe, UserId};
use nexus_engine::signal::Side;
use uuid::Uuid;

/// How long a complete answer is kept.
pub(super) const ANSWER_KEPT_FOR: Duration = Duration::from_secs(600);
/// Answers with more decisions are left to the ledger.
pub(super) const ANSWER_DECISIONS_MAX: usize = 100;
/// How long a snapshot that nobody replaces is kept: an account that has rested so long is read from the ledger.
pub(super) const ACCOUNT_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a mark is kept. It is far too old to trade on long before.
pub(super) const MARK_KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How long an instance that says nothing more is thought to run.
pub(super) const PRESENCE_KEPT_FOR: Duration = Duration::from_secs(5);

/// One row of the table of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyKind {
    /// The part after the prefix and the ledger's id.
    pub name: &'static str,
    /// What Redis calls its type.
    pub kind: &'static str,
    /// What is in it.
    pub value: &'static str,
    /// How long it lives.
    pub ttl: &'static str,
    /// Who writes it, and when.
    pub written: &'static str,
    /// Who reads it, and what it may lead to.
    pub read: &'static str,
}

const ACCOUNT: &str = "account";
const STATE: &str = "state";
const HINTS: &str = "hints";
const WINDOW: &str = "window";
const REVOKED: &str = "revoked";
const LOGIN: &str = "login";
const ANSWER: &str = "answer";
const MARK: &str = "mark";
const INSTANCE: &str = "instance";
const INSTANCES: &str = "instances";

/// Every kind of key, in the order in which the documentation shows them.
pub const KEYS: &[KeyKind] = &[
    KeyKind {
        name: "account:USER",
        kind: "string",
        value: "20 digits of the version, then the account as JSON",
        ttl: "7 days after the newest turn",
        written: "the committer, after each commit; an older version never replaces a newer one",
        read: "whoever loads the account; believed only when the ledger finds version and content equal to its own",
    },
    KeyKind {
        name: "state",
        kind: "string",
        value: "20 digits of the epoch, then the trading state as JSON",
        ttl: "none",
        written: "whoever has made a trading state durable; an older epoch never replaces a newer one",
        read: "tools; the engine reads the trading state from the ledger",
    },
    KeyKind {
        name: "hints",
        kind: "channel",
        value: "the epoch",
        ttl: "—",
        written: "whoever has made a trading state durable",
        read: "every instance, which then looks at the ledger at once instead of at its next poll",
    },
    KeyKind {
        name: "window:USER:SYMBOL:SIDE:TIMEFRAME",
        kind: "string",
        value: "20 digits of the time of the acceptance (microseconds), then the same as JSON",
        ttl: "the duplicate window",
        written: "the committer, after an acceptance is durable",
        read: "tools; the account and the ledger's own row decide",
    },
    KeyKind {
        name: "revoked:TOKEN",
        kind: "string",
        value: "1",
        ttl: "until the token would have expired",
        written: "whoever ends a token, and every instance that hears of it from the ledger",
        read: "whoever judges a token that memory does not know as revoked; it can only refuse",
    },
    KeyKind {
        name: "login:SHA256(NAME)",
        kind: "string (a counter)",
        value: "failed logins since the last good one",
        ttl: "LOCKOUT_MINUTES after the last failure",
        written: "a login that fails; one that succeeds deletes it",
        read: "every login, beside the count in memory: the larger one counts, and can only refuse",
    },
    KeyKind {
        name: "answer:SIGNAL",
        kind: "string",
        value: "the signal and its decisions as JSON",
        ttl: "10 minutes, less when there are more than 100,000",
        written: "the dispatcher, once every decision on the signal is durable",
        read: "the dispatcher, only while the ledger cannot be asked, and only for a signal that says the same",
    },
    KeyKind {
        name: "mark:SYMBOL",
        kind: "string",
        value: "20 digits of its time (microseconds), then the mark as JSON",
        ttl: "1 day",
        written: "whoever takes a mark; an older one never replaces a newer one",
        read: "a start, to know the market of a moment ago; too old a mark admits no entry",
    },
    KeyKind {
        name: "instance:NAME",
        kind: "string",
        value: "name, role, fence, since when, and the number of the heartbeat, as JSON",
        ttl: "5 seconds, renewed each second",
        written: "each instance for itself",
        read: "whoever lists the instances",
    },
    KeyKind {
        name: "instances",
        kind: "sorted set",
        value: "names by when they were last heard of (Unix seconds)",
        ttl: "none; names that were not heard of for a minute are removed",
        written: "each instance for itself",
        read: "whoever lists the instances",
    },
];

/// Makes the keys of one ledger.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Prefix and ledger, with the last colon.
    head: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, ledger: Uuid) -> Keys {
        Keys { head: format!("{prefix}:{}:", ledger.simple()) }
    }

    fn one(&self, kind: &str, of: impl std::fmt::Display) -> String {
        format!("{}{kind}:{of}", self.head)
    }

    pub(super) fn account(&self, user: UserId) -> String {
        self.one(ACCOUNT, user)
    }

    pub(super) fn state(&self) -> String {
        format!("{}{STATE}", self.head)
    }

    pub(super) fn hints(&self) -> String {
        format!("{}{HINTS}", self.head)
    }

    pub(super) fn window(&self, user: UserId, symbol: &Symbol, side: Side, timeframe: Timeframe) -> String {
        self.one(WINDOW, format_args!("{user}:{symbol}:{}:{timeframe}", side.as_str()))
    }

    pub(super) fn revoked(&self, token_id: &str) -> String {
        self.one(REVOKED, token_id)
    }

    pub(super) fn login(&self, name_key: &str) -> String {
        self.one(LOGIN, name_key)
    }

    pub(super) fn answer(&self, signal: SignalId) -> String {
        self.one(ANSWER, signal)
    }

    pub(super) fn mark(&self, symbol: &Symbol) -> String {
        self.one(MARK, symbol)
    }

    pub(super) fn instance(&self, name: &str) -> String {
        self.one(INSTANCE, name)
    }

    pub(super) fn instances(&self) -> String {
        format!("{}{INSTANCES}", self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table names what the functions make, and nothing else.
    #[test]
    fn every_key_is_in_the_table() {
        let keys = Keys::new("nexus", Uuid::nil());
        let (user, symbol) = (UserId(Uuid::from_u128(1)), "EURUSD".parse::<Symbol>().unwrap());
        let timeframe: Timeframe = "3H".parse().unwrap();
        let made = [
            keys.account(user).replace(&user.to_string(), "USER"),
            keys.state(),
            keys.hints(),
            keys.window(user, &symbol, Side::Buy, timeframe)
                .replace(&format!("{user}:EURUSD:buy:3H"), "USER:SYMBOL:SIDE:TIMEFRAME"),
            keys.revoked("TOKEN"),
            keys.login("SHA256(NAME)"),
            keys.answer(SignalId(Uuid::from_u128(2))).replace(&Uuid::from_u128(2).to_string(), "SIGNAL"),
            keys.mark(&symbol).replace("EURUSD", "SYMBOL"),
            keys.instance("NAME"),
            keys.instances(),
        ];
        let head = "nexus:00000000000000000000000000000000:";
        assert_eq!(
            made.map(|key| key.strip_prefix(head).unwrap().to_owned()),
            KEYS.iter().map(|row| row.name).collect::<Vec<_>>()[..]
        );
    }
}
