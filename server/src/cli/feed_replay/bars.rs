//! Bars from a CSV file: read whole and believed only whole, before anything is sent.
//!
//! Each line is looked at alone, through a buffer of fixed size, so that a file of any shape takes bounded memory, and
//! each bad one is named with its number and its reason. Gaps are real (weekends) and fine; time that stands still or
//! runs backwards is not. How long a bar lasts is the smallest distance between two of them.

use std::fmt;
use std::io::{BufRead, Read};
use std::time::Duration;

use anyhow::Context;
use nexus_engine::ids::Timestamp;
use nexus_engine::units::{NumberError, Price};

use super::marks::Quoting;
use crate::cli::BadUse;
use crate::wire::time;

/// The most bars of one file, 48 bytes each in memory: a century of hours, or two years of minutes.
const BARS_MAX: usize = 1_000_000;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// The most columns of a line.
const COLUMNS_MAX: usize = 64;
/// Bad lines that are named one by one.
const FAULTS_NAMED_MAX: usize = 20;
/// The columns that are read, wherever they stand; others are not looked at.
const COLUMNS: [&str; 5] = ["time", "open", "high", "low", "close"];
/// The shortest timeframe of the signals, of which a bar must be a part.
const SHORTEST_TIMEFRAME: Duration = Duration::from_secs(3 * 3600);
/// How long a bar may last at least: below this its four marks would share their times.
const SPACING_MIN: Duration = Duration::from_secs(60);
/// What a bar lasts when it is the only one.
const SPACING_OF_ONE: Duration = Duration::from_secs(3600);

/// What the market did from `at` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bar {
    pub(super) at: Timestamp,
    pub(super) open: Price,
    pub(super) high: Price,
    pub(super) low: Price,
    pub(super) close: Price,
    /// Where it stands in the file.
    pub(super) line: u32,
}

/// All bars of a file, in the order of time.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Bars {
    /// At least one.
    pub(super) bars: Vec<Bar>,
    /// How long each lasts.
    pub(super) spacing: Duration,
}

/// Reads `input`, which errors call `name`.
pub(super) fn read(input: impl BufRead, name: &str, quoting: &Quoting) -> anyhow::Result<Bars> {
    let mut lines = Lines::new(input, name);
    let bad = |why: String| BadUse(format!("{name} {why}"));
    let (_, header) = lines.next()?.ok_or_else(|| bad("is empty".into()))?;
    let columns = Columns::find(&header).map_err(bad)?;
    let (mut bars, mut faults) = (Vec::<Bar>::new(), Faults::default());
    while let Some((number, cells)) = lines.next()? {
        match columns.bar(&cells, number, quoting) {
            Ok(bar) => match bars.last().filter(|last| bar.at <= last.at) {
                Some(last) => faults.add(number, out_of_order(&bar, last)),
                None => bars.push(bar),
            },
            Err(why) => faults.add(number, why),
        }
        if bars.len() > BARS_MAX {
            return Err(bad(format!("holds more than {BARS_MAX} bars; split it")).into());
        }
    }
    if faults.count == 0 && bars.is_empty() {
        return Err(bad("holds no bars".into()).into());
    }
    let spacing = spacing(&bars);
    if faults.count == 0 {
        check_spacing(spacing).map_err(bad)?;
    }
    for bar in bars.iter().filter(|bar| !is_on_grid(bar.at, spacing)) {
        faults.add(bar.line, format!("{} is no multiple of the bars' {}", time::format(bar.at), in_words(spacing)));
    }
    if faults.count > 0 {
        return Err(bad(format!("cannot be replayed, nothing was sent:\n{faults}")).into());
    }
    Ok(Bars { bars, spacing })
}

fn out_of_order(bar: &Bar, last: &Bar) -> String {
    let (at, before) = (time::format(bar.at), time::format(last.at));
    if bar.at == last.at {
        format!("time {at} is that of line {}", last.line)
    } else {
        format!("time runs backwards: {at} after {before} in line {}", last.line)
    }
}

fn spacing(bars: &[Bar]) -> Duration {
    bars.windows(2).map(|pair| pair[1].at.since(pair[0].at)).min().unwrap_or(SPACING_OF_ONE)
}

fn check_spacing(spacing: Duration) -> Result<(), String> {
    let words = in_words(spacing);
    if spacing < SPACING_MIN {
        return Err(format!("has bars of {words}; the shortest are those of {}", in_words(SPACING_MIN)));
    }
    if !SHORTEST_TIMEFRAME.as_micros().is_multiple_of(spacing.as_micros()) {
        let whole = in_words(SHORTEST_TIMEFRAME);
        return Err(format!(
            "has bars of {words}, of which {whole} is no multiple: 3H, 6H and 9H cannot be made of it"
        ));
    }
    Ok(())
}

