//! The last mark of each market, kept beside the journal so that a venue that is opened again has not forgotten the price.
//!
//! One line of fixed width for each market, overwritten in place and never flushed: a kill of the process loses nothing
//! that was written, and a market that a loss of power forgets is known again at its next mark. Nothing that was ever
//! reported depends on it. A line that does not read is skipped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use nexus_engine::ids::Symbol;
use nexus_engine::instrument::Mark;

/// Wider than the longest mark; a whole number of lines fits a page, so that no line lies on two.
const WIDTH: usize = 256;

/// The file of last marks. Bounded by the number of instruments.
pub(crate) struct LastMarks {
    file: File,
    slots: HashMap<Symbol, u64>,
    next: u64,
    has_warned: bool,
}

impl LastMarks {
    /// Opens or makes the file; returns the marks in it.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<Mark>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let mut marks = Vec::new();
        let mut slots = HashMap::new();
        let mut next = 0;
        for line in text.chunks(WIDTH) {
            match serde_json::from_slice::<Mark>(line) {
                Ok(mark) => {
                    slots.insert(mark.symbol.clone(), next);
                    marks.push(mark);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), line = next + 1, %error, "a last mark is unreadable");
                }
            }
            next += 1;
        }
        Ok((Self { file, slots, next, has_warned: false }, marks))
    }

    /// Keeps a mark. A disk that does not take it costs a price after the next start, which is warned of once.
    pub(crate) fn keep(&mut self, mark: &Mark) {
        match self.write(mark) {
            Ok(()) => self.has_warned = false,
            Err(error) if !self.has_warned => {
                tracing::warn!(symbol = %mark.symbol, %error, "the last mark could not be kept");
                self.has_warned = true;
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, mark: &Mark) -> io::Result<()> {
        let mut line = serde_json::to_vec(mark)?;
        line.resize(WIDTH - 1, b' ');
        line.push(b'\n');
        let slot = *self.slots.entry(mark.symbol.clone()).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        });
        self.file.seek(SeekFrom::Start(slot * WIDTH as u64))?;
        self.file.write_all(&line)
    }
}
