//! The file `HALT`: what is stopped, for when nothing else remembers.
//!
//! Its existence is the message. One that says nothing, or anything that is not understood, halts everything; one that
//! consists of nothing but well-formed parts, each with its scope, stops those scopes. The lines are for people, and so that
//! a restart knows why, by whom and since when. A part begins with `scope:`; without one, what is said is said of everything.
//!
//! ```text
//! scope: symbol EURUSD
//! state: halted
//! epoch: 7
//! since: 1795521600000000
//! by: ann
//! reason: bad ticks
//! ```

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::Timestamp;

use crate::engine::GateStatus;

/// The most bytes of a `HALT` that are looked at; one that is longer is not understood.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A higher epoch in a `HALT` is a slip of the pen: it would leave no room above it.
const EPOCH_MAX: u64 = 1 << 48;

fn path(directory: &Path) -> PathBuf {
    directory.join("HALT")
}

/// What is found under the name of `HALT`.
#[derive(Debug, Default)]
pub(crate) struct Found {
    text: Option<String>,
    /// What it says; nothing when it is not there.
    pub(crate) stopped: Vec<GateStatus>,
}

/// Makes `HALT` say what is stopped; nothing at all is no file. Writes beside, syncs, renames, and syncs the folder: after a
/// power cut there is the old file or the new one. Where that fails (a full disk), an empty file halts everything. Returns
/// false, and leaves it alone, when it is not as it was found: somebody has written there while this was being synced.
pub(crate) fn write(directory: &Path, found: &Found, stopped: &[GateStatus]) -> std::io::Result<bool> {
    let is_as_found = || as_written(&path(directory)).map_or(true, |text| text == found.text);
    std::fs::create_dir_all(directory)?;
    if stopped.is_empty() {
        if !is_as_found() {
            return Ok(false);
        }
        match std::fs::remove_file(path(directory)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    } else {
        let text: String = stopped.iter().map(text_of).collect();
        let beside = directory.join("HALT.tmp");
        let whole = write_whole(&beside, &text);
        if !is_as_found() {
            return Ok(false);
        }
        if let Err(error) = whole.and_then(|()| std::fs::rename(&beside, path(directory))) {
            tracing::error!(%error, "HALT could not be written whole; an empty one takes its place");
            std::fs::File::options().create(true).append(true).open(path(directory))?.sync_all()?;
        }
    }
    std::fs::File::open(directory)?.sync_all().map(|()| true)
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn text_of(status: &GateStatus) -> String {
    let one_line = |text: &str| text.replace(['\n', '\r'], " ");
    format!(
        "scope: {}\nstate: {}\nepoch: {}\nsince: {}\nby: {}\nreason: {}\n",
        status.scope,
        status.state.as_str(),
        status.epoch,
        status.since.micros(),
        one_line(&status.by),
        one_line(status.reason.as_deref().unwrap_or("")),
    )
}

/// Looks for `HALT`.
pub(crate) fn read(directory: &Path, now: Timestamp) -> std::io::Result<Found> {
    let text = as_written(&path(directory))?;
    let stopped = text.as_deref().map(|text| parse(text, now)).unwrap_or_default();
    Ok(Found { text, stopped })
}

/// What a folder says in which `HALT` cannot be looked for: the cautious reading.
pub(crate) fn unreadable(error: &std::io::Error, now: Timestamp) -> Found {
    let reason = Some(format!("HALT could not be looked for: {error}"));
    let (state, by) = (TradingState::Halted, "HALT watch".to_owned());
    Found {
        text: None,
        stopped: vec![GateStatus { scope: Scope::Everything, state, epoch: 0, since: now, reason, by }],
    }
}

/// Every part, unless the text is not made of parts alone.
fn parse(text: &str, now: Timestamp) -> Vec<GateStatus> {
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match parts.last_mut() {
            Some(part) if !line.starts_with("scope:") => part.push(line),
            _ => parts.push(vec![line]),
        }
    }
    let read: Option<Vec<_>> = parts.iter().map(|part| parse_part(part, now)).collect();
    read.filter(|parts| !parts.is_empty()).unwrap_or_else(|| {
        let lines: Vec<_> = text.lines().collect();
        vec![status_of(Scope::Everything, &lines, now)]
    })
}

fn parse_part(lines: &[&str], now: Timestamp) -> Option<GateStatus> {
    const KEYS: [&str; 7] = ["scope", "state", "epoch", "since", "at", "by", "reason"];
    let is_known = |line: &&str| line.split_once(':').is_some_and(|(key, _)| KEYS.contains(&key));
    let scope = value(lines, "scope")?.parse().ok()?;
    lines.iter().all(is_known).then(|| status_of(scope, lines, now))
}

fn value<'a>(lines: &[&'a str], key: &str) -> Option<&'a str> {
    let found = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    found.map(str::trim).filter(|value| !value.is_empty())
}