fn is_on_grid(at: Timestamp, spacing: Duration) -> bool {
    at.since(Timestamp::ZERO).as_micros().is_multiple_of(spacing.as_micros().max(1))
}

/// A length of time in the largest unit of which it is a whole number.
fn in_words(length: Duration) -> String {
    let (seconds, is_whole) = (length.as_secs(), length.subsec_nanos() == 0);
    match seconds {
        s if is_whole && s > 0 && s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if is_whole && s > 0 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s if is_whole => format!("{s} s"),
        _ => format!("{} s", length.as_secs_f64()),
    }
}

/// Where the columns of a file stand.
struct Columns {
    /// In the order of `COLUMNS`.
    places: [usize; 5],
    /// How many there are.
    count: usize,
}

impl Columns {
    fn find(header: &Cells) -> Result<Self, String> {
        let cells = header.texts()?;
        let names: Vec<String> = cells.iter().map(|cell| cell.to_ascii_lowercase()).collect();
        let place = |name: &str| names.iter().position(|found| found == name);
        let missing: Vec<&str> = COLUMNS.into_iter().filter(|name| place(name).is_none()).collect();
        if !missing.is_empty() {
            let all = COLUMNS.join(", ");
            return Err(format!("has no column {}; its first line must name {all}", missing.join(", ")));
        }
        let is_repeated = |name: &&str| names.iter().filter(|found| found == name).count() > 1;
        if let Some(name) = COLUMNS.iter().find(|name| is_repeated(name)) {
            return Err(format!("has more than one column {name}"));
        }
        Ok(Self { places: COLUMNS.map(|name| place(name).unwrap_or_default()), count: names.len() })
    }

    fn bar(&self, cells: &Cells, line: u32, quoting: &Quoting) -> Result<Bar, String> {
        let cells = cells.texts()?;
        if cells.len() != self.count {
            return Err(format!("has {} columns, the first line has {}", cells.len(), self.count));
        }
        let [at, prices @ ..] = self.places.map(|place| cells[place]);
        let at = read_time(at)?;
        let mut read = [Price::ZERO; 4];
        for ((price, text), name) in read.iter_mut().zip(prices).zip(&COLUMNS[1..]) {
            *price = read_price(text).map_err(|why| format!("{name} {text:?} {why}"))?;
        }
        let [open, high, low, close] = read;
        check_shape(open, high, low, close)?;
        if quoting.around(low).is_none() {
            return Err(format!("low {low} leaves no bid above zero with this spread"));
        }
        Ok(Bar { at, open, high, low, close, line })
    }
}

fn check_shape(open: Price, high: Price, low: Price, close: Price) -> Result<(), String> {
    if high < low {
        return Err(format!("high {high} is below low {low}"));
    }
    for (name, price) in [("open", open), ("close", close)] {
        if high < price {
            return Err(format!("high {high} is below {name} {price}"));
        }
        if low > price {
            return Err(format!("low {low} is above {name} {price}"));
        }
    }
    Ok(())
}

fn read_price(text: &str) -> Result<Price, String> {
    match text.parse::<Price>() {
        Ok(price) if price.is_zero() => Err("is not above zero".into()),
        Ok(price) => Ok(price),
        Err(NumberError::Negative) => Err("is not above zero".into()),
        Err(NumberError::Malformed) => Err("is not a number".into()),
        Err(error @ (NumberError::TooLarge | NumberError::TooPrecise)) => Err(error.to_string()),
    }
}

