//! The journal under damage: torn at every byte of its last line it is cut and goes on; damaged anywhere else it is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nexus_actors::ports::{SubmitReply, Venue};
use nexus_engine::signal::{OrderKind, Side};
use nexus_venues::paper::journal::{self, OpenError};
use nexus_venues::paper::{PaperSettings, PaperVenue};

use crate::common::{Granted, Hand, instrument, limit, mark, open, order, place};

/// A book with an order of each kind; returns the bytes of its journal.
async fn written(path: &Path) -> Vec<u8> {
    let venue = open(path, PaperSettings::default());
    let permit = Granted::default();
    venue.observe(&mark("1.1", "1.1002", 1));
    venue.submit(&order(1, Side::Buy, OrderKind::Market), &permit).await.unwrap();
    venue.submit(&order(2, Side::Buy, limit("1.09")), &permit).await.unwrap();
    venue.submit(&order(3, Side::Sell, limit("1.2")), &permit).await.unwrap();
    let cancelled = order(3, Side::Sell, limit("1.2"));
    venue.cancel(cancelled.id, &cancelled.symbol).await.unwrap();
    drop(venue);
    fs::read(path).unwrap()
}

fn try_open(path: &Path) -> Result<PaperVenue, OpenError> {
    PaperVenue::open(path, &[instrument()], PaperSettings::default(), Arc::new(Hand::default()))
}

#[tokio::test]
async fn torn_at_every_byte_of_its_last_line_it_goes_on() {
    let (_folder, path) = place();
    let bytes = written(&path).await;
    let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let cancelled = order(3, Side::Sell, limit("1.2"));
    for length in last_line..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let records = journal::read(&path).unwrap().records.len();
        assert_eq!(records, 4, "the last record alone is lost");
        let venue = try_open(&path).unwrap();
        let working = venue.working_orders().await.unwrap();
        assert!(working.contains(&cancelled.id), "torn at byte {length}, the cancel never was");
        venue.cancel(cancelled.id, &cancelled.symbol).await.unwrap();
        drop(venue);
        assert_eq!(fs::read(&path).unwrap(), bytes, "torn at byte {length}");
    }
}

#[tokio::test]
async fn torn_in_its_first_line_it_begins_anew() {
    let (_folder, path) = place();
    let bytes = written(&path).await;
    let header = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    for length in 0..=header {
        fs::write(&path, &bytes[..length]).unwrap();
        let venue = try_open(&path).unwrap();
        let order = order(1, Side::Buy, limit("1.09"));
        assert_eq!(venue.submit(&order, &Granted::default()).await, Ok(SubmitReply::Acknowledged));
        drop(venue);
        assert_eq!(journal::read(&path).unwrap().orders().len(), 1);
    }
}

#[tokio::test]
async fn one_damaged_bit_anywhere_is_found_and_nothing_is_touched() {
    let (_folder, path) = place();
    let bytes = written(&path).await;
    // The end of the last line is left out: without it the line is torn, not damaged.
    for at in 0..bytes.len() - 1 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 7);
        fs::write(&path, &damaged).unwrap();
        let error = try_open(&path).err();
        assert!(
            matches!(error, Some(OpenError::Damaged { .. } | OpenError::NotAJournal(_))),
            "byte {at} of {}: {error:?}",
            bytes.len()
        );
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_record_that_cannot_follow_is_damage() {
    let (_folder, path) = place();
    let bytes = written(&path).await;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    // Repeated: an order, a fill, a cancel. Each line by itself is whole.
    for repeated in [1, 2, 5] {
        let mut twice = bytes.clone();
        twice.extend_from_slice(lines[repeated]);
        fs::write(&path, &twice).unwrap();
        assert!(matches!(try_open(&path), Err(OpenError::Damaged { line: 7, .. })), "line {repeated} twice");
        let ids: Vec<_> = journal::read(&path).unwrap().orders().into_iter().map(|order| order.id).collect();
        assert_eq!(ids.len(), if repeated == 1 { 4 } else { 3 }, "reading shows what stands there");
    }
}

#[tokio::test]
async fn another_file_is_never_taken_for_a_journal() {
    let (_folder, path) = place();
    for text in ["PRAGMA journal_mode", "a letter\nto somebody\n"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(try_open(&path), Err(OpenError::NotAJournal(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
