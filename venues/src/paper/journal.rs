//! The journal: the book's records as lines of JSON, one a change, appended and flushed before anybody hears of them.
//!
//! Each line carries a checksum of the rest of itself, so a damaged digit is found and not traded on. A process that is
//! killed while it writes leaves at most a last line without its end: that line was never answered for, and is cut off
//! when the journal is opened again. Anything else that does not read is damage, and damage is for a person: the journal
//! is refused and left as it is. Reading streams, one line in memory at a time; the file grows by some 200 bytes a change
//! and is never rewritten.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nexus_actors::ports::{VenueError, VenueOrder};
use nexus_engine::ids::ClientOrderId;
use thiserror::Error;

use super::record::Record;

/// The first line: no other file is ever taken for a journal, and cut.
const HEADER: &[u8] = b"{\"nexus_paper_book\":1}\n";
/// Longer than any record: a line beyond it is damage, and is not read into memory.
const LINE_MAX: u64 = 4_096;
const SUM_BEFORE: &[u8] = b"{\"sum\":\"";
const SUM_AFTER: &[u8] = b"\",";
const SUM_DIGITS: usize = 16;
/// As many bytes as a disk must have to spare before it counts as writable again.
const PROBE: [u8; 4_096] = [b' '; 4_096];
// What a kill leaves of a probe is a torn line like any other.
const _: () = assert!(PROBE.len() as u64 <= LINE_MAX);

/// Why a journal was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be read or written.
    #[error("the paper book {path} cannot be used: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("the paper book {0} is in use by another process")]
    InUse(PathBuf),
    /// The file does not begin as a journal does.
    #[error("{0} is not the journal of a paper book")]
    NotAJournal(PathBuf),
    /// A line is damaged, or does not follow from those before it.
    #[error("the paper book {path} is damaged in line {line}: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// A journal as it was read from a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// All records, oldest first.
    pub records: Vec<Record>,
}

impl Contents {
    /// Every order that was ever taken or refused, one for each time that it was: an id that stands here twice was taken
    /// twice. Each with the reports that carry its id.
    pub fn orders(&self) -> Vec<VenueOrder> {
        let mut reports = std::collections::HashMap::<ClientOrderId, Vec<_>>::new();
        for record in &self.records {
            reports.entry(record.order).or_default().extend(record.report());
        }
        let firsts = self.records.iter().filter(|record| record.is_first());
        firsts.map(|first| VenueOrder { id: first.order, reports: reports[&first.order].clone() }).collect()
    }
}

/// Reads the journal of a venue that is not running, and changes nothing. What a kill has torn off the end is left out.
pub fn read(path: &Path) -> Result<Contents, OpenError> {
    let file = File::open(path).map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
    let mut records = Vec::new();
    scan(path, &file, |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(Contents { records })
}

/// Where a journal's bytes go. A trait, so that a test can fill the disk.
pub(crate) trait Media: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Media for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// Why records were not written.
#[derive(Debug, Error)]
pub(crate) enum AppendError {
    /// Nothing of them is in the journal.
    #[error("nothing was written: {0}")]
    NothingWritten(io::Error),
    /// They may be in the journal: what was written could not be taken back.
    #[error("it may have been written: {0}")]
    InDoubt(io::Error),
}

impl From<&AppendError> for VenueError {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::NothingWritten(error) => Self::NotSent(format!("the book cannot be written: {error}")),
            AppendError::InDoubt(error) => Self::Unknown(format!("the book may not have been written: {error}")),
        }
    }
}

/// A journal that is open for writing.
pub(crate) struct Journal {
    media: Box<dyn Media>,
    /// What is durable and answered for.
    length: u64,
    /// Whether there may be bytes beyond `length`.
    in_doubt: bool,
    line: Vec<u8>,
    batch: Vec<u8>,
}