fn status_of(scope: Scope, lines: &[&str], now: Timestamp) -> GateStatus {
    let number = |key: &str| value(lines, key).and_then(|value| value.parse::<i64>().ok());
    let epoch = number("epoch").and_then(|epoch| u64::try_from(epoch).ok()).filter(|epoch| *epoch <= EPOCH_MAX);
    GateStatus {
        scope,
        state: if value(lines, "state") == Some("reducing") { TradingState::Reducing } else { TradingState::Halted },
        epoch: epoch.unwrap_or(0),
        since: number("since").map_or(now, Timestamp::from_micros),
        reason: value(lines, "reason").map(str::to_owned),
        by: value(lines, "by").unwrap_or("HALT file").to_owned(),
    }
}

/// The text of `HALT`, none when there is nothing of that name. Only a plain file is opened: a pipe would never end, and what
/// a link points to may be gone. Anything else is there and says nothing, which halts.
fn as_written(path: &Path) -> std::io::Result<Option<String>> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !kind.is_file() {
        return Ok(Some("reason: HALT is not a plain file".to_owned()));
    }
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(read) if read as u64 > BYTES_MAX => Ok(Some("reason: HALT is too long to be read".to_owned())),
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // Removed in between.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(scope: &str, reason: &str) -> GateStatus {
        GateStatus {
            scope: scope.parse().unwrap(),
            state: TradingState::Reducing,
            epoch: 7,
            since: Timestamp::from_micros(5),
            reason: Some(reason.to_owned()),
            by: "ann".to_owned(),
        }
    }

    fn read_back(directory: &Path) -> Vec<GateStatus> {
        read(directory, Timestamp::ZERO).unwrap().stopped
    }

    fn write_now(directory: &Path, stopped: &[GateStatus]) {
        assert!(write(directory, &read(directory, Timestamp::ZERO).unwrap(), stopped).unwrap());
    }

    #[test]
    fn what_somebody_writes_meanwhile_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let found = read(directory, Timestamp::ZERO).unwrap();
        std::fs::write(path(directory), "").unwrap();
        assert!(!write(directory, &found, &[status("symbol EURUSD", "x")]).unwrap());
        assert!(!write(directory, &found, &[]).unwrap());
        assert_eq!(read_back(directory)[0].scope, Scope::Everything);
    }

    #[test]
    fn halt_is_read_back_and_anything_else_in_it_halts_everything() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let stopped =
            [status("everything", "two lines"), status("symbol EURUSD", "x"), status("venue paper", "scope:")];
        for n in 1..=stopped.len() {
            write_now(directory, &stopped[..n]);
            assert_eq!(read_back(directory), stopped[..n]);
            write_now(directory, &stopped[n..]);
            assert_eq!(read_back(directory), stopped[n..]);
        }
        write_now(directory, &[status("user 00000000-0000-0000-0000-000000000001", "a\nscope: venue x")]);
        assert_eq!(read_back(directory).len(), 1, "a reason stays on its line");
        let halting = [
            "",
            "state: active\n",
            "\u{0}",
            "epoch: -1",
            "epoch: 9223372036854775807",
            "scope: planet x\nstate: reducing",
            "scope: symbol EURUSD\nstop everything",
            "stop\nscope: symbol EURUSD",
            "scope: symbol EURUSD\nscope: symbol",
        ];
        for text in halting {
            std::fs::write(path(directory), text).unwrap();
            let read = read_back(directory);
            assert_eq!(read.len(), 1, "{text:?}: {read:?}");
            let halt = &read[0];
            assert_eq!((&halt.scope, halt.epoch), (&Scope::Everything, 0), "{text:?}");
            assert!(halt.state == TradingState::Halted || text.contains("reducing"), "{text:?}");
        }
    }

    #[test]
    fn where_nothing_fits_an_empty_file_halts() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        std::fs::create_dir(directory.join("HALT.tmp")).unwrap();
        write_now(directory, &[status("symbol EURUSD", "x")]);
        assert_eq!(
            (read_back(directory)[0].state, &read_back(directory)[0].scope),
            (TradingState::Halted, &Scope::Everything)
        );
        write_now(directory, &[]);
        write_now(directory, &[]);
        assert_eq!(read_back(directory), []);
    }
}
