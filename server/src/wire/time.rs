//! Times on the wire: RFC 3339 in UTC outside, microseconds inside.
//!
//! The engine takes time as a number and never as text, so the form is settled here, once, for every body and every
//! answer.

use nexus_engine::ids::Timestamp;

/// Reads an RFC 3339 time; what is finer than a microsecond is cut off.
pub fn parse(text: &str) -> Result<Timestamp, &'static str> {
    let time: jiff::Timestamp = text.parse().map_err(|_| "is not an RFC 3339 time, as in 2026-11-24T02:00:00Z")?;
    Ok(Timestamp::from_micros(time.as_microsecond()))
}

/// Writes a time as RFC 3339 in UTC.
pub fn format(at: Timestamp) -> String {
    // Beyond the calendar's year 9999 only by a corrupt record; the nearest writable time says so plainly.
    let nearest = if at.micros() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_microsecond(at.micros()).unwrap_or(nearest).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_back_as_it_was_written() {
        for text in ["2026-11-24T02:00:00Z", "2026-11-24T02:00:00.000001Z"] {
            assert_eq!(parse(text).map(format), Ok(text.to_owned()));
        }
        assert_eq!(parse("2026-11-24T03:00:00+01:00").map(format), Ok("2026-11-24T02:00:00Z".to_owned()));
        for wrong in ["", "now", "2026-11-24", "2026-13-24T02:00:00Z", "1e9", "2026-11-24T02:00:00"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