/// RFC 3339, or a date and a time of day that are taken as UTC.
fn read_time(text: &str) -> Result<Timestamp, String> {
    let bad = || format!("time {text:?} is neither RFC 3339 (2017-04-19T09:00:00Z) nor 2017-04-19 09:00:00");
    let at = time::parse(text).or_else(|_| {
        let moment: jiff::civil::DateTime = text.parse().ok().filter(|_| text.contains(':')).ok_or_else(bad)?;
        let zoned = moment.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?;
        Ok::<_, String>(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
    })?;
    if at < Timestamp::ZERO { Err(format!("time {text:?} lies before 1970")) } else { Ok(at) }
}

/// What is wrong with a file, line by line.
#[derive(Default)]
struct Faults {
    named: Vec<(u32, String)>,
    count: usize,
}

impl Faults {
    fn add(&mut self, line: u32, why: String) {
        self.count += 1;
        if self.named.len() < FAULTS_NAMED_MAX {
            self.named.push((line, why));
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.named.iter().map(|(line, why)| format!("  line {line}: {why}")).collect();
        f.write_str(&lines.join("\n"))?;
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// The cells of one line; a fault of its form takes their place.
struct Cells(Result<Vec<String>, String>);

impl Cells {
    fn texts(&self) -> Result<Vec<&str>, String> {
        self.0.as_ref().map(|cells| cells.iter().map(String::as_str).collect()).map_err(Clone::clone)
    }
}

/// Cuts a file into lines and lines into cells. A cell does not go beyond its line, quoted or not.
struct Lines<'a, R> {
    input: R,
    name: &'a str,
    number: u32,
    line: Vec<u8>,
    reader: csv_core::Reader,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn new(input: R, name: &'a str) -> Self {
        Self { input, name, number: 0, line: Vec::with_capacity(LINE_BYTES_MAX), reader: csv_core::Reader::new() }
    }

    /// The next line that is not blank, with its number.
    fn next(&mut self) -> anyhow::Result<Option<(u32, Cells)>> {
        loop {
            self.line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.line);
            if read.with_context(|| format!("cannot read {}", self.name))? == 0 {
                return Ok(None);
            }
            self.number = self.number.saturating_add(1);
            if self.line.len() > LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
                self.skip_rest().with_context(|| format!("cannot read {}", self.name))?;
                return Ok(Some((self.number, Cells(Err(format!("is longer than {LINE_BYTES_MAX} bytes"))))));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, Cells(cells(&mut self.reader, self.line.trim_ascii())))));
            }
        }
    }

    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let (found, length) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(place) => (true, place + 1),
                None => (false, buffer.len()),
            };
            self.input.consume(length);
            if found {
                return Ok(());
            }
        }
    }
}

