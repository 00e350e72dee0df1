//! How figures look to a person: money with its sign and two digits, in columns.
//!
//! For reading alone: JSON carries every digit.

use nexus_engine::units::{Money, Percent};

use super::figures::{Busiest, Unit};

/// Steps in a hundredth.
const CENT: i64 = nexus_engine::units::SCALE / 100;

/// Money to the nearest cent, with thousands set apart.
pub(super) fn money(amount: Money) -> String {
    let cents = (i128::from(amount.steps()) * 2 + i128::from(CENT)).div_euclid(i128::from(CENT) * 2);
    let (sign, cents) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
    format!("{sign}{}.{:02}", thousands(cents / 100), cents % 100)
}

/// The same, with a plus where it is one.
pub(super) fn signed(amount: Money) -> String {
    let text = money(amount);
    if amount > Money::ZERO { format!("+{text}") } else { text }
}

/// A percentage with two digits.
pub(super) fn percent(value: Percent) -> String {
    format!("{} %", money(Money::from_steps(value.steps())))
}

/// A count with thousands set apart.
pub(super) fn count(value: impl TryInto<u128>) -> String {
    thousands(value.try_into().unwrap_or(u128::MAX))
}

/// What was used of a limit, and what was allowed.
pub(super) fn used(busiest: &Busiest) -> (String, String) {
    let show = |steps: i64| match busiest.unit {
        Unit::Money => money(Money::from_steps(steps)),
        Unit::Percent => Percent::from_steps(steps).to_string() + " %",
        Unit::Count => steps.to_string(),
    };
    (show(busiest.used), show(busiest.allowed))
}

fn thousands(value: u128) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_to_the_nearest_cent() {
        for (amount, expected) in [
            ("0.00", "0.00"),
            ("-0.004", "0.00"),
            ("0.005", "0.01"),
            ("1234567.891", "1,234,567.89"),
            ("-9.999", "-10.00"),
        ] {
            assert_eq!(money(amount.parse().expect("an amount")), expected, "{amount}");
        }
        assert_eq!(signed("3.20".parse().expect("an amount")), "+3.20");
    }
}
