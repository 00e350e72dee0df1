//! Exact quantities: prices, sizes, money and percentages as integers of 1e-8.
//!
//! Everything that Nexus counts is held in steps of 1e-8, in the engine, in the ledger's integer columns and in its
//! CHECKs alike, so sums are exact and comparable everywhere. A number that does not fit is refused where it enters;
//! it is never rounded into place. Products are formed in 128 bits and come back with a stated direction of rounding:
//! a cost rounds up, a profit rounds down, both against the user. A product beyond the range saturates, which makes
//! a risk look larger, never smaller.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Steps in one whole unit.
pub const SCALE: i64 = 100_000_000;
/// Decimal places that a number can hold.
pub const PLACES: usize = 8;

const _: () = assert!(PLACES == 8 && SCALE == 10_i64.pow(8));

/// Why a text is not a number that can be held exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Not a decimal number at all.
    #[error("is not a decimal number")]
    Malformed,
    /// More decimal places than 1e-8 can hold.
    #[error("has more than 8 decimal places")]
    TooPrecise,
    /// Beyond the range of the integer that holds it (about 92 billion).
    #[error("is too large")]
    TooLarge,
    /// A negative value where none makes sense.
    #[error("must not be negative")]
    Negative,
}

/// Reads a decimal text (optional sign, digits, optional fraction, optional exponent) into steps of 1e-8, exactly.
pub fn parse_steps(text: &str) -> Result<i64, NumberError> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (body, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_point = mantissa.contains('.');
    if whole.is_empty() || (has_point && fraction.is_empty()) {
        return Err(NumberError::Malformed);
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Malformed);
    }
    let magnitude = scale_digits(whole, fraction, exponent)?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// An exponent beyond any that could matter is as good as infinite: it is capped, and judged with the digits.
fn parse_exponent(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Malformed);
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1_000_000);
    Ok(if negative { -size } else { size })
}

fn scale_digits(whole: &str, fraction: &str, exponent: i64) -> Result<i64, NumberError> {
    let digits = || whole.bytes().chain(fraction.bytes());
    // Zeros at either end carry no value; without them the digits have one length and one place.
    let leading = digits().take_while(|b| *b == b'0').count();
    let total = whole.len() + fraction.len();
    if leading == total {
        return Ok(0);
    }
    let trailing = digits().rev().take_while(|b| *b == b'0').count();
    let place = |n: usize| i64::try_from(n).unwrap_or(i64::MAX / 4);
    // The power of ten of the last significant digit, in steps.
    let power = place(PLACES) + exponent - place(fraction.len()) + place(trailing);
    if power < 0 {
        return Err(NumberError::TooPrecise);
    }
    let significant = total - leading - trailing;
    if place(significant) + power > 19 {
        return Err(NumberError::TooLarge);
    }
    let mut steps: i128 = 0;
    for digit in digits().skip(leading).take(significant) {
        steps = steps * 10 + i128::from(digit - b'0');
    }
    let power = u32::try_from(power).map_err(|_| NumberError::TooLarge)?;
    i64::try_from(steps * 10_i128.pow(power)).map_err(|_| NumberError::TooLarge)
}

