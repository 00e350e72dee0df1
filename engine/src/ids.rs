//! Names of things, and time.
//!
//! What must be the same after any repeat, crash or replay is a pure function of what it stands for: a signal's id of
//! its feed and key, a decision's of signal and user, a client order id of decision and leg. Nothing here is drawn at
//! random, so asking again always asks about the same thing (promises P2 and P3).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use uuid::Uuid;

use crate::units::TextVisitor;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// A person (or a program) whose money is traded.
    UserId
}
id! {
    /// An authenticated source of signals.
    FeedId
}
id! {
    /// A signal: a function of its feed and of the key that the feed gave it.
    SignalId
}
id! {
    /// The one decision on a signal and a user: a function of both.
    DecisionId
}

/// The namespace under which names given by people (users and feeds of a simulated run) become ids.
pub const NAMES: Uuid = Uuid::from_u128(0x6e65_7875_7300_4000_8000_0000_6e61_6d65);

impl SignalId {
    /// The id of a signal that is only asked about: no signal that is sent has it, because a derived id is never nil.
    pub const HYPOTHETICAL: SignalId = SignalId(Uuid::nil());

    /// The id of the signal that `feed` calls `key`.
    pub fn derive(feed: FeedId, key: &str) -> SignalId {
        SignalId(Uuid::new_v5(&feed.0, key.as_bytes()))
    }
}

impl DecisionId {
    /// The id of the one decision on `signal` for `user`.
    pub fn derive(signal: SignalId, user: UserId) -> DecisionId {
        DecisionId(Uuid::new_v5(&signal.0, user.0.as_bytes()))
    }
}

/// Which of a decision's orders: its entry, or its n-th exit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Leg {
    /// Opens the position.
    Entry,
    /// Shrinks it; numbered from 1.
    Exit(u16),
}

/// The id by which a venue knows an order: 32 hexadecimal digits of the decision, then `-e` or `-x1`, `-x2`, …
///
/// At most 38 characters; venues with shorter ids shorten it reversibly themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientOrderId {
    /// The decision that permits the order.
    pub decision: DecisionId,
    /// Which of its orders.
    pub leg: Leg,
}

impl ClientOrderId {
    /// The entry order of a decision.
    pub const fn entry(decision: DecisionId) -> Self {
        Self { decision, leg: Leg::Entry }
    }

    /// The n-th exit order of a decision.
    pub const fn exit(decision: DecisionId, n: u16) -> Self {
        Self { decision, leg: Leg::Exit(n) }
    }

    /// Whether this order opens new exposure.
    pub const fn is_entry(self) -> bool {
        matches!(self.leg, Leg::Entry)
    }
}

impl fmt::Display for ClientOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = self.decision.0.simple();
        match self.leg {
            Leg::Entry => write!(f, "{decision}-e"),
            Leg::Exit(n) => write!(f, "{decision}-x{n}"),
        }
    }
}

impl fmt::Debug for ClientOrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientOrderId({self})")
    }
}

/// A text that is not the name of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not {0}")]
pub struct NameError(pub &'static str);

impl FromStr for ClientOrderId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = NameError("a client order id");
        let (decision, leg) = text.split_once('-').ok_or(error)?;
        if decision.len() != 32 {
            return Err(error);
        }
        let decision = DecisionId(Uuid::try_parse(decision).map_err(|_| error)?);
        let leg = match leg.strip_prefix('x') {
            None if leg == "e" => Leg::Entry,
            None => return Err(error),
            Some(n) => Leg::Exit(n.parse().map_err(|_| error)?),
        };
        Ok(Self { decision, leg })
    }
}

/// Serialises a type as its text.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(std::marker::PhantomData))
            }
        }
    };
}
serde_as_text!(ClientOrderId);
serde_as_text!(Symbol);
serde_as_text!(Timeframe);

/// The name of an instrument: 1 to 24 of `A-Z 0-9 . _ - /`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(CompactString);

impl Symbol {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Symbol {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"._-/".contains(&b);
        if text.is_empty() || text.len() > 24 || !text.bytes().all(allowed) {
            return Err(NameError("a symbol (1 to 24 of A-Z, 0-9, '.', '_', '-', '/')"));
        }
        Ok(Self(CompactString::new(text)))
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Symbol({self})")
    }
}

/// The period of the bars that a signal was computed from, in minutes; written `15M`, `3H`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeframe {
    minutes: u32,
}

impl Timeframe {
    /// The longest period that makes sense: four weeks.
    pub const MINUTES_MAX: u32 = 28 * 24 * 60;

    /// A period of whole hours.
    pub const fn hours(hours: u32) -> Self {
        Self { minutes: hours * 60 }
    }

    /// The period.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.minutes as u64 * 60)
    }
}

impl FromStr for Timeframe {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = NameError("a timeframe (a number and M, H or D, as in 15M, 3H, 1D)");
        let unit = match text.as_bytes().last() {
            Some(b'M') => 1,
            Some(b'H') => 60,
            Some(b'D') => 24 * 60,
            _ => return Err(error),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error);
        }
        let count: u32 = digits.parse().map_err(|_| error)?;
        match count.checked_mul(unit) {
            Some(minutes) if minutes <= Self::MINUTES_MAX => Ok(Self { minutes }),
            _ => Err(error),
        }
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.minutes.is_multiple_of(60) {
            write!(f, "{}H", self.minutes / 60)
        } else {
            write!(f, "{}M", self.minutes)
        }
    }
}

impl fmt::Debug for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timeframe({self})")
    }
}

/// A point in time: microseconds since 1970-01-01T00:00:00Z. The engine is told it; it never asks.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

const MICROS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;

impl Timestamp {
    /// Before anything that happens.
    pub const ZERO: Self = Self(0);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long it is since `earlier`; zero when that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The UTC day.
    pub fn day(self) -> Day {
        Day(i32::try_from(self.0.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX))
    }
}

/// A UTC calendar day: days since 1970-01-01, written `2026-11-24`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i32);

impl fmt::Display for Day {
    /// The proleptic Gregorian calendar, by the days-to-civil method of Howard Hinnant's `chrono` paper.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shifted = i64::from(self.0) + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_as_in_a_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (20_781, "2026-11-24"),
            (11_016, "2000-02-29"),
        ] {
            assert_eq!(Day(days).to_string(), expected);
        }
    }

    #[test]
    fn client_order_ids_are_read_back() {
        let decision = DecisionId(Uuid::from_u128(7));
        for id in [ClientOrderId::entry(decision), ClientOrderId::exit(decision, 12)] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for wrong in ["", "x", "00000000000000000000000000000007", "00000000000000000000000000000007-y1"] {
            assert!(wrong.parse::<ClientOrderId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn timeframes_have_one_spelling_a_length() {
        for (text, expected) in [("3H", "3H"), ("180M", "3H"), ("1D", "24H"), ("15M", "15M")] {
            assert_eq!(text.parse::<Timeframe>().unwrap().to_string(), expected);
        }
        for wrong in ["", "H", "0H", "03H", "-3H", "3h", "3", "99999999999H", "673H", "٣H"] {
            assert!(wrong.parse::<Timeframe>().is_err(), "{wrong}");
        }
    }
}
