//! What time it is: on the wall, or in a simulated run.
//!
//! A simulated run's time is the newest mark's. It is kept in `NEXUS_DATA_DIR/sim-clock`, with what the board says of each
//! symbol, before anything acts at it: a run that was killed goes on at the time at which it was. Lines of fixed width are
//! overwritten in place and not flushed: a kill of the process loses nothing that was written, and a run that a loss of
//! power has set back is resumed by repeating it, as any other. A folder belongs to one kind of time for ever, because an
//! account's time never runs backwards.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use nexus_actors::ports::{Clock, Quote, Simulation};
use nexus_engine::ids::{FeedId, NAMES, Symbol, Timestamp, UserId};
use nexus_engine::instrument::Mark;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Wider than the longest line; a whole number of lines fits a page, so that no line lies on two.
const WIDTH: usize = 512;
/// The name of the file in the data folder.
const FILE: &str = "sim-clock";

/// The wall clock.
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        wall_now()
    }
}

/// What time it is on the wall, also in a simulated run: for what people did, and not for trading.
pub fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Trading time as marks have carried it.
pub struct SimClock {
    now_us: AtomicI64,
    kept: Mutex<Kept>,
}

/// The file, and what is in it.
struct Kept {
    file: File,
    lines: HashMap<Symbol, Line>,
}

struct Line {
    number: u64,
    quote: Quote,
}

/// A line as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    symbol: Symbol,
    mark: Option<Mark>,
    jump: Option<Mark>,
}

impl SimClock {
    /// Where a folder's simulated time is kept.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// Takes up the time at which the folder's last run was, or begins at the epoch.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(Self::path(data_dir))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let mut lines = HashMap::new();
        let mut now_us = 0;
        for (number, line) in (0..).zip(text.chunks(WIDTH)) {
            let Written { symbol, mark, jump } = serde_json::from_slice(line)
                .map_err(|error| io::Error::other(format!("line {} of {FILE}: {error}", number + 1)))?;
            let times = [&mark, &jump].into_iter().flatten().map(|mark| mark.at.micros());
            now_us = times.fold(now_us, i64::max);
            lines.insert(symbol.clone(), Line { number, quote: Quote { symbol, mark, jump } });
        }
        Ok(Self { now_us: AtomicI64::new(now_us), kept: Mutex::new(Kept { file, lines }) })
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now_us.load(Ordering::SeqCst))
    }

    fn simulation(&self) -> Option<&dyn Simulation> {
        Some(self)
    }
}

impl Simulation for SimClock {
    fn advance(&self, at: Timestamp, board: &Quote) -> io::Result<bool> {
        let is_news = self.kept.lock().keep(board)?;
        self.now_us.fetch_max(at.micros(), Ordering::SeqCst);
        Ok(is_news)
    }

    fn board(&self) -> Vec<Quote> {
        let mut board: Vec<Quote> = self.kept.lock().lines.values().map(|line| line.quote.clone()).collect();
        board.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        board
    }
}

impl Kept {
    /// Writes what the board says of a symbol, unless that is in the file.
    fn keep(&mut self, board: &Quote) -> io::Result<bool> {
        let known = self.lines.get(&board.symbol);
        if known.is_some_and(|line| line.quote == *board) {
            return Ok(false);
        }
        let number = known.map_or(self.lines.len() as u64, |line| line.number);
        let quote = board.clone();
        let Quote { symbol, mark, jump } = quote.clone();
        let mut text = serde_json::to_vec(&Written { symbol, mark, jump })?;
        if text.len() >= WIDTH {
            return Err(io::Error::other(format!("a line of {FILE} would be too long")));
        }
        text.resize(WIDTH - 1, b' ');
        text.push(b'\n');
        self.file.seek(SeekFrom::Start(number * WIDTH as u64))?;
        self.file.write_all(&text)?;
        self.lines.insert(board.symbol.clone(), Line { number, quote });
        Ok(true)
    }
}

/// How new users and feeds get their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewIds {
    /// Each is new in the world.
    Drawn,
    /// From the name: what is called the same in two runs has the same id, so that they can be compared.
    FromNames,
}

impl NewIds {
    /// The id of a new user.
    pub fn user(self, username: &str) -> UserId {
        UserId(self.new_id("user", username))
    }

    /// The id of a new feed.
    pub fn feed(self, name: &str) -> FeedId {
        FeedId(self.new_id("feed", name))
    }

    fn new_id(self, kind: &str, name: &str) -> Uuid {
        match self {
            Self::Drawn => Uuid::now_v7(),
            Self::FromNames => Uuid::new_v5(&NAMES, format!("{kind}:{name}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::units::Price;

    fn mark(symbol: &str, at: i64) -> Mark {
        let symbol = symbol.parse().expect("a symbol");
        Mark { symbol, bid: Price::whole(1), ask: Price::whole(2), at: Timestamp::from_micros(at) }
    }

    fn quote(symbol: &str, mark: Option<Mark>, jump: Option<Mark>) -> Quote {
        Quote { symbol: symbol.parse().expect("a symbol"), mark, jump }
    }

    #[test]
    fn time_and_board_outlive_the_process_and_never_run_backwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = SimClock::open(folder.path()).expect("opened");
        assert_eq!(clock.now(), Timestamp::ZERO);
        let euro = quote("EURUSD", Some(mark("EURUSD", 5)), Some(mark("EURUSD", 7)));
        let pound = quote("GBPUSD", Some(mark("GBPUSD", 3)), None);
        assert!(clock.advance(Timestamp::from_micros(7), &euro).expect("kept"));
        assert!(clock.advance(Timestamp::from_micros(3), &pound).expect("kept"));
        assert!(!clock.advance(Timestamp::from_micros(3), &pound).expect("known"), "it is no news");
        assert_eq!(clock.now().micros(), 7, "the newest of all symbols");
        drop(clock);
        let clock = SimClock::open(folder.path()).expect("opened again");
        assert_eq!((clock.now().micros(), clock.board()), (7, vec![euro.clone(), pound.clone()]));
        let later = quote("EURUSD", Some(mark("EURUSD", 9)), None);
        clock.advance(Timestamp::from_micros(9), &later).expect("kept");
        let clock = SimClock::open(folder.path()).expect("opened again");
        assert_eq!((clock.now().micros(), clock.board()), (9, vec![later, pound]));
    }

    #[test]
    fn a_clock_that_cannot_be_read_is_not_guessed() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(SimClock::path(folder.path()), "yesterday").expect("written");
        assert!(SimClock::open(folder.path()).is_err());
    }

    #[test]
    fn names_give_the_same_ids_only_when_asked_to() {
        assert_eq!(NewIds::FromNames.user("ann"), NewIds::FromNames.user("ann"));
        assert_ne!(NewIds::FromNames.user("ann").0, NewIds::FromNames.feed("ann").0);
        assert_ne!(NewIds::Drawn.user("ann"), NewIds::Drawn.user("ann"));
    }
}