/// Writes steps as a decimal with at least `places_min` decimals and no needless zeros beyond them.
fn write_steps(f: &mut fmt::Formatter<'_>, steps: i64, places_min: usize) -> fmt::Result {
    let magnitude = steps.unsigned_abs();
    let scale = SCALE.unsigned_abs();
    let (whole, mut fraction) = (magnitude / scale, magnitude % scale);
    let mut places = PLACES;
    while places > places_min && fraction.is_multiple_of(10) {
        fraction /= 10;
        places -= 1;
    }
    let sign = if steps < 0 { "-" } else { "" };
    if places == 0 {
        return write!(f, "{sign}{whole}");
    }
    write!(f, "{sign}{whole}.{fraction:0places$}")
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The largest `q` with `q * b <= a`, for a positive `b`.
fn div_floor(a: i128, b: i128) -> i128 {
    a.div_euclid(b)
}

fn div_ceil(a: i128, b: i128) -> i128 {
    -(-a).div_euclid(b)
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, places_min = $places:expr, signed = $signed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// The largest value that can be held.
            pub const MAX: Self = Self(i64::MAX);

            /// From steps of 1e-8, as the ledger's columns hold them.
            pub const fn from_steps(steps: i64) -> Self {
                Self(steps)
            }

            /// Steps of 1e-8.
            pub const fn steps(self) -> i64 {
                self.0
            }

            /// From a whole number of units.
            pub const fn whole(units: i64) -> Self {
                Self(units.saturating_mul(SCALE))
            }

            /// Whether this is exactly zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// The sum, at most the largest value.
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference.
            #[must_use]
            pub const fn minus(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// This, or zero when it is below zero.
            #[must_use]
            pub const fn or_zero(self) -> Self {
                if self.0 < 0 { Self(0) } else { self }
            }
        }

        impl FromStr for $name {
            type Err = NumberError;

            fn from_str(text: &str) -> Result<Self, NumberError> {
                let steps = parse_steps(text)?;
                if steps < 0 && !$signed {
                    return Err(NumberError::Negative);
                }
                Ok(Self(steps))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_steps(f, self.0, $places)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

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

/// Reads a value from its text form; shared by every type here whose wire form is a string.
pub(crate) struct TextVisitor<T>(pub(crate) std::marker::PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

fixed! {
    /// A price of one unit of an instrument, in its quote currency. Also a distance between two prices.
    Price, places_min = 0, signed = false
}
fixed! {
    /// How much of an instrument.
    Quantity, places_min = 0, signed = false
}
fixed! {
    /// An amount of an account's currency; negative for a loss.
    Money, places_min = 2, signed = true
}
fixed! {
    /// A percentage: 1.0 is one part in a hundred.
    Percent, places_min = 1, signed = false
}
fixed! {
    /// A multiple of the initial risk of a trade: 1 R is the distance from entry to the first stop.
    Multiple, places_min = 1, signed = false
}

impl Price {
    /// Whether the price is a whole number of ticks.
    pub fn is_multiple_of(self, tick: Price) -> bool {
        tick.0 > 0 && self.0 % tick.0 == 0
    }

    /// The distance between two prices.
    #[must_use]
    pub fn distance(self, other: Price) -> Price {
        Price((self.0 - other.0).abs())
    }

    /// `percent` of this price, rounded up.
    #[must_use]
    pub fn percent_up(self, percent: Percent) -> Price {
        Price(saturate(div_ceil(i128::from(self.0) * i128::from(percent.0), i128::from(SCALE) * 100)))
    }

    /// This distance times a multiple, rounded up to a step.
    #[must_use]
    pub fn times_up(self, multiple: Multiple) -> Price {
        Price(saturate(div_ceil(i128::from(self.0) * i128::from(multiple.0), i128::from(SCALE))))
    }

    /// The nearest whole tick at or below.
    #[must_use]
    pub fn floor_to(self, tick: Price) -> Price {
        Price(self.0 - self.0.rem_euclid(tick.0.max(1)))
    }

    /// The nearest whole tick at or above.
    #[must_use]
    pub fn ceil_to(self, tick: Price) -> Price {
        Price(self.0.saturating_add((-self.0).rem_euclid(tick.0.max(1))))
    }
}

impl Quantity {
    /// What `price` times this quantity is worth, rounded up: for costs and exposures.
    pub fn value_up(self, price: Price) -> Money {
        Money(saturate(div_ceil(i128::from(self.0) * i128::from(price.0), i128::from(SCALE))))
    }

    /// The same, rounded down: for proceeds.
    pub fn value_down(self, price: Price) -> Money {
        Money(saturate(div_floor(i128::from(self.0) * i128::from(price.0), i128::from(SCALE))))
    }

    /// The largest quantity in whole lots whose worth at `unit` does not exceed `budget`.
    pub fn affordable(budget: Money, unit: Price, lot: Quantity) -> Quantity {
        if budget.0 <= 0 || unit.0 <= 0 || lot.0 <= 0 {
            return Quantity::ZERO;
        }
        let steps = div_floor(i128::from(budget.0) * i128::from(SCALE), i128::from(unit.0));
        let lots = steps / i128::from(lot.0);
        Quantity(saturate((lots * i128::from(lot.0)).min(i128::from(i64::MAX - lot.0))))
    }

    /// The smaller of two.
    #[must_use]
    pub fn at_most(self, other: Quantity) -> Quantity {
        self.min(other)
    }
}

impl Money {
    /// The same amount with the other sign.
    #[must_use]
    pub const fn negated(self) -> Money {
        Money(self.0.saturating_neg())
    }

    /// `percent` of this amount, rounded down.
    #[must_use]
    pub fn percent_down(self, percent: Percent) -> Money {
        Money(saturate(div_floor(i128::from(self.0) * i128::from(percent.0), i128::from(SCALE) * 100)))
    }

    /// `percent` of this amount, rounded up.
    #[must_use]
    pub fn percent_up(self, percent: Percent) -> Money {
        Money(saturate(div_ceil(i128::from(self.0) * i128::from(percent.0), i128::from(SCALE) * 100)))
    }

    /// The part of this amount that belongs to `part` out of `whole`, rounded down.
    #[must_use]
    pub fn share(self, part: Quantity, whole: Quantity) -> Money {
        if whole.0 <= 0 {
            return Money::ZERO;
        }
        Money(saturate(div_floor(i128::from(self.0) * i128::from(part.0), i128::from(whole.0))))
    }

    /// The average price when this amount bought `quantity`, rounded down to a step; zero for nothing.
    pub fn per_unit(self, quantity: Quantity) -> Price {
        if quantity.0 <= 0 {
            return Price::ZERO;
        }
        Price(saturate(div_floor(i128::from(self.0) * i128::from(SCALE), i128::from(quantity.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_held_exactly_or_refused() {
        let table = [
            ("1", Ok(SCALE)),
            ("0.00000001", Ok(1)),
            ("-2.5", Ok(-250_000_000)),
            ("1e2", Ok(100 * SCALE)),
            ("1.50E+1", Ok(15 * SCALE)),
            ("100e-2", Ok(SCALE)),
            ("0e999999999999999999999", Ok(0)),
            ("000.100000000000000", Ok(10_000_000)),
            ("92233720368.54775807", Ok(i64::MAX)),
            ("92233720368.54775808", Err(NumberError::TooLarge)),
            ("1e309", Err(NumberError::TooLarge)),
            ("1e99999999999999999999", Err(NumberError::TooLarge)),
            ("1e-9", Err(NumberError::TooPrecise)),
            ("0.10000000000000000001", Err(NumberError::TooPrecise)),
            ("", Err(NumberError::Malformed)),
            ("-", Err(NumberError::Malformed)),
            ("+1", Err(NumberError::Malformed)),
            (".5", Err(NumberError::Malformed)),
            ("5.", Err(NumberError::Malformed)),
            ("1.2.3", Err(NumberError::Malformed)),
            ("1e", Err(NumberError::Malformed)),
            ("NaN", Err(NumberError::Malformed)),
            ("Infinity", Err(NumberError::Malformed)),
            (" 1", Err(NumberError::Malformed)),
            ("١", Err(NumberError::Malformed)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_steps(text), expected, "{text}");
        }
        assert_eq!("-1".parse::<Price>(), Err(NumberError::Negative));
    }

    #[test]
    fn each_kind_is_written_in_its_own_manner() {
        assert_eq!(Money::whole(500).to_string(), "500.00");
        assert_eq!(Money::from_steps(-480_000_000).to_string(), "-4.80");
        assert_eq!(Money::from_steps(1).to_string(), "0.00000001");
        assert_eq!(Quantity::whole(2400).to_string(), "2400");
        assert_eq!(Percent::whole(1).to_string(), "1.0");
        assert_eq!(Price::from_steps(108_500_000).to_string(), "1.085");
    }

    #[test]
    fn products_round_against_the_user() {
        let third = Quantity::from_steps(33_333_333);
        let price = Price::from_steps(1);
        assert_eq!(third.value_up(price), Money::from_steps(1));
        assert_eq!(third.value_down(price), Money::ZERO);
        assert_eq!(Money::from_steps(-1).percent_down(Percent::whole(1)), Money::from_steps(-1));
        assert_eq!(Quantity::MAX.value_up(Price::MAX), Money::MAX);
    }

    #[test]
    fn affordable_is_the_largest_size_in_lots() {
        let lot = Quantity::whole(1);
        let unit = "0.002267".parse().unwrap();
        let size = Quantity::affordable(Money::whole(5), unit, lot);
        assert_eq!(size, Quantity::whole(2205));
        assert!(size.value_up(unit) <= Money::whole(5));
        assert!(size.plus(lot).value_up(unit) > Money::whole(5));
    }
}