fn cells(reader: &mut csv_core::Reader, line: &[u8]) -> Result<Vec<String>, String> {
    let (mut text, mut ends) = ([0; LINE_BYTES_MAX + 1], [0; COLUMNS_MAX]);
    reader.reset();
    let (_, used, written, count) = reader.read_record(line, &mut text, &mut ends);
    // An empty input says that the line ends here.
    let (result, _, _, more) = reader.read_record(&line[used..], &mut text[written..], &mut ends[count..]);
    if result != csv_core::ReadRecordResult::Record {
        return Err(format!("has more than {COLUMNS_MAX} columns"));
    }
    let mut begin = 0;
    let mut cells = Vec::with_capacity(count + more);
    for end in &ends[..count + more] {
        let cell = std::str::from_utf8(&text[begin..*end]).map_err(|_| "is not UTF-8".to_owned())?;
        cells.push(cell.trim().to_owned());
        begin = *end;
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoting() -> Quoting {
        let (spread, tick) = ("0.00010".parse().unwrap(), "0.00001".parse().unwrap());
        Quoting::new("EURUSD".parse().unwrap(), spread, tick).unwrap()
    }

    fn read_text(text: impl AsRef<[u8]>) -> anyhow::Result<Bars> {
        read(text.as_ref(), "x.csv", &quoting())
    }

    const HEADER: &str = "time,open,high,low,close\n";

    fn bar(at: &str, line: u32) -> Bar {
        let price = |text: &str| text.parse().unwrap();
        Bar {
            at: time::parse(at).unwrap(),
            open: price("1.1"),
            high: price("1.3"),
            low: price("1.0"),
            close: price("1.2"),
            line,
        }
    }

    #[test]
    fn columns_may_stand_anywhere_and_texts_may_be_dressed() {
        let expected = Bars {
            bars: vec![bar("2017-04-19T09:00:00Z", 2), bar("2017-04-19T10:00:00Z", 4)],
            spacing: Duration::from_secs(3600),
        };
        for text in [
            "time,open,high,low,close\n2017-04-19T09:00:00Z,1.1,1.3,1.0,1.2\n\n2017-04-19T10:00:00Z,1.1,1.3,1.0,1.2",
            "\u{feff}time,open,high,low,close,volume\r\n2017-04-19 09:00:00,1.1,1.3,1.0,1.2,\"1,234\"\r\n\r\n\
             \"2017-04-19 10:00:00\",1.1,1.3,1.0,1.2,5\r\n",
            "Low, Time ,CLOSE,High,Open\n1.0,2017-04-19T11:00:00+02:00,1.2,1.3,1.1\n \n1.0,2017-04-19T10:00,1.2,1.3,1.1\n",
        ] {
            assert_eq!(read_text(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn each_bad_line_is_named_with_its_reason() {
        for (line, expected) in [
            ("2017-04-19T10:00:00Z,1,1,1", "has 4 columns, the first line has 5"),
            ("2017-04-19T10:00:00Z,1,1,1,1,1", "has 6 columns, the first line has 5"),
            ("2017-04-19T10:00:00Z,1,x,1,1", "high \"x\" is not a number"),
            ("2017-04-19T10:00:00Z,1,1,1,NaN", "close \"NaN\" is not a number"),
            ("2017-04-19T10:00:00Z,1,1,1,", "close \"\" is not a number"),
            ("2017-04-19T10:00:00Z,0,1,1,1", "open \"0\" is not above zero"),
            ("2017-04-19T10:00:00Z,1,1,-1,1", "low \"-1\" is not above zero"),
            ("2017-04-19T10:00:00Z,1,1e99,1,1", "high \"1e99\" is too large"),
            ("2017-04-19T10:00:00Z,1,1.000000001,1,1", "high \"1.000000001\" has more than 8 decimal places"),
            ("2017-04-19T10:00:00Z,1.5,1,2,1.5", "high 1 is below low 2"),
            ("2017-04-19T10:00:00Z,1.3,1.2,1.1,1.2", "high 1.2 is below open 1.3"),
            ("2017-04-19T10:00:00Z,1.2,1.2,1.1,1.3", "high 1.2 is below close 1.3"),
            ("2017-04-19T10:00:00Z,1.0,1.2,1.1,1.2", "low 1.1 is above open 1"),
            ("2017-04-19T10:00:00Z,1.1,1.2,1.1,1.0", "low 1.1 is above close 1"),
            ("2017-04-19T10:00:00Z,1,1,0.00005,1", "low 0.00005 leaves no bid above zero with this spread"),
            ("2017-04-19T09:00:00Z,1,1,1,1", "time 2017-04-19T09:00:00Z is that of line 2"),
            (
                "2017-04-19T08:00:00Z,1,1,1,1",
                "time runs backwards: 2017-04-19T08:00:00Z after 2017-04-19T09:00:00Z in line 2",
            ),
            ("1969-12-31T23:00:00Z,1,1,1,1", "time \"1969-12-31T23:00:00Z\" lies before 1970"),
            (
                "yesterday,1,1,1,1",
                "time \"yesterday\" is neither RFC 3339 (2017-04-19T09:00:00Z) nor 2017-04-19 09:00:00",
            ),
            (
                "2017-04-19,1,1,1,1",
                "time \"2017-04-19\" is neither RFC 3339 (2017-04-19T09:00:00Z) nor 2017-04-19 09:00:00",
            ),
        ] {
            let error = read_text(format!("{HEADER}2017-04-19T09:00:00Z,1,1,1,1\n{line}\n")).unwrap_err();
            assert!(error.is::<BadUse>(), "{error}");
            let expected = format!("x.csv cannot be replayed, nothing was sent:\n  line 3: {expected}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_line_that_is_no_text_or_has_no_end_is_named_too() {
        let mut bytes = HEADER.as_bytes().to_vec();
        bytes.extend(b"2017-04-19T09:00:00Z,1,1,1,\xff\n");
        bytes.extend(vec![b'1'; 3 * LINE_BYTES_MAX]);
        bytes.extend(b"\n");
        bytes.extend(vec![b','; COLUMNS_MAX]);
        let error = read_text(bytes).unwrap_err().to_string();
        for part in ["line 2: is not UTF-8", "line 3: is longer than 4096 bytes", "line 4: has more than 64 columns"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn twenty_bad_lines_are_named_and_the_rest_counted() {
        let error = read_text(format!("{HEADER}{}", "x\n".repeat(25))).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 22, "{error}");
        assert!(error.ends_with("line 21: has 1 columns, the first line has 5\n  and 5 more"), "{error}");
    }

    #[test]
    fn a_file_without_its_columns_or_bars_is_refused() {
        for (text, expected) in [
            ("", "x.csv is empty"),
            (HEADER, "x.csv holds no bars"),
            (
                "time,open,high\n",
                "x.csv has no column low, close; its first line must name time, open, high, low, close",
            ),
            ("time,open,high,low,close,Open\n", "x.csv has more than one column open"),
        ] {
            assert_eq!(read_text(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn bars_that_do_not_make_up_three_hours_are_refused() {
        for (times, expected) in [
            (["09:00:00", "16:00:00"], "x.csv has bars of 7 h, of which 3 h is no multiple"),
            (["09:00:00", "09:00:01"], "x.csv has bars of 1 s; the shortest are those of 1 min"),
            (["09:30:00", "10:30:00"], "line 2: 2017-04-19T09:30:00Z is no multiple of the bars' 1 h"),
        ] {
            let rows = times.map(|at| format!("2017-04-19T{at}Z,1,1,1,1\n")).concat();
            let error = read_text(format!("{HEADER}{rows}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let rows = ["09:00:00", "09:15:00", "10:30:00"].map(|at| format!("2017-04-19T{at}Z,1,1,1,1\n")).concat();
        assert_eq!(read_text(format!("{HEADER}{rows}")).unwrap().spacing, Duration::from_secs(900));
    }
}