impl Journal {
    /// Opens or makes a journal, gives every record in it to `each`, and keeps the file to itself until dropped.
    pub(crate) fn open(path: &Path, each: impl FnMut(Record) -> Result<(), String>) -> Result<Self, OpenError> {
        let io_error = |error| OpenError::Io { path: path.to_owned(), error };
        let is_new = !path.try_exists().map_err(io_error)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io_error)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => OpenError::InUse(path.to_owned()),
            std::fs::TryLockError::Error(error) => io_error(error),
        })?;
        let mut length = scan(path, &file, each)?;
        let size = file.metadata().map_err(io_error)?.len();
        if size > length {
            tracing::warn!(path = %path.display(), bytes = size - length, "cut a torn last line off the paper book");
            file.set_len(length).map_err(io_error)?;
        }
        if length == 0 {
            (&file).write_all(HEADER).map_err(io_error)?;
            length = HEADER.len() as u64;
        }
        file.sync_data().map_err(io_error)?;
        if is_new {
            sync_folder(path).map_err(io_error)?;
        }
        Ok(Self::new(Box::new(file), length))
    }

    /// A journal of `length` bytes on other media.
    pub(crate) fn new(media: Box<dyn Media>, length: u64) -> Self {
        Self { media, length, in_doubt: false, line: Vec::new(), batch: Vec::new() }
    }

    /// Makes records durable, all of them or none.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), AppendError> {
        self.restore()?;
        self.batch.clear();
        for record in records {
            write_line(&mut self.batch, &mut self.line, record).map_err(AppendError::NothingWritten)?;
        }
        match self.media.append(&self.batch).and_then(|()| self.media.sync()) {
            Ok(()) => {
                self.length += self.batch.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.take_back(error)),
        }
    }

    /// Takes back what may have been written without an answer.
    pub(crate) fn restore(&mut self) -> Result<(), AppendError> {
        if !self.in_doubt {
            return Ok(());
        }
        // The records at hand have not been tried yet: of them, nothing is written.
        self.media.cut(self.length).and_then(|()| self.media.sync()).map_err(AppendError::NothingWritten)?;
        self.in_doubt = false;
        Ok(())
    }

    /// Whether the journal can be written again. Leaves nothing behind; a kill in the middle leaves a torn line.
    pub(crate) fn probe(&mut self) -> Result<(), AppendError> {
        self.restore()?;
        let outcome = self.media.append(&PROBE).and_then(|()| self.media.sync());
        self.in_doubt = true;
        self.restore()?;
        outcome.map_err(AppendError::NothingWritten)
    }

    /// Whether there may be records in the file that nobody was told of.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    fn take_back(&mut self, error: io::Error) -> AppendError {
        self.in_doubt = true;
        match self.restore() {
            Ok(()) => AppendError::NothingWritten(error),
            Err(_) => AppendError::InDoubt(error),
        }
    }
}

/// A new file is only as durable as its name in the folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Gives every record to `each`; returns the length of what is whole.
fn scan(path: &Path, mut file: &File, mut each: impl FnMut(Record) -> Result<(), String>) -> Result<u64, OpenError> {
    let io_error = |error| OpenError::Io { path: path.to_owned(), error };
    file.rewind().map_err(io_error)?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let (mut length, mut number) = (0_u64, 0_u64);
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_MAX + 1).read_until(b'\n', &mut line).map_err(io_error)? as u64;
        number += 1;
        let is_whole = line.last() == Some(&b'\n');
        if number == 1 && !(if is_whole { line == HEADER } else { HEADER.starts_with(&line) }) {
            return Err(OpenError::NotAJournal(path.to_owned()));
        }
        let damaged = |why| OpenError::Damaged { path: path.to_owned(), line: number, why };
        if !is_whole && read > LINE_MAX {
            return Err(damaged("the line is too long".to_owned()));
        }
        if !is_whole {
            return Ok(length);
        }
        if number > 1 {
            read_line(&mut line).and_then(&mut each).map_err(damaged)?;
        }
        length += read;
    }
}

/// Appends the line of a record; `text` is scratch space.
fn write_line(out: &mut Vec<u8>, text: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    text.clear();
    serde_json::to_writer(&mut *text, record)?;
    out.extend_from_slice(SUM_BEFORE);
    write!(out, "{:0SUM_DIGITS$x}", checksum(text))?;
    out.extend_from_slice(SUM_AFTER);
    // The record's own opening brace is the checksum's now.
    out.extend_from_slice(&text[1..]);
    out.push(b'\n');
    Ok(())
}

/// The record of a line. Puts the record's opening brace back in the place of the comma before it.
fn read_line(line: &mut [u8]) -> Result<Record, String> {
    let (sum_end, body) = (SUM_BEFORE.len() + SUM_DIGITS, SUM_BEFORE.len() + SUM_DIGITS + SUM_AFTER.len() - 1);
    if line.len() <= body || !line.starts_with(SUM_BEFORE) || line[sum_end..=body] != *SUM_AFTER {
        return Err("it does not begin with a checksum".to_owned());
    }
    line[body] = b'{';
    let text = &line[body..line.len() - 1];
    if line[SUM_BEFORE.len()..sum_end] != *format!("{:0SUM_DIGITS$x}", checksum(text)).as_bytes() {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo): finds accidents, not adversaries.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
