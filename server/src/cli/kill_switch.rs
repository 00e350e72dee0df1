//! `nexus stop` and `nexus resume`.
//!
//! A stop has two ways. The usual one asks the engine and hears what it did. `--local` writes `HALT` into the data
//! folder: no sign-in, no network, no valid configuration, no running engine needed. A running engine looks for the file
//! all the time, a starting one obeys it. The file's existence is the message; without `scope:` lines it is about everything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use nexus_config::{Environ, data_dir};
use nexus_engine::gate::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::args::{ResumeArgs, ScopeArgs, StopArgs};
use super::client::{Body, Client};
use super::output::{self, field};

const HALT_FILE: &str = "HALT";

/// Asks the engine to stop.
pub(crate) async fn stop(args: &StopArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    const HINT: &str = "NOT stopped; on the engine's machine `nexus stop --local` works without it";
    let client = Client::signed_in(&args.client, environ).await.context(HINT)?;
    let mut body = body_of(&client, &args.scope, args.reason.as_deref()).await.context(HINT)?;
    body["reducing"] = json!(args.reducing);
    body["flatten"] = json!(args.flatten);
    body["cancel_open_orders"] = json!(!args.keep_open_orders);
    let answer = client.post("/admin/emergency-stop", &body).await.context(HINT)?;
    if args.client.json {
        output::json(&answer)?;
    } else {
        for warning in answer["warnings"].as_array().into_iter().flatten() {
            output::note(&format!("warning: {}", output::cell(warning)));
        }
        output::text(&stop_in_words(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the engine to allow new exposure again.
pub(crate) async fn resume(args: &ResumeArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let client = Client::signed_in(&args.client, environ).await?;
    let body = body_of(&client, &args.scope, args.reason.as_deref()).await?;
    let answer = client.send(Method::POST, "/admin/emergency-resume", Body::Json(&body)).await?;
    if args.client.json {
        output::json(&answer)?;
    } else {
        let scope = scope_in_words(&answer["scope"]);
        output::text(&format!("{scope}: trading is {} (epoch {})", field(&answer, "state"), field(&answer, "epoch")))?;
        for stopped in answer["still_stopped"].as_array().into_iter().flatten() {
            let scope = scope_in_words(&stopped["scope"]);
            output::note(&format!("still {}: {scope} (since {})", field(stopped, "state"), field(stopped, "since")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops without the engine's help.
pub(crate) fn stop_locally(args: &StopArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let dir = data_dir(environ)?;
    let user = environ.get("USER").or(environ.get("LOGNAME")).unwrap_or("somebody");
    let now = jiff::Timestamp::now();
    let reason = args.reason.as_deref().unwrap_or("");
    let scope = local_scope(&args.scope)?;
    let path = write_halt(&dir, &scope, &halt_note(&scope, now, user, reason))
        .with_context(|| format!("NOT stopped: cannot write {}", dir.join(HALT_FILE).display()))?;
    if args.client.json {
        let file = path.display().to_string();
        output::json(
            &json!({"state": "halted", "scope": scope.to_string(), "file": file, "by": user, "at": now.to_string(), "reason": args.reason}),
        )?;
    } else {
        let path = path.display();
        output::text(&format!(
            "{path} is written for {scope}: a running engine stops within 100 ms, a starting one stays halted"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the engine is asked for. It knows feeds and users by their ids.
async fn body_of(client: &Client, scope: &ScopeArgs, reason: Option<&str>) -> anyhow::Result<Value> {
    let mut body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
    if let Some((kind, name)) = scope.named() {
        let name = match kind {
            "feed" | "user" => client.id_of(kind, name).await?,
            _ => name.to_owned(),
        };
        body["scope"] = json!({ kind: name });
    }
    Ok(body)
}

fn scope_in_words(scope: &Value) -> String {
    let one = scope.as_object().and_then(|scope| scope.iter().next());
    one.map_or_else(|| "everything".to_owned(), |(kind, name)| format!("{kind} {}", output::cell(name)))
}

fn stop_in_words(answer: &Value) -> String {
    let persisted = if answer["persisted"] == json!(true) { "yes" } else { "not yet; the file HALT holds it" };
    let mut lines = vec![
        ("stopped", scope_in_words(&answer["scope"])),
        (
            "state",
            format!(
                "{} (epoch {}, since {})",
                field(answer, "state"),
                field(answer, "epoch"),
                field(answer, "engaged_at")
            ),
        ),
        ("by", field(answer, "by")),
    ];
    if answer["reason"].is_string() {
        lines.push(("reason", field(answer, "reason")));
    }
    lines.push(("in the ledger", persisted.to_owned()));
    lines.push(("entries cancelled", field(answer, "cancelled_orders")));
    if answer["flattened"].is_object() {
        let flattened = &answer["flattened"];
        let text = format!("{} exits sent, {} still open", field(flattened, "exits"), field(flattened, "still_open"));
        lines.push(("positions closed", text));
    }
    output::pairs(&lines)
}

/// Nobody is asked for ids here, and what is not one must not be written: it would halt everything.
fn local_scope(args: &ScopeArgs) -> anyhow::Result<Scope> {
    let Some((kind, name)) = args.named() else { return Ok(Scope::Everything) };
    Scope::parse(kind, name).map_err(|error| anyhow::anyhow!("NOT stopped: {name:?} {error}; --local takes ids"))
}

/// One `name: value` a line, as a running engine writes it, so that a reason cannot pretend to be another line.
fn halt_note(scope: &Scope, now: jiff::Timestamp, by: &str, reason: &str) -> String {
    let line = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let (since, by, reason) = (now.as_microsecond(), line(by), line(reason));
    format!(
        "scope: {scope}\nstate: halted\nsince: {since}\nat: {now}\nby: {by} (nexus stop --local)\nreason: {reason}\n"
    )
}

/// What is stopped already stays so: a file of parts is added to, and one that halts everything says so on.
fn beside_what_is_there(path: &Path, scope: &Scope, note: &str) -> String {
    match fs::read_to_string(path) {
        Ok(there) if there.trim_start().starts_with("scope:") => format!("{}\n{note}", there.trim_end()),
        Ok(there) if *scope != Scope::Everything => there,
        Err(error) if error.kind() != io::ErrorKind::NotFound && *scope != Scope::Everything => String::new(),
        Ok(_) | Err(_) => note.to_owned(),
    }
}

/// Puts `HALT` in place, whole, and on the disk. When even that fails (a full disk), an empty file still stops.
fn write_halt(dir: &Path, scope: &Scope, note: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let path = dir.join(HALT_FILE);
    let note = beside_what_is_there(&path, scope, note);
    let draft = dir.join(format!("{HALT_FILE}.{}.tmp", std::process::id()));
    let placed = write_whole(&draft, &note).and_then(|()| fs::rename(&draft, &path));
    if let Err(error) = placed {
        output::note(&format!("warning: {error}; writing an empty {HALT_FILE}"));
        OpenOptions::new().create(true).append(true).open(&path)?.sync_all()?;
        // The draft is in nobody's way; the stop is in place.
        let _ = fs::remove_file(&draft);
    }
    File::open(dir)?.sync_all()?;
    Ok(path)
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halt_is_written_whole_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("not/yet/there");
        for reason in ["first", "second"] {
            fs::create_dir_all(&data).unwrap();
            fs::write(data.join("HALT"), "of an older kind").unwrap();
            let note = halt_note(&Scope::Everything, jiff::Timestamp::UNIX_EPOCH, "ann", reason);
            let path = write_halt(&data, &Scope::Everything, &note).unwrap();
            assert_eq!(path, data.join("HALT"));
            let text = fs::read_to_string(path).unwrap();
            let head =
                "scope: everything\nstate: halted\nsince: 0\nat: 1970-01-01T00:00:00Z\nby: ann (nexus stop --local)";
            assert_eq!(text, format!("{head}\nreason: {reason}\n"));
        }
        let names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["HALT"]);
    }

    #[test]
    fn an_empty_halt_is_better_than_none() {
        let dir = tempfile::tempdir().unwrap();
        // A folder where the draft would be: the whole way of writing fails.
        fs::create_dir(dir.path().join(format!("HALT.{}.tmp", std::process::id()))).unwrap();
        assert!(write_halt(dir.path(), &Scope::Everything, "text").unwrap().is_file());
    }

    #[test]
    fn a_narrow_stop_loosens_nothing_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let scope = Scope::Symbol("EURUSD".parse().unwrap());
        let write = |there: Option<&str>| {
            let path = dir.path().join("HALT");
            if let Some(there) = there {
                fs::write(&path, there).unwrap();
            }
            write_halt(dir.path(), &scope, "scope: symbol EURUSD\n").unwrap();
            fs::read_to_string(path).unwrap()
        };
        assert_eq!(write(None), "scope: symbol EURUSD\n");
        for halting in ["", "stop it all\n", "state: halted\n"] {
            assert_eq!(write(Some(halting)), halting);
        }
        let both = "scope: user x\nreason: y\nscope: symbol EURUSD\n";
        assert_eq!(write(Some("scope: user x\nreason: y\n\n")), both);
    }

    #[test]
    fn a_reason_stays_on_its_line() {
        let note = halt_note(&Scope::Everything, jiff::Timestamp::UNIX_EPOCH, "b", "x\nby: nobody");
        assert!(note.ends_with("\nby: b (nexus stop --local)\nreason: x by: nobody\n"), "{note}");
    }

    #[test]
    fn a_stop_is_told_in_words() {
        let answer = json!({"state": "halted", "epoch": 2, "engaged_at": "t", "by": "admin", "reason": null,
            "persisted": false, "cancelled_orders": 3});
        let expected = "\
stopped            everything
state              halted (epoch 2, since t)
by                 admin
in the ledger      not yet; the file HALT holds it
entries cancelled  3";
        assert_eq!(stop_in_words(&answer), expected);
    }
}
